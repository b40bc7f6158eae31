"""No way of looking again: a plain model answers in one turn, about one picture or several."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from vpt_edge.runtime.chat import PLACEHOLDER, Message, check_text, refuse_literals
from vpt_edge.runtime.errors import PromptError
from vpt_edge.runtime.manifest import read_block
from vpt_edge.runtime.perception.actions import Decision
from vpt_edge.runtime.perception.thoughts import Thoughts, prefix_of, split, tags_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vpt_edge.runtime.image import Size
    from vpt_edge.runtime.manifest import Manifest
    from vpt_edge.runtime.perception.actions import Mode, Resampling
    from vpt_edge.runtime.perception.views import View

PAD = "<|image_pad|>"
RESERVED = (PAD, "<|video_pad|>")  # what stands for visual tokens when it is encoded
MODES = ("free", "off")


@dataclass(frozen=True)
class NoneConfig:
    """The manifest's block ``perception``.

    ``system``: the message with which the family's template begins where nothing is said; None
    where it has none. ``thoughts``: how a thinking model marks them; None for another one.
    """

    system: str | None
    thoughts: Thoughts | None


def block(config: NoneConfig) -> dict[str, Any]:
    """``config`` as the manifest has it, in JSON types."""
    return {"name": "none", **asdict(config)}


class NoLook:
    """See ``runtime.perception.Perception``."""

    can_look = False
    usual_mode: Mode = "free"
    pads: Mapping[str, str] = MappingProxyType({"image": PAD})
    hidden_ids = frozenset[int]()
    token_ids: Mapping[str, int] = MappingProxyType({})
    action = None
    encoder = None
    longest_side = 0
    keeps_ids = True
    most_looks = 0
    first_resampling: Resampling = "bicubic"
    stop: tuple[str, ...] = ()
    hidden_spans: tuple[tuple[str, str], ...] = ()
    hidden_words: tuple[str, ...] = ()
    sampling: Mapping[str, float] = MappingProxyType({})

    def __init__(self, manifest: Manifest) -> None:
        config: NoneConfig = read_block(NoneConfig, manifest.perception, "perception")
        self._system = config.system
        self._thoughts = config.thoughts
        self.turn_prefix = prefix_of(config.thoughts)
        self.thoughts = tags_of(config.thoughts)

    def opening(
        self,
        question: str,
        mode: Mode,
        history: Sequence[tuple[str, str]] = (),
        system: str | None = None,
        pictures: int = 1,
    ) -> list[Message]:
        check_mode(mode)
        if system is None:
            system = self._system
        messages = list[Message]()
        if system is not None:
            check_words(system, "system message")
            messages.append(Message("system", system))
        for number, (asked, answer) in enumerate(history, 1):
            name = f"question {number} of the history"
            if number == 1:
                asked = add_pictures(asked, name, pictures)
            else:
                check_words(asked, name)
            check_words(answer, f"answer {number} of the history")
            messages += [Message("user", asked), Message("assistant", answer)]
        if history:
            check_words(question, "question")
        else:
            question = add_pictures(question, "question", pictures)
        return [*messages, Message("user", question)]

    def check_prefix(self, prefix: str) -> None:
        check_words(prefix, "assistant_prefix")

    def hint(self, mode: Mode) -> str | None:
        return None

    def forced(self, previous: int) -> int | None:
        return None

    def first_size(self, size: Size) -> Size | None:
        return None

    def read(self, text: str, views: Sequence[View], left: int) -> Decision:
        return Decision(())

    def follow_up(
        self, text: str, decision: Decision, views: Sequence[View], left: int
    ) -> list[Message]:
        raise AssertionError("a decision without a look has no follow-up")

    def answer(self, text: str) -> str:
        return split(text, self._thoughts)[1].strip()

    def thoughts_of(self, text: str) -> str | None:
        return split(text, self._thoughts)[0]


def check_mode(mode: str) -> None:
    """Raise PromptError for a mode that is VPT's alone."""
    if mode not in MODES:
        known = ", ".join(MODES)
        raise PromptError(f"perception {mode!r} is unknown, expected one of: {known}")


def find_placeholders(text: str) -> list[str]:
    """The placeholders of pictures in ``text``, in order."""
    return [f"<{name}>" for name in PLACEHOLDER.findall(text)]


def check_words(text: str, name: str) -> None:
    """Raise PromptError for a ``text`` that stands for a picture anywhere; errors call it
    ``name``.
    """
    check_text(text, name, RESERVED)
    refuse_literals(name, find_placeholders(text))


def add_pictures(question: str, name: str, count: int) -> str:
    """``question`` with ``count`` pictures in front of it, as the families' templates have them.

    One that places every ``<image>`` itself keeps them there. Raises PromptError for another
    number of them, other placeholders and literal pads.
    """
    check_text(question, name, RESERVED)
    places = find_placeholders(question)
    if not places:
        return "<image>" * count + question
    if places != ["<image>"] * count:
        listed = ", ".join(places)
        problem = f"the {name} holds {listed}: each stands for a picture, and the pictures are"
        raise PromptError(f"{problem} {count}", "place each <image> once, or none")
    return question
