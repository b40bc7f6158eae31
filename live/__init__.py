"""Cameras, streams and clips in, answers out.

It needs the extra: pip install 'vpt-edge[live]'.
"""

from vpt_edge.live.frame import Frame
from vpt_edge.live.recent import Span
from vpt_edge.live.seen import Failure, Seen, StateChange
from vpt_edge.live.source import Source
from vpt_edge.live.sources import open_source as open  # noqa: A004 - live.open
from vpt_edge.live.watch import Watch, awatch, watch

__all__ = [
    "Failure",
    "Frame",
    "Seen",
    "Source",
    "Span",
    "StateChange",
    "Watch",
    "awatch",
    "open",
    "watch",
]
