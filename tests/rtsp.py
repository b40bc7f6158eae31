"""A real RTSP server, started, killed and frozen by a test."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SCRIPT = Path(__file__).parent / "live" / "rtsp_server.py"
PYTHON = "/usr/bin/python3"  # Debian's: its gi is bound to it
END = 10.0  # seconds
BITS = 40  # of the clock that it draws
NEEDS = (
    'import gi; gi.require_version("GstRtspServer", "1.0"); '
    "from gi.repository import Gst; Gst.init(None); "
    'assert all(map(Gst.ElementFactory.find, ["videotestsrc", "x264enc", "rtph264pay"]))'
)


def find_missing() -> str | None:
    """Why there is no server on this machine, None where there is."""
    try:
        result = subprocess.run([PYTHON, "-c", NEEDS], capture_output=True, text=True, check=False)
    except OSError as error:
        return f"no {PYTHON}: {error.strerror}"
    if result.returncode == 0:
        return None
    reason = (result.stderr.strip() or "it ended").splitlines()[-1]
    return f"gst-rtsp-server is missing ({reason}): sudo make build/debian-ready"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def is_closed(port: int) -> bool:
    """Whether nobody listens there, within some seconds."""
    deadline = time.monotonic() + END
    while time.monotonic() < deadline:
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) != 0:
                return True
        time.sleep(0.05)
    return False


def read_clock(luma: NDArray[np.uint8]) -> float:
    """Seconds of the monotonic clock, drawn into a picture of the server's /clock: its brightness,
    (height, width).
    """
    block = luma.shape[1] // BITS
    top = luma[:block, : BITS * block].reshape(block, BITS, block)
    bits = np.median(top, axis=(0, 2)) > 128
    return float(sum(1 << int(bit) for bit in np.flatnonzero(bits))) / 1000


class RtspServer:
    """One server on one port, as often as it is started."""

    def __init__(self, *arguments: str) -> None:
        self.port = free_port()
        self._arguments = arguments
        self._process: subprocess.Popen[str] | None = None

    def start(self, *more: str) -> None:
        command = [PYTHON, str(SCRIPT), str(self.port), *self._arguments, *more]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def kill(self) -> None:
        """As when its power fails: no word to its clients but the reset of its kernel."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process = None

    def freeze(self) -> None:
        """As when its cable is out: not even a reset."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def __enter__(self) -> RtspServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
