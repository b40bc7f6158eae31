"""What takes answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from vpt_edge.live.frame import Frame
    from vpt_edge.live.seen import Event

Item: TypeAlias = "Event | Frame"


class Sink(Protocol):
    """A file, a picture, a service: one thread calls it, which it may keep waiting."""

    @property
    def wants(self) -> tuple[type, ...]:
        """The classes of what it takes: ``Seen``, ``Failure``, ``StateChange``, ``Frame``."""
        ...

    @property
    def dropped(self) -> int:
        """How many items it took and lost on their way, such as to a service that is away."""
        ...

    def put(self, item: Item) -> None:
        """Deliver it. Raises SinkError and OSError where that cannot be; the next may go through.

        BrokenPipeError says that nothing ever will.
        """
        ...

    def close(self) -> None:
        """Bring what was delivered to its end."""
        ...
