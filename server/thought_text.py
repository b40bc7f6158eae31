"""What the model thinks, while it comes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vpt_edge.runtime.result import Looked, Refused, Thought

if TYPE_CHECKING:
    from vpt_edge.server.plain_answer import PlainEvent


class ThoughtText:
    """Gives the thoughts of all turns in pieces, which together are ``Answer.thoughts``."""

    def __init__(self) -> None:
        self._has_begun = False
        self._is_apart = False  # in another turn than the thoughts before

    def take(self, event: PlainEvent) -> str:
        """The piece that ``event`` brings; an empty one where it brings none."""
        if isinstance(event, Looked | Refused):
            self._is_apart = self._has_begun
        if not isinstance(event, Thought) or not event.piece:
            return ""
        piece = event.piece
        if self._is_apart:
            piece = f"\n\n{piece}"
        self._has_begun = True
        self._is_apart = False
        return piece
