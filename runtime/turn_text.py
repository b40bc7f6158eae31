"""The text of a turn while it is generated: what is told of it, and where it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vpt_edge.runtime.perception.split import Markup, TextSplitter
from vpt_edge.runtime.result import Text, Thought
from vpt_edge.runtime.stop import StopText

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from vpt_edge.runtime.chat import TextStream
    from vpt_edge.runtime.perception import Perception
    from vpt_edge.runtime.perception.split import Part
    from vpt_edge.runtime.result import Event


class TurnText:
    """Turns ids into events.

    The way's own stop texts are looked for in all that is said, and stay in it; ``stops``, the
    question's, in what is shown.
    """

    def __init__(self, pieces: TextStream, perception: Perception, stops: Sequence[str]) -> None:
        self.stop = StopText(stops)
        self._end = StopText(perception.stop)
        markup = Markup(perception.thoughts, perception.hidden_spans, perception.hidden_words)
        self._splitter = TextSplitter(markup)
        self._pieces = pieces

    @property
    def is_over(self) -> bool:
        """Whether a stop text has come."""
        return self.stop.sequence is not None or self._end.sequence is not None

    @property
    def shown(self) -> str | None:
        """What was shown in front of the question's stop text; None where none has come."""
        return None if self.stop.sequence is None else self.stop.shown

    def take(self, token: int) -> list[Event]:
        """One event at least, behind which the request may be ended."""
        piece = self._pieces.step(token)
        self._end.take(piece)
        return self._events(self._splitter.take(piece)) or [Text("")]

    def finish(self) -> list[Event]:
        """What was held back."""
        events = self._events(self._splitter.finish())
        return [*events, Text(self.stop.finish())]

    def _events(self, parts: Iterable[Part]) -> list[Event]:
        events: list[Event] = []
        for part in parts:
            if part.is_thought:
                events.append(Thought(part.text))
            else:
                events.append(Text(self.stop.take(part.text)))
        return events
