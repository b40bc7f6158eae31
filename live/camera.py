"""Cameras of this machine: Video4Linux."""

from __future__ import annotations

import errno
import fcntl
import struct
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from vpt_edge.live.decoder import open_video, raster_of, reason_of
from vpt_edge.live.feed import PermanentError, Picture, Pictures
from vpt_edge.runtime.errors import SourceError
from vpt_edge.runtime.hint import give_hint

if TYPE_CHECKING:
    from vpt_edge.live.decoder import Decoding

DEVICES = Path("/dev")
DESCRIPTORS = Path("/proc/self/fd")
STREAMOFF = 0x40045613  # VIDIOC_STREAMOFF of linux/videodev2.h
CAPTURE = struct.pack("i", 1)  # V4L2_BUF_TYPE_VIDEO_CAPTURE
OLDEST = 10.0  # seconds: a time stamp that is older, or of the future, is of another clock
CLOSE = 0.02  # of a rate, by which the driver's may differ from what was asked for


class DeviceFeed:
    """The pictures of a Video4Linux ``device``, such as /dev/video0.

    ``size`` (width, height), ``rate`` and ``codec``, FFmpeg's name of a format such as "mjpeg" or
    "yuyv422": the driver's own where they are None. What the driver changes of them is hinted at.
    """

    undecoded = 0

    def __init__(
        self,
        device: str,
        size: tuple[int, int] | None = None,
        rate: float | None = None,
        codec: str | None = None,
    ) -> None:
        self.name = device
        self._size = size
        self._rate = rate
        self._options = dict[str, str]()
        if size is not None:
            self._options["video_size"] = f"{size[0]}x{size[1]}"
        if rate is not None:
            self._options["framerate"] = f"{rate:g}"
        if codec is not None:
            self._options["input_format"] = codec
        self._is_new = True

    def pictures(self) -> Pictures:
        decoding = open_video(
            self.name, self._explain, container_format="v4l2", options=self._options
        )
        with closing(decoding.container):
            if self._is_new:
                self._compare(decoding)
            self._is_new = False
            for frame in decoding.frames():
                if frame is not None:
                    yield Picture(raster_of(frame), _moment(frame.time))

    def interrupt(self) -> None:
        """Stop the device: a read of one that is silent waits without end, whatever its timeout."""
        device = str(Path(self.name).resolve())
        for descriptor in DESCRIPTORS.iterdir():
            try:
                if str(descriptor.readlink()) == device:
                    fcntl.ioctl(int(descriptor.name), STREAMOFF, CAPTURE)
            except OSError:  # closed meanwhile, or not streaming
                continue

    def _compare(self, decoding: Decoding) -> None:
        """Say what the driver gives that was not asked for: it changes it without a word."""
        stream = decoding.stream
        fix = f"v4l2-ctl -d {self.name} --list-formats-ext shows what it offers"
        if self._size is not None and (stream.width, stream.height) != self._size:
            size = f"{stream.width}x{stream.height}"
            give_hint(f"{self.name} gives {size}, not {self._options['video_size']}; {fix}")
        if self._rate is not None and stream.average_rate is not None:
            rate = float(stream.average_rate)
            if abs(rate - self._rate) > CLOSE * self._rate:
                text = f"{self.name} gives {rate:g} pictures a second, not {self._rate:g}"
                give_hint(f"{text}; {fix}")

    def _explain(self, error: Exception) -> SourceError:
        number = getattr(error, "errno", None)
        said = f"PyAV says: {reason_of(error)}"
        if number in (errno.ENOENT, errno.ENXIO):
            return PermanentError(f"there is no camera {self.name}", _list_cameras())
        if number == errno.EACCES:
            fix = "sudo usermod -aG video $USER, and log in again"
            return PermanentError(f"{self.name} may not be opened: {said}", fix)
        if number == errno.EINVAL:
            problem = f"{self.name} does not offer the size, rate or codec: {said}"
            fix = f"v4l2-ctl -d {self.name} --list-formats-ext shows what it offers"
            return PermanentError(problem, fix)
        if number == errno.ENOTTY:
            return PermanentError(f"{self.name} is not a camera: {said}", _list_cameras())
        if number == errno.EBUSY:
            fix = f"close the other program: fuser -v {self.name}"
            return SourceError(f"{self.name} is used by another program: {said}", fix)
        if number == errno.ENODEV:
            return SourceError(f"{self.name} was unplugged: {said}", "plug it in again")
        return SourceError(f"{self.name} cannot be read: {said}", "dmesg may say why")


def _moment(stamp: float | None) -> float:
    """When a picture was captured: Video4Linux stamps it with the monotonic clock."""
    now = time.monotonic()
    if stamp is None or not 0 <= now - stamp < OLDEST:
        return now
    return stamp


def _list_cameras() -> str:
    names = sorted(str(path) for path in DEVICES.glob("video*"))
    if not names:
        return "connect one: there is no /dev/video* on this machine"
    return f"cameras of this machine: {', '.join(names)}"
