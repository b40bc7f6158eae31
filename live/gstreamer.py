"""Pictures that GStreamer makes, in a process of its own: a hang of it is ended by a kill."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import selectors
import shlex
import signal
import subprocess
from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, cast

import numpy as np

from vpt_edge.live.address import mask
from vpt_edge.live.feed import PermanentError, Picture, Pictures
from vpt_edge.live.frame import ArrayRaster
from vpt_edge.runtime.errors import SourceError
from vpt_edge.runtime.source import shorten

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO

    from numpy.typing import NDArray

PROGRAM = "gst-launch-1.0"
PACKAGES = "gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good"
PIPE = 1 << 20  # bytes, the most that a user may give a pipe
SAID = 4000  # bytes of what the child says that are kept
SILENCE = 20.0  # seconds after which it is not waited for; the watchdog kills it before
END = 2.0  # seconds for a killed child to be gone
ELEMENT = re.compile(r'no element "([\w-]+)"')
SECRET = re.compile(r"://[^\s/\"']*@|\b(?:user-id|user-pw|passw\w*)=", re.IGNORECASE)
TAIL = "queue max-size-buffers=1 leaky=downstream ! fdsink"


class ChildFeed:
    """What a GStreamer ``pipeline`` writes to its standard output: RGB, ``size`` (width, height).

    ``pipeline``: the arguments of gst-launch-1.0.
    """

    undecoded = 0

    def __init__(self, name: str, pipeline: Sequence[str], size: tuple[int, int]) -> None:
        self.name = name
        self._pipeline = list(pipeline)
        self._width, self._height = size
        self._child: subprocess.Popen[bytes] | None = None

    def pictures(self) -> Pictures:
        child = self._start()
        try:
            for pixels in self._read(Pipes(child)):
                yield Picture(ArrayRaster(pixels))
        finally:
            _kill(child)
            with contextlib.suppress(subprocess.TimeoutExpired):  # one that the kernel holds
                child.wait(END)
            for pipe in (child.stdout, child.stderr):
                cast("IO[bytes]", pipe).close()

    def interrupt(self) -> None:
        """Kill it: its pipe ends, and the read with it."""
        child = self._child
        if child is not None:
            _kill(child)

    def _start(self) -> subprocess.Popen[bytes]:
        command = [PROGRAM, "-q", *self._pipeline]
        pipe = subprocess.PIPE
        try:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=pipe,
                stderr=pipe,
                bufsize=0,
                start_new_session=True,  # Ctrl-C is for us to understand
            )
        except OSError as error:
            reason = error.strerror
            raise PermanentError(
                f"{self.name} needs GStreamer, and {PROGRAM} cannot be run: {reason}",
                f"sudo apt-get install {PACKAGES}",
            ) from error
        self._child = child
        return child

    def _read(self, pipes: Pipes) -> Iterator[NDArray[np.uint8]]:
        """(height, width, 3) each; GStreamer fills its rows to a multiple of 4 bytes."""
        row = 3 * self._width
        stride = -(-row // 4) * 4
        while True:
            data = bytearray(stride * self._height)
            if not pipes.fill(data):
                raise self._explain(pipes)
            rows = np.frombuffer(data, np.uint8).reshape(self._height, stride)
            pixels = np.ascontiguousarray(rows[:, :row]).reshape(self._height, self._width, 3)
            pixels.flags.writeable = False
            yield pixels

    def _explain(self, pipes: Pipes) -> SourceError:
        text = pipes.said()
        said = f"GStreamer says: {shorten(mask(text)) or 'nothing'}"
        match = ELEMENT.search(text)
        if match is not None:
            needs = f"{self.name} needs the element {match[1]}"
            problem = f"{needs}, which this machine does not have: {said}"
            return PermanentError(problem, _mend(match[1]))
        if "erroneous pipeline" in text:
            return PermanentError(f"{self.name} is not a pipeline: {said}")
        return SourceError(f"{self.name} ended: {said}")


class Pipes:
    """The standard output and error of a child, read at the same time."""

    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        self._output = cast("IO[bytes]", child.stdout).fileno()
        self._errors = cast("IO[bytes]", child.stderr).fileno()
        self._text = b""
        with contextlib.suppress(OSError):  # of a system that has no pipe so large
            fcntl.fcntl(self._output, fcntl.F_SETPIPE_SZ, PIPE)
        self._selector = selectors.PollSelector()  # it has no descriptor to be given back
        for descriptor in (self._output, self._errors):
            os.set_blocking(descriptor, False)
            self._selector.register(descriptor, selectors.EVENT_READ)

    def fill(self, data: bytearray) -> bool:
        """Read until ``data`` is full; False where the child ended, or was silent for too long."""
        view = memoryview(data)
        while view:
            ready = [key.fd for key, _ in self._selector.select(SILENCE)]
            if not ready:
                return False
            if self._errors in ready and not self._listen():
                self._selector.unregister(self._errors)
            if self._output in ready:
                count = os.readv(self._output, [view])
                if count == 0:
                    return False
                view = view[count:]
        return True

    def said(self) -> str:
        """The last of what it wrote on its standard error."""
        while self._listen():
            pass
        return self._text.decode("utf-8", "replace").strip()

    def _listen(self) -> bool:
        """Take what it wrote there, which would stop it in the end; False where that is nothing."""
        try:
            text = os.read(self._errors, SAID)
        except BlockingIOError:
            return False
        self._text = (self._text + text)[-SAID:]
        return bool(text)


def csi_pipeline(sensor: int, size: tuple[int, int], rate: float) -> list[str]:
    """The arguments of gst-launch-1.0 for a camera at a Jetson's CSI port, by way of Argus."""
    width, height = size
    fraction = Fraction(rate).limit_denominator(1001)
    caps = f"width={width},height={height},framerate={fraction.numerator}/{fraction.denominator}"
    parts = [
        f"nvarguscamerasrc sensor-id={sensor}",
        f"video/x-raw(memory:NVMM),{caps},format=NV12",
        "nvvidconv flip-method=0",
        "video/x-raw,format=BGRx",
        "videoconvert",
        "video/x-raw,format=RGB",
        TAIL,
    ]
    return " ! ".join(parts).split()


def gst_pipeline(text: str, size: tuple[int, int]) -> list[str]:
    """The arguments of gst-launch-1.0 for a user's pipeline, scaled to ``size``.

    Raises SourceError for one that is empty, that has an open quote, or that holds a password.
    """
    if SECRET.search(text):
        raise SourceError(
            "the gst:// pipeline holds a user or password, which the list of processes shows",
            "give rtsp://user:password@host/path itself",
        )
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise SourceError(f"the gst:// pipeline cannot be read: {error}") from error
    if not words:
        raise SourceError("the gst:// pipeline is empty, expected gst://videotestsrc or the like")
    caps = f"video/x-raw,format=RGB,width={size[0]},height={size[1]}"
    return [*words, *f"! videoconvert ! videoscale ! {caps} ! {TAIL}".split()]


def _kill(child: subprocess.Popen[bytes]) -> None:
    """End it with what it started, which may hold its pipes."""
    if child.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)


def _mend(element: str) -> str:
    if element.startswith("nv"):
        return "it comes with a Jetson's JetPack: sudo apt-get install nvidia-l4t-gstreamer"
    return (
        f"install the package that has it: apt-cache search gstreamer1.0, gst-inspect-1.0 {element}"
    )
