"""An mp4 that plays to its last second, however its writer ends."""

from __future__ import annotations

import contextlib
import os
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from vpt_edge.live.sinks.canvas import Canvas
from vpt_edge.runtime.errors import SinkError

if TYPE_CHECKING:
    from pathlib import Path

    from PIL import Image

TICKS = 90_000  # a second
BT709 = 1  # FFmpeg's number; what players take for granted
STEP = 3_000  # ticks, where the time does not go on
KEY_EVERY = 2 * TICKS  # where a player can begin
FRAGMENT = 1_000_000  # microseconds that a killed writer loses at most
MUXER = {
    "movflags": "frag_keyframe+empty_moov+default_base_moof",
    "frag_duration": str(FRAGMENT),
    "flush_packets": "1",
}
ENCODER = {"preset": "ultrafast", "tune": "zerolatency", "crf": "23", "threads": "1", "g": "600"}


class Mp4:
    """H.264 in fragments of a second: no index at the end is waited for.

    ``size``: (width, height) of its pictures, made even; others are fitted into it. Raises
    SinkError where it cannot be written.
    """

    def __init__(self, path: Path, size: tuple[int, int]) -> None:
        import av

        self._path = path
        self._canvas = Canvas(size)
        self._last = -STEP  # ticks
        self._key: int | None = None
        self._offset = 0
        self._error: SinkError | None = None
        self._good = 0  # bytes of whole fragments
        try:
            self._container = av.open(str(path), "w", format="mp4", options=MUXER)
            self._stream = self._container.add_stream("libx264", rate=30, options=ENCODER)
            self._stream.width, self._stream.height = self._canvas.size
            self._stream.pix_fmt = "yuv420p"
            self._stream.codec_context.time_base = Fraction(1, TICKS)
            self._stream.codec_context.colorspace = BT709
            self._container.start_encoding()
        except (av.FFmpegError, OSError) as error:
            raise SinkError(f"cannot write {path}: {error.strerror}") from error

    def write(self, image: Image.Image, seconds: float) -> None:
        """``image``, RGB, at so many ``seconds``; a time that runs backwards goes on instead."""
        import av
        from av.video.frame import PictureType

        if self._error is not None:
            raise self._error
        rgb = av.VideoFrame.from_ndarray(np.asarray(self._canvas.fit(image)), format="rgb24")
        frame = rgb.reformat(format="yuv420p", dst_colorspace="ITU709")
        frame.pts = self._tick(seconds)
        frame.time_base = Fraction(1, TICKS)
        if self._key is None or frame.pts - self._key >= KEY_EVERY:
            frame.pict_type = PictureType.I
            self._key = frame.pts
        try:
            self._container.mux(self._stream.encode(frame))
            self._good = self._path.stat().st_size
        except (av.FFmpegError, OSError) as error:
            self._error = SinkError(f"{self._path} ends here: {error.strerror}")
            self._cut()
            raise self._error from error

    def _cut(self) -> None:
        """Take away half a fragment: a player stumbles over it, and nothing can follow it."""
        with contextlib.suppress(OSError):  # of the disk that is full
            self._container.close()
        with contextlib.suppress(OSError):
            os.truncate(self._path, self._good)

    def _tick(self, seconds: float) -> int:
        tick = round(seconds * TICKS) + self._offset
        if tick <= self._last:
            self._offset += self._last + STEP - tick
            tick = self._last + STEP
        self._last = tick
        return tick

    def close(self) -> None:
        """Write what the encoder still has."""
        import av

        if self._error is not None:
            return
        try:
            self._container.mux(self._stream.encode())
            self._container.close()
        except (av.FFmpegError, OSError) as error:
            raise SinkError(f"{self._path} has no proper end: {error.strerror}") from error
