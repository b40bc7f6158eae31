"""Visual Perception Tokens: from the text of a turn to what is looked at again (PROTOCOL 2, 3)."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from vpt_edge.runtime.chat import Message, check_text, refuse_literals
from vpt_edge.runtime.errors import BundleError
from vpt_edge.runtime.fields import Pixels, TokenId
from vpt_edge.runtime.interface import check_ids, expect
from vpt_edge.runtime.manifest import MANIFEST, read_block
from vpt_edge.runtime.perception.actions import GRID, Crop, Decision, Reencode
from vpt_edge.runtime.perception.vpt_question import (
    SENTENCES,
    add_sentence,
    check_later_question,
    check_words,
    find_placeholders,
    literal_pads,
    number_turns,
    question_text,
    render_history,
)
from vpt_edge.runtime.schema import EXPORT_AGAIN

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vpt_edge.runtime.image import Box, Size
    from vpt_edge.runtime.manifest import Manifest
    from vpt_edge.runtime.perception.actions import Mode, PerceptionAction, Resampling
    from vpt_edge.runtime.perception.views import View

SYSTEM = "You are a helpful assistant."
KINDS = ("clip", "detection", "seg")
ENCODERS = {"clip": None, "detection": "dinov2", "seg": "sam"}
REGION = re.compile(r"<\|region_token_start\|>((?:<\|[xy]_[0-7]\|>)+)<\|region_token_end\|>")
COLUMNS = tuple(f"<|x_{index}|>" for index in range(GRID))
ROWS = tuple(f"<|y_{index}|>" for index in range(GRID))
REGION_TOKENS = ("<|region_token_start|>", "<|region_token_end|>", *COLUMNS, *ROWS)
MIDDLE = "<|region_token_start|><|x_3|><|y_3|><|x_4|><|y_4|><|region_token_end|>"
TRIGGER = re.compile(
    r"<\|(?:region_token_(?:start|end)|[xy]_[0-7]|(?:clip|detection|seg)_action(?:_start|_end)?)\|>"
)


@dataclass(frozen=True)
class VptConfig:
    """The manifest's block ``perception``; ids are found by token string at export.

    ``kind``: clip, detection or seg. ``prompt_triggered``: whether the model waits for the sentence
    in the question before it looks. An alignment checkpoint has no ``triggers``: ids of None.
    ``longest_side``: of a picture for DINOv2 or SAM, after the first shrink.
    """

    kind: str
    prompt_triggered: bool
    reencode_pad: TokenId | None
    action_start: TokenId | None
    action: TokenId | None
    triggers: tuple[TokenId, ...]
    longest_side: Pixels


def block(config: VptConfig) -> dict[str, Any]:
    """``config`` as the manifest has it, in JSON types."""
    return {"name": "vpt", **asdict(config), "triggers": list(config.triggers)}


class Vpt:
    """See ``runtime.perception.Perception``."""

    modes: tuple[Mode, ...] = tuple(SENTENCES)
    most_pictures = 1
    keeps_ids = False  # the authors encode the text of a turn again (PROTOCOL Q4)
    most_looks = 1
    stop: tuple[str, ...] = ()
    turn_prefix = ""
    first_resampling: Resampling = "lanczos"
    thoughts: tuple[str, str] | None = None
    hidden_spans: tuple[tuple[str, str], ...] = ()
    hidden_words: tuple[str, ...] = ()
    sampling: Mapping[str, float] = MappingProxyType({})

    def __init__(self, manifest: Manifest) -> None:
        config: VptConfig = read_block(VptConfig, manifest.perception, "perception")
        if config.kind not in KINDS:
            known = ", ".join(KINDS)
            problem = f"perception: kind is {config.kind!r}, expected one of: {known}"
            raise BundleError(f"{MANIFEST}: {problem}", EXPORT_AGAIN)
        ids = [config.reencode_pad, config.action_start, config.action, *config.triggers]
        check_ids("perception", [number for number in ids if number is not None], manifest)
        self.token_ids = token_ids(config)
        self._config = config
        self._source = manifest.source
        self.can_look = bool(config.triggers)
        self.usual_mode: Mode = "region" if config.prompt_triggered else "free"
        self.pads = pads_of(config.kind)
        self.hidden_ids = frozenset(config.triggers)
        self.action = config.action
        self.encoder = ENCODERS[config.kind]
        self.longest_side = config.longest_side

    def opening(
        self,
        question: str,
        mode: Mode,
        history: Sequence[tuple[str, str]] = (),
        system: str | None = None,
        pictures: int = 1,
    ) -> list[Message]:
        kind = self._config.kind
        if system is None:
            system = SYSTEM
        check_words(system, "system message", kind)
        messages = [Message("system", system), *render_history(history, kind)]
        if history:
            check_later_question(question, "question", kind)
            text = add_sentence(question, mode)
        else:
            text = question_text(question, mode, kind)
        return number_turns([*messages, Message("user", text)])

    def check_prefix(self, prefix: str) -> None:
        check_text(prefix, "assistant_prefix", literal_pads(self._config.kind))
        refuse_literals("assistant_prefix", find_placeholders(prefix))

    def hint(self, mode: Mode) -> str | None:
        if mode != "free" or not self._config.prompt_triggered:
            return None
        return (
            f"{self._source} was trained to look again when the question asks for it; "
            'perception="region" or "reencode" appends the sentence that it knows'
        )

    def forced(self, previous: int) -> int | None:
        """The action behind its start token (PROTOCOL 5.4)."""
        if previous != self._config.action_start:
            return None
        return self._config.action

    def first_size(self, size: Size) -> Size | None:
        return None

    def read(self, text: str, views: Sequence[View], left: int) -> Decision:
        decision = decide(text, views[0].size, self._config.kind)
        regions = any(isinstance(action, Crop) for action in decision.actions)
        if regions and stands_for_pictures(text, self._config.kind):
            return Decision((), "malformed_region")  # the text is prompted again as it is
        return decision

    def follow_up(
        self, text: str, decision: Decision, views: Sequence[View], left: int
    ) -> list[Message]:
        """A re-encode's turn becomes the canonical one, a region's stays as it is (PROTOCOL 3)."""
        first = decision.actions[0]
        if isinstance(first, Reencode):
            action = "".join(action_tokens(first.kind))
            return [Message("assistant", action), Message("user", f"<{first.kind}_image>")]
        if len(decision.actions) == 1:
            return [Message("assistant", text), Message("user", "<image>")]
        lines = [f"Region {index}: <image>\n" for index in range(len(decision.actions))]
        return [Message("assistant", text), Message("user", "".join(lines))]

    def example_look(self, view: View) -> str:
        return MIDDLE if self.can_look else ""

    def answer(self, text: str) -> str:
        return without_triggers(text)

    def thoughts_of(self, text: str) -> str | None:
        return None


def token_ids(config: VptConfig) -> dict[str, int]:
    """The ids of ``config`` by their words; of an alignment checkpoint the pad's alone.

    Raises BundleError where some triggers are given and others are not, or one has two ids.
    """
    ids = dict[str, int]()
    if config.triggers:
        words = trigger_tokens(config.kind)
        count = len(config.triggers)
        expect(count == len(words), f"perception: {count} triggers, expected {len(words)} or none")
        ids = dict(zip(words, config.triggers, strict=True))
    start, action, _ = action_tokens(config.kind)
    for word, number in ((start, config.action_start), (action, config.action)):
        found = f"perception: {word} has the id {number}"
        expect(number == ids.get(word), f"{found}, expected {ids.get(word)} as in triggers")
    if config.triggers:
        expect(config.reencode_pad is not None, "perception: reencode_pad is missing")
    if config.reencode_pad is not None:
        ids[pads_of(config.kind)[f"{config.kind}_image"]] = config.reencode_pad
    return ids


def pads_of(kind: str) -> dict[str, str]:
    """Placeholder -> pad token, of the pictures that a checkpoint of ``kind`` takes."""
    return {"image": "<|image_pad|>", f"{kind}_image": f"<|{kind}_image_pad|>"}


def action_tokens(kind: str) -> tuple[str, str, str]:
    """The tokens of a re-encode: start, action, end."""
    return f"<|{kind}_action_start|>", f"<|{kind}_action|>", f"<|{kind}_action_end|>"


def trigger_tokens(kind: str) -> tuple[str, ...]:
    """Every token by which a checkpoint of ``kind`` asks for a look."""
    return (*REGION_TOKENS, *action_tokens(kind))


def stands_for_pictures(text: str, kind: str) -> bool:
    """Whether ``text`` spells what would stand for a picture when it is prompted again."""
    return bool(find_placeholders(text)) or any(pad in text for pad in literal_pads(kind))


def decide(text: str, size: tuple[int, int], kind: str) -> Decision:
    """Read the triggers in ``text`` for a picture of ``size`` and a checkpoint of ``kind``.

    Where the authors' code crashes or gives up, the reason is "mixed_triggers", "malformed_region"
    (a region without any x or any y) or "foreign_trigger" (an encoder that the checkpoint lacks).
    """
    regions = REGION.findall(text)
    encoders = [name for name in KINDS if action_tokens(name)[0] in text]
    if len(encoders) > 1 or (encoders and regions):
        return Decision((), "mixed_triggers")
    if encoders == [kind]:
        return Decision((Reencode(kind),))
    if encoders:
        return Decision((), "foreign_trigger")
    crops: list[PerceptionAction] = []
    for region in regions:
        cells = read_cells(region)
        if cells is None:
            return Decision((), "malformed_region")
        crops.append(Crop(cells, crop_box(cells, size)))
    return Decision(tuple(crops))


def read_cells(region: str) -> Box | None:
    """(x0, y0, x1, y1), inclusive, of the cells in ``region``; None without any x or any y."""
    columns = [int(digit) for digit in re.findall(r"x_(\d)", region)]
    rows = [int(digit) for digit in re.findall(r"y_(\d)", region)]
    if not columns or not rows:
        return None
    return min(columns), min(rows), max(columns), max(rows)


def crop_box(cells: Box, size: tuple[int, int]) -> Box:
    """(left, top, right, bottom) in pixels of ``cells`` and a margin of one cell around them.

    ``size``: width and height of the picture.
    """
    x0, y0, x1, y1 = cells
    width, height = size
    left = int(max(x0 - 1, 0) * width / GRID)
    top = int(max(y0 - 1, 0) * height / GRID)
    right = int((min(x1 + 1, GRID - 1) + 1) * width / GRID)
    bottom = int((min(y1 + 1, GRID - 1) + 1) * height / GRID)
    return left, top, right, bottom


def without_triggers(text: str) -> str:
    """``text`` as a person wants to read it."""
    return TRIGGER.sub("", text).strip()
