"""What a source reads its pictures from."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeAlias

from vpt_edge.runtime.errors import SourceError

if TYPE_CHECKING:
    from vpt_edge.live.frame import Frame, Raster


@dataclass(frozen=True)
class Picture:
    """What was decoded. ``captured``: on the monotonic clock, the moment of its arrival where
    nobody knows better; ``position``: seconds since the first, where the time stamps say it.
    """

    raster: Raster
    captured: float = field(default_factory=time.monotonic)
    position: float | None = None
    truth: Mapping[str, str] = field(default_factory=dict)


Pictures: TypeAlias = "Generator[Picture | Frame, None, None]"


class PermanentError(SourceError):
    """What stays so however often it is tried: a wrong password, a device that is not there."""


class Feed(Protocol):
    """A camera, a stream, a file: where pictures come from, as often as they are asked for."""

    @property
    def name(self) -> str:
        """Its address as it may be shown."""
        ...

    @property
    def undecoded(self) -> int:
        """Pictures that came, and were not decoded as nobody asked for them."""
        ...

    def pictures(self) -> Pictures:
        """Open it at the first ``next`` and close it with the generator, all in one thread.

        Raises SourceError where it cannot be opened or read, never an error that quotes a password.
        """
        ...

    def interrupt(self) -> None:
        """From another thread: let a read that waits end, where that can be."""
        ...
