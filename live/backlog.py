"""What a live video has shown since its last key frame."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from vpt_edge.live.decoder import Shot, shot_of
from vpt_edge.live.group import Group

if TYPE_CHECKING:
    from collections.abc import Iterator

    from av.packet import Packet
    from av.video.stream import VideoStream

    from vpt_edge.live.decoder import Decoding


class Backlog:
    """Pictures that wait to be decoded until somebody looks at them.

    ``undecoded``: how many never were. Where key frames are so rare that a look would take long,
    the pictures far behind one are decoded as they come.
    """

    def __init__(self) -> None:
        self.undecoded = 0
        self._lock = threading.Lock()

    def count(self, change: int) -> None:
        with self._lock:
            self.undecoded += change

    def shots(self, decoding: Decoding) -> Iterator[Shot | None]:
        """The pictures of an open video, and None for what comes without one."""
        group: Group | None = None
        for packet in decoding.packets():
            if packet is not None and packet.is_keyframe:
                group = Group(decoding.codec, self.count)
            if packet is None or group is None or packet.size == 0:
                yield None
            elif group.is_full:
                frames = group.decode_behind(decoding.decoder, packet)
                yield from map(shot_of, frames)
                if not frames:
                    yield None
            else:
                yield Shot(group.add(packet), _time(packet))


def _time(packet: Packet[VideoStream]) -> float | None:
    if packet.pts is None:
        return None
    return float(packet.pts * packet.time_base)
