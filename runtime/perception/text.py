"""A perception that speaks in text: calls are found, looks handed back by a description's rules."""

from __future__ import annotations

from dataclasses import asdict
from types import MappingProxyType
from typing import TYPE_CHECKING, cast

from vpt_edge.runtime.chat import Message
from vpt_edge.runtime.manifest import MANIFEST, read_block
from vpt_edge.runtime.perception.actions import Decision, Whole
from vpt_edge.runtime.perception.boxes import first_size
from vpt_edge.runtime.perception.calls import CallError, find_calls
from vpt_edge.runtime.perception.consistency import check_rules
from vpt_edge.runtime.perception.example import write_call
from vpt_edge.runtime.perception.hand_back import refuse, render_hand_back
from vpt_edge.runtime.perception.looks import read_call
from vpt_edge.runtime.perception.rules import RulesConfig
from vpt_edge.runtime.perception.split import Markup, split, without_thoughts
from vpt_edge.runtime.perception.thoughts import prefix_of, tags_of
from vpt_edge.runtime.perception.wording import (
    MODES,
    MOST_PICTURES,
    PADS,
    check_mode,
    check_words,
    fill,
    render_questions,
    render_tools,
    stands_for_pictures,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vpt_edge.runtime.image import Size
    from vpt_edge.runtime.manifest import Manifest
    from vpt_edge.runtime.perception.actions import Mode, PerceptionAction, Resampling
    from vpt_edge.runtime.perception.hand_back import Outcome
    from vpt_edge.runtime.perception.rules import Rules
    from vpt_edge.runtime.perception.views import View


class TextPerception:
    """See ``runtime.perception.Perception``."""

    can_look = True
    modes = MODES
    usual_mode: Mode = "free"
    pads: Mapping[str, str] = PADS
    hidden_ids = frozenset[int]()
    token_ids: Mapping[str, int] = MappingProxyType({})
    action = None
    encoder = None
    longest_side = 0
    most_pictures = MOST_PICTURES

    def __init__(self, manifest: Manifest) -> None:
        config: RulesConfig = read_block(RulesConfig, manifest.perception, "perception")
        rules = config.rules
        check_rules(rules, f"{MANIFEST}: perception: rules")
        self._rules = rules
        self.keeps_ids = rules.turn.ids == "generated"
        self.most_looks = rules.rounds
        self.stop = rules.turn.stop
        self.thoughts = tags_of(rules.turn.thoughts)
        self.turn_prefix = prefix_of(rules.turn.thoughts)
        self.hidden_spans = spans_of(rules)
        self.hidden_words = rules.turn.answer or ()
        self._markup = Markup(self.thoughts, self.hidden_spans, self.hidden_words)
        self.sampling = sampling_of(rules)
        self.first_resampling: Resampling = "bicubic"
        if rules.first_view is not None:
            self.first_resampling = cast("Resampling", rules.first_view.resampling)

    def first_size(self, size: Size) -> Size | None:
        if self._rules.first_view is None:
            return None
        return first_size(size, self._rules.first_view)

    def opening(
        self,
        question: str,
        mode: Mode,
        history: Sequence[tuple[str, str]] = (),
        system: str | None = None,
        pictures: int = 1,
    ) -> list[Message]:
        """In mode "off" the model is not told that it could look."""
        check_mode(mode)
        if system is not None:
            check_words(system, "system message")
        opening = self._rules.opening
        if mode == "off":
            told = system if system is not None else opening.plain
            messages = render_questions(history, question, pictures)
        else:
            told = self._tell(system)
            messages = render_questions(history, question, pictures, opening.user)
        if told is not None:
            messages.insert(0, Message("system", told))
        return messages

    def _tell(self, system: str | None) -> str | None:
        """The system message that tells how to look, and what the application says: ``system``.

        That stands in front where the text has no field for it.
        """
        text = self._rules.opening.system
        introduction = self._rules.opening.plain
        if system is not None:
            introduction = system
            if text is not None and "{system}" not in text:
                text = f"{{system}}{text}"
        if text is None:
            return introduction
        if introduction is not None:
            introduction = f"{introduction}\n\n"
        tools = render_tools(self._rules.tools)
        return fill(text, {"system": introduction or "", "tools": tools})

    def check_prefix(self, prefix: str) -> None:
        check_words(prefix, "assistant_prefix")

    def hint(self, mode: Mode) -> str | None:
        return None

    def forced(self, previous: int) -> int | None:
        return None

    def read(self, text: str, views: Sequence[View], left: int) -> Decision:
        outcomes = self._read_calls(text, views)
        if not outcomes:
            return Decision(())
        if stands_for_pictures(text) and not self.keeps_ids:
            return Decision((), "malformed_region")  # the text is prompted again as it is
        actions: list[PerceptionAction] = []
        for outcome in outcomes:
            if not isinstance(outcome, str):
                actions += outcome
        reply = None
        if any(isinstance(outcome, str) for outcome in outcomes):
            reply = render_hand_back(outcomes, self._rules.hand_back, views, left)
        return Decision(tuple(actions), reply=reply)

    def follow_up(
        self, text: str, decision: Decision, views: Sequence[View], left: int
    ) -> list[Message]:
        end = ""
        if self._rules.turn.newline:
            end = "\n"
        outcomes = self._read_calls(text, views)
        words = render_hand_back(outcomes, self._rules.hand_back, views, left)
        return [Message("assistant", text, end=end), Message("user", words)]

    def example_look(self, view: View) -> str:
        return write_call(self._rules, view)

    def answer(self, text: str) -> str:
        return split(text, self._markup)[1].strip()

    def thoughts_of(self, text: str) -> str | None:
        return split(text, self._markup)[0]

    def _read_calls(self, text: str, views: Sequence[View]) -> list[Outcome]:
        """What each call in ``text`` gets; calls within thoughts are none."""
        rules = self._rules
        said = without_thoughts(text, self._markup)
        outcomes: list[Outcome] = []
        for content in find_calls(said, rules.call, rules.turn.stop):
            try:
                outcomes.append(read_call(content, rules, views))
            except CallError as error:
                outcomes.append(self._refuse(error, views))
        return outcomes

    def _refuse(self, error: CallError, views: Sequence[View]) -> Outcome:
        if self._rules.hand_back.bad_call == "whole":
            return (Whole(0),)
        return refuse(error, self._rules, views)


def spans_of(rules: Rules) -> tuple[tuple[str, str], ...]:
    """The tags of what an answer leaves out: calls."""
    if not rules.call.opening:
        return ()
    return ((rules.call.opening, rules.call.closing),)


def sampling_of(rules: Rules) -> Mapping[str, float]:
    """What the makers recommend, as options of a question."""
    if rules.sampling is None:
        return MappingProxyType({})
    values = asdict(rules.sampling).items()
    return MappingProxyType({name: value for name, value in values if value is not None})
