"""Video as PyAV decodes it, its errors made ours.

PyAV's own errors hold the address with its password, in their text and in a field: they go no
further than this file, not even as the cause or the context of ours.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from vpt_edge.live.feed import PermanentError
from vpt_edge.live.flip import FlippedRaster
from vpt_edge.runtime.errors import SourceError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.codeccontext import VideoCodecContext
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
class Decoder:
    """Makes pictures of the packets of one video; ``damaged`` counts those that gave none."""

    context: VideoCodecContext
    explain: Explain
    damaged: int = field(default=0, init=False)

    def decode(self, packet: Packet[VideoStream] | None) -> list[VideoFrame]:
        """Those that are complete with ``packet``, or all that are left, with None, for the last
        time.
        """
        av = load_av()
        try:
            return self.context.decode(packet)
        except av.InvalidDataError:
            self.damaged += 1
            return []
        except av.FFmpegError as error:
            problem = self.explain(error)
        raise problem


@dataclass(frozen=True)
class Codec:
    """What another decoder of the same video has to know before its first packet."""

    name: str
    extradata: bytes | None

    def open(self, explain: Explain) -> Decoder:
        context = load_av().CodecContext.create(self.name, "r")
        if self.extradata is not None:
            context.extradata = self.extradata
        _set_up(context)
        return Decoder(context, explain)


@dataclass
class Decoding:
    """One video that is open. ``is_borrowed``: its packets lie in the container's own memory, and
    frames of raw video in their packets'. ``reached``: seconds up to which packets came, of all
    its streams.
    """

    container: InputContainer
    stream: VideoStream
    explain: Explain
    is_borrowed: bool = False
    decoder: Decoder = field(init=False)
    reached: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self.decoder = Decoder(self.stream.codec_context, self.explain)

    @property
    def codec(self) -> Codec:
        return Codec(self.decoder.context.name, self.decoder.context.extradata)

    def packets(self) -> Iterator[Packet[VideoStream] | None]:
        """Its packets, at last an empty one, and None for those of other streams."""
        packets = self.container.demux()
        while (packet := attempt(partial(next, packets, None), self.explain)) is not None:
            if packet.pts is not None:
                self.reached = max(self.reached, float(packet.pts * packet.time_base))
            # Not its stream_index: in the empty packets at the end that is always 0.
            if packet.stream.index != self.stream.index:
                yield None
            elif self.is_borrowed and packet.size:
                yield _copy(packet)
            else:
                yield packet

    def frames(
        self, is_wanted: Callable[[Packet[VideoStream]], bool] = lambda _: True
    ) -> Iterator[VideoFrame | None]:
        """Its pictures, and None for what came without one: another stream's, damaged, or not
        decoded as it is not wanted.
        """
        for packet in self.packets():
            pictures: list[VideoFrame] = []
            if packet is not None and is_wanted(packet):
                pictures = self.decoder.decode(packet)
            yield from pictures
            if not pictures:
                yield None


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


class Shot(NamedTuple):
    """A picture of a video; ``time``: its time stamp, in seconds."""

    raster: Raster
    time: float | None


def shot_of(frame: VideoFrame | None) -> Shot | None:
    if frame is None:
        return None
    return Shot(raster_of(frame), frame.time)


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
    _set_up(stream.codec_context)
    return Decoding(container, stream, explain, container_format in BORROWED)


def _set_up(context: VideoCodecContext) -> None:
    context.thread_type = "SLICE"  # by frames, each thread would make it a frame late
    context.options = {"max_pixels": str(LARGEST)}


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
