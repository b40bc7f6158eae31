"""The answer's text, while it comes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vpt_edge.runtime.result import Looked, Refused, Text
from vpt_edge.server.look_rounds import LookRounds
from vpt_edge.server.plain_answer import PlainAnswer

if TYPE_CHECKING:
    from vpt_edge.runtime.options import AskOptions
    from vpt_edge.runtime.perception import Perception
    from vpt_edge.server.plain_answer import PlainEvent

LONGEST_TRIGGER = 32  # characters; each begins with the only < in it


class AnswerText:
    """Gives each piece of the answer once it is certain: what is sent cannot be taken back.

    Text of a turn that may still look again waits for the end; behind that, what may be the
    beginning of a trigger, and white space that may be the last, wait for more. So the pieces
    together are the answer without triggers and without space around it, as if it came at once.
    """

    def __init__(self, options: AskOptions, perception: Perception) -> None:
        self._rounds = LookRounds(options, perception)
        self._perception = perception
        self._turn = ""
        self._sent = ""

    def take(self, event: PlainEvent) -> str:
        """What is certain with ``event`` and was not before."""
        self._rounds.take(event)
        if isinstance(event, PlainAnswer):
            return self._send(event.text)
        if isinstance(event, Looked | Refused):
            self._turn = ""
        if isinstance(event, Text):
            self._turn += event.piece
        if self._rounds.may_look:
            return ""
        return self._send(self._perception.answer(self._certain()))

    def _certain(self) -> str:
        """The turn's text but for what may be the beginning of a trigger."""
        start = self._turn.rfind("<", -LONGEST_TRIGGER)
        if start < 0:
            return self._turn
        return self._turn[:start]

    def _send(self, text: str) -> str:
        """What ``text``, the answer so far, has more than was sent."""
        if not text.startswith(self._sent):
            return ""
        piece = text[len(self._sent) :]
        self._sent = text
        return piece
