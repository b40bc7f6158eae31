"""The process that serves pictures by RTSP, and its life."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from vpt_edge.live.sinks.rtsp_server import HEADER, MISSING, READY
from vpt_edge.runtime.errors import SinkError
from vpt_edge.runtime.source import shorten

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image

PYTHON = "/usr/bin/python3"  # of the system, whose gi no other Python can load
SCRIPT = Path(__file__).with_name("rtsp_server.py")
PACKAGES = (
    "python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-base "
    "gstreamer1.0-plugins-good gstreamer1.0-plugins-ugly"
)
START = 15.0  # seconds until it listens
STALL = 2.0  # seconds in which it takes nothing: it hangs
END = 1.0  # seconds for its own end


class RtspChild:
    """A server of the streams ``names`` at ``host`` and ``port``. Raises SinkError without one."""

    def __init__(self, host: str, port: int, names: Sequence[str]) -> None:
        self._place = f"rtsp://@{host}:{port}"
        command = [PYTHON, "-I", str(SCRIPT), host, str(port), *names]
        pipe = subprocess.PIPE
        try:
            self._process = subprocess.Popen(
                command,
                stdin=pipe,
                stdout=pipe,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                start_new_session=True,  # Ctrl-C is for us to understand
            )
        except OSError as error:
            raise self._lack(f"{PYTHON} cannot be run: {error.strerror}") from error
        self._input = cast("IO[bytes]", self._process.stdin)
        self._output = cast("IO[bytes]", self._process.stdout)
        os.set_blocking(self._input.fileno(), False)
        said = self._listen()
        if said != READY:
            self.close()
            raise self._explain(said)

    def write(self, index: int, image: Image.Image) -> None:
        """Hand ``image``, RGB, to the stream of that ``index``. Raises OSError where it is gone."""
        self._send(HEADER.pack(index, *image.size))
        self._send(image.tobytes("raw", "RGBX"))

    def close(self) -> None:
        """It ends with its input; where it does not, it is killed."""
        with contextlib.suppress(OSError):
            self._input.close()
        try:
            self._process.wait(END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):  # one that the kernel holds
                self._process.wait(END)
        self._output.close()

    def _send(self, data: bytes) -> None:
        view = memoryview(data)
        poll = select.poll()
        poll.register(self._input, select.POLLOUT)
        while view:
            if not poll.poll(1000 * STALL):
                raise TimeoutError("it takes no pictures")
            with contextlib.suppress(BlockingIOError):
                view = view[os.write(self._input.fileno(), view) :]

    def _listen(self) -> str:
        """Its one line."""
        deadline = time.monotonic() + START
        text = b""
        while not text.endswith(b"\n"):
            left = deadline - time.monotonic()
            ready, _, _ = select.select([self._output], [], [], max(0.0, left))
            data = b""
            if ready:
                data = os.read(self._output.fileno(), 4096)
            if not data:
                break
            text += data
        return text.decode("utf-8", "replace").strip()

    def _explain(self, said: str) -> SinkError:
        if said.startswith(MISSING):
            return self._lack(said.removeprefix(MISSING))
        reason = shorten(said) or "it did not start"
        return SinkError(f"cannot serve at {self._place}: {reason}", "give another port")

    def _lack(self, what: str) -> SinkError:
        problem = f"rtsp:// needs gst-rtsp-server, which is missing: {shorten(what)}"
        return SinkError(problem, f"sudo apt-get install {PACKAGES}")
