"""Packets of a video from a key frame on, decoded as far as somebody looks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from vpt_edge.live.decoder import raster_of, reason_of
from vpt_edge.runtime.errors import SourceError

if TYPE_CHECKING:
    import numpy as np
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream
    from numpy.typing import NDArray

    from vpt_edge.live.decoder import Codec, Decoder
    from vpt_edge.live.frame import Raster

MOST = 120  # packets, and so pictures that one look may have to decode
LARGEST = 32 << 20  # bytes of them


class Group:
    """A key frame and what builds on it, as far as there is room.

    ``count`` is told how many pictures more are undecoded: 1, or less than 0 for those of a look.
    """

    def __init__(self, codec: Codec, count: Callable[[int], object]) -> None:
        self._codec = codec
        self._count = count
        self._packets: list[Packet[VideoStream]] = []
        self._size = 0
        self._follower: Decoder | None = None  # which has decoded these
        self._lock = threading.Lock()  # of what follows
        self._decoded = 0  # packets that went into some decoder
        self._decoder: Decoder | None = None
        self._position = 0  # packets that went into this one
        self._newest: VideoFrame | None = None  # and came out of it

    @property
    def is_full(self) -> bool:
        return len(self._packets) >= MOST or self._size >= LARGEST

    def add(self, packet: Packet[VideoStream]) -> Raster:
        """The picture that ``packet`` completes."""
        self._packets.append(packet)
        self._size += packet.size
        self._count(1)
        return GroupRaster(self, len(self._packets))

    def decode(self, length: int) -> VideoFrame:
        """The newest picture of the first ``length`` packets. Raises SourceError without one."""
        with self._lock:
            self._note(length)
            if self._decoder is None or length < self._position:
                self._decoder = self._codec.open(_explain)
                self._position = 0
                self._newest = None
            frame = self._follow(self._decoder, length)
        if frame is None:
            raise SourceError("a picture cannot be decoded, nor one before it")
        return frame

    def decode_behind(self, decoder: Decoder, packet: Packet[VideoStream]) -> list[VideoFrame]:
        """What ``decoder`` makes of a ``packet`` for which there is no room; it needs each."""
        if self._follower is not decoder:
            self._follower = decoder
            for earlier in self._packets:
                decoder.decode(earlier)
            with self._lock:
                self._note(len(self._packets))
        return decoder.decode(packet)

    def _note(self, length: int) -> None:
        if length > self._decoded:
            self._count(self._decoded - length)
            self._decoded = length

    def _follow(self, decoder: Decoder, length: int) -> VideoFrame | None:
        packets = self._packets[self._position : length]
        self._position = length
        for packet in packets:
            for frame in decoder.decode(packet):
                self._newest = frame
        if self._newest is not None:
            return self._newest
        self._decoder = None  # behind its last pictures it takes no packet
        left = decoder.decode(None)
        if left:
            return left[0]  # the next that it would have given
        return None


class GroupRaster:
    """A picture that is decoded when somebody looks at it: the last of so many packets.

    Raises SourceError where it cannot be.
    """

    def __init__(self, group: Group, length: int) -> None:
        self._group: Group | None = group
        self._length = length
        self._lock = threading.Lock()
        self._decoded: Raster | None = None

    def to_rgb(self) -> NDArray[np.uint8]:
        return self._decode().to_rgb()

    def to_luma(self, width: int, height: int) -> NDArray[np.uint8]:
        return self._decode().to_luma(width, height)

    def _decode(self) -> Raster:
        with self._lock:
            if self._group is not None:
                self._decoded = raster_of(self._group.decode(self._length))
                self._group = None  # its packets and its decoder may go
            assert self._decoded is not None
            return self._decoded


def _explain(error: Exception) -> SourceError:
    return SourceError(f"a picture cannot be decoded: {reason_of(error)}")
