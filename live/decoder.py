"""Video as PyAV decodes it, its errors made ours.

PyAV's own errors hold the address with its password, in their text and in a field: they go no
further than this file, not even as the cause or the context of ours.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from vpt_edge.live.feed import PermanentError
from vpt_edge.live.flip import FlippedRaster
from vpt_edge.runtime.errors import SourceError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream
    from numpy.typing import NDArray

    from vpt_edge.live.frame import Raster

Result = TypeVar("Result")
Explain = Callable[[Exception], SourceError]

LARGEST = 64_000_000  # pixels of a picture that is decoded at all; 8K has 33 million
TRIES = 2  # that FFmpeg makes of a read before its time is over
BORROWED = {"v4l2"}  # containers whose packets lie in memory that goes when they are closed


@dataclass
class Decoding:
    """One video that is open. ``is_borrowed``: its packets lie in the container's own memory, and
    frames of raw video in their packets'. ``damaged`` counts its packets that gave no picture;
    ``reached``: seconds up to which packets came, of all its streams.
    """

    container: InputContainer
    stream: VideoStream
    explain: Explain
    is_borrowed: bool = False
    damaged: int = field(default=0, init=False)
    reached: float = field(default=0.0, init=False)

    def frames(self) -> Iterator[VideoFrame | None]:
        """Its pictures, and None for what came without one: another stream's, or damaged."""
        packets = self.container.demux()
        while (packet := attempt(partial(next, packets, None), self.explain)) is not None:
            pictures: list[VideoFrame] = []
            if packet.pts is not None:
                self.reached = max(self.reached, float(packet.pts * packet.time_base))
            # Not its stream_index: in the empty packets at the end that is always 0.
            if packet.stream.index == self.stream.index:
                pictures = self._decode(packet)
            yield from pictures
            if not pictures:
                yield None

    def _decode(self, packet: Packet[VideoStream]) -> list[VideoFrame]:
        av = load_av()
        if self.is_borrowed and packet.size:
            packet = _copy(packet)
        try:
            return self.stream.decode(packet)
        except av.InvalidDataError:
            self.damaged += 1
            return []
        except av.FFmpegError as error:
            problem = self.explain(error)
        raise problem


class VideoRaster:
    """A picture as its decoder left it, most often in YUV; it is converted when it is asked for.

    Raises SourceError where it cannot be.
    """

    def __init__(self, frame: VideoFrame) -> None:
        self._frame = frame
        self._lock = threading.Lock()  # a frame keeps its converter, which serves one at a time

    def to_rgb(self) -> NDArray[np.uint8]:
        return self._convert("rgb24")

    def to_luma(self, width: int, height: int) -> NDArray[np.uint8]:
        return self._convert("gray", width=width, height=height, interpolation="AREA")

    def _convert(self, pixel_format: str, **how: Any) -> NDArray[np.uint8]:
        call = partial(self._frame.to_ndarray, format=pixel_format, **how)
        with self._lock:
            return np.asarray(attempt(call, self._explain), np.uint8)

    def _explain(self, error: Exception) -> SourceError:
        name = self._frame.format.name
        return SourceError(f"a picture of format {name} cannot be converted: {reason_of(error)}")


def raster_of(frame: VideoFrame) -> Raster:
    """The picture upright: phones store it as the sensor lay, and say how to turn it."""
    turns = round(frame.rotation / 90) % 4
    if turns == 0:
        return VideoRaster(frame)
    return FlippedRaster(VideoRaster(frame), turns)


def open_video(
    url: str,
    explain: Explain,
    *,
    options: Mapping[str, str] | None = None,
    container_format: str | None = None,
    timeout: tuple[float, float] | None = None,
) -> Decoding:
    """The first video of ``url``; whoever opens it closes its container, in the same thread.

    ``timeout``: seconds to open it, and of each of the two tries of a read. ``explain`` makes an
    error of ours of one of PyAV's. Raises what it gives, and PermanentError without a video.
    """
    av = load_av()
    call = partial(
        av.open, url, format=container_format, options=dict(options or {}), timeout=timeout
    )
    container = attempt(call, explain)
    problem = _check_streams(container)
    if problem:
        container.close()
        reason = explain(ValueError(problem))
        raise PermanentError(reason.problem, reason.fix)
    stream = container.streams.video[0]
    stream.thread_type = "SLICE"  # by frames, each thread would make it a frame late
    stream.codec_context.options = {"max_pixels": str(LARGEST)}
    return Decoding(container, stream, explain, container_format in BORROWED)


def _copy(packet: Packet[VideoStream]) -> Packet[VideoStream]:
    copy: Packet[VideoStream] = load_av().Packet(bytes(packet))
    copy.pts = packet.pts
    copy.dts = packet.dts
    copy.time_base = packet.time_base
    return copy


def _check_streams(container: InputContainer) -> str:
    """Why none of its streams can be decoded; nothing where one can."""
    if not container.streams.video:
        return "there is no video in it"
    stream = container.streams.video[0]
    if stream.codec_context is None:
        return "FFmpeg does not know its codec"
    if stream.width * stream.height > LARGEST:
        return f"{stream.width}x{stream.height} pixels are more than {LARGEST}"
    return ""


def attempt(call: Callable[[], Result], explain: Explain) -> Result:
    """``call()``. What it raises is explained, and forgotten: nothing leads from ours to it."""
    av = load_av()
    try:
        return call()
    except (av.FFmpegError, OSError, ValueError) as error:
        problem = explain(error)
    raise problem


def reason_of(error: Exception) -> str:
    """What FFmpeg said, without the address."""
    return getattr(error, "strerror", None) or str(error.args[0] if error.args else error)


def load_av() -> Any:
    try:
        import av
    except ImportError:
        fix = "pip install 'vpt-edge[live]'"
        raise PermanentError("this source needs PyAV, which is not installed", fix) from None
    return av
