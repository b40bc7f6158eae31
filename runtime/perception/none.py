"""No way of looking again: a plain model answers in one turn, about one picture or several."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from vpt_edge.runtime.chat import Message
from vpt_edge.runtime.manifest import read_block
from vpt_edge.runtime.perception.actions import Decision
from vpt_edge.runtime.perception.split import Markup, split
from vpt_edge.runtime.perception.thoughts import Thoughts, prefix_of, tags_of
from vpt_edge.runtime.perception.wording import (
    MODES,
    MOST_PICTURES,
    PADS,
    check_mode,
    check_words,
    render_questions,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vpt_edge.runtime.image import Size
    from vpt_edge.runtime.manifest import Manifest
    from vpt_edge.runtime.perception.actions import Mode, Resampling
    from vpt_edge.runtime.perception.views import View


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
    modes = MODES
    usual_mode: Mode = "free"
    pads: Mapping[str, str] = PADS
    hidden_ids = frozenset[int]()
    token_ids: Mapping[str, int] = MappingProxyType({})
    action = None
    encoder = None
    longest_side = 0
    most_pictures = MOST_PICTURES
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
        return messages + render_questions(history, question, pictures)

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

    def example_look(self, view: View) -> str:
        return ""

    def answer(self, text: str) -> str:
        return split(text, Markup(self.thoughts))[1].strip()

    def thoughts_of(self, text: str) -> str | None:
        return split(text, Markup(self.thoughts))[0]
