"""How often a request may still look again, told by its events."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vpt_edge.runtime.options import Options
from vpt_edge.runtime.result import Looked, Refused

if TYPE_CHECKING:
    from vpt_edge.runtime.options import AskOptions
    from vpt_edge.runtime.perception import Perception
    from vpt_edge.server.plain_answer import PlainEvent


class LookRounds:
    """Tells text of the answer from text of a turn that may still ask for a look.

    What a client has been sent it cannot be told to forget. Only behind the last look that the
    options allow is text the answer's for certain, while it comes.
    """

    def __init__(self, options: AskOptions, perception: Perception) -> None:
        self._rounds_left = Options(**options).rounds(perception.most_looks)
        self._in_round = False

    @property
    def may_look(self) -> bool:
        """Whether text that comes now may be followed by a look."""
        return self._rounds_left > 0

    def take(self, event: PlainEvent) -> None:
        """Follow the events: looks with nothing in between are one round, and so is a refusal."""
        is_look = isinstance(event, Looked | Refused)
        if is_look and not self._in_round:
            self._rounds_left -= 1
        self._in_round = is_look
