"""What gives frames."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

from vpt_edge.runtime.errors import SourceError

if TYPE_CHECKING:
    from typing_extensions import Self

    from vpt_edge.live.frame import Frame

TICK = 0.2  # seconds after which a signal is heeded at the latest

State: TypeAlias = Literal["connecting", "live", "stalled", "lost", "ended"]


@dataclass
class Counts:
    """``frames`` that came, ``dropped`` because a newer one came before they were taken,
    ``opens`` that succeeded, ``losses`` of an open source. ``undecoded``, with ``eco``: pictures
    that were never decoded, of a live source among its frames, of a clip beside them.
    """

    frames: int = 0
    dropped: int = 0
    opens: int = 0
    losses: int = 0
    undecoded: int = 0


class Source(Protocol):
    """A camera, a stream, a file: frames, until it ends or is closed.

    ``name``: its address as it may be shown, without a password. ``live``: only its newest frame is
    kept, and its end is a loss that it tries to mend; otherwise every frame is given.
    """

    @property
    def name(self) -> str: ...

    @property
    def live(self) -> bool: ...

    @property
    def state(self) -> State: ...

    @property
    def problem(self) -> SourceError | None:
        """Why it is not "live", where that is known; not raised as long as it is tried again."""
        ...

    @property
    def counts(self) -> Counts: ...

    def poll(self) -> Frame | None:
        """The next frame, or None where there is none yet, or none any more: state "ended".

        Raises SourceError for what cannot be mended by trying again.
        """
        ...

    def listen(self, notify: Callable[[], None]) -> None:
        """Call ``notify``, from any thread, when a frame may have come or the state changed."""
        ...

    def close(self) -> None:
        """End it, from any thread; within a second."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...


def check_source(source: object) -> None:
    """Raises SourceError for what is none."""
    if not hasattr(source, "poll"):
        name = type(source).__name__
        raise SourceError(f"a {name} is not a source", "open it first: live.open(…)")


def check_live(source: Source) -> None:
    """Raises SourceError for one that has no newest frame."""
    if not source.live:
        problem = f"{source.name} is not live: its frames wait, and none is the newest"
        raise SourceError(problem, "give a camera or a stream where it is asked on request")


def each_frame(source: Source) -> Iterator[Frame]:
    """The frames of ``source``, waiting for each, until it ends or is closed."""
    changed = threading.Event()
    source.listen(changed.set)
    while True:
        changed.clear()
        frame = source.poll()
        if frame is not None:
            yield frame
        elif source.state == "ended":
            return
        else:
            changed.wait(TICK)
