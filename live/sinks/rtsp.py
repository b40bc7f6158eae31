"""What sources show, with their answers drawn in, for players on the network."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from vpt_edge.live.sinks.canvas import Canvas
from vpt_edge.live.sinks.painter import Painter
from vpt_edge.live.sinks.rtsp_child import RtspChild
from vpt_edge.runtime.errors import SinkError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image

    from vpt_edge.live.sinks.sink import Item

PLACE = re.compile(r"rtsp://@(?:\[([\da-f:]+)\]|([\w.-]*))(?::(\d{1,5}))?/([\w-]+)", re.IGNORECASE)
HOST = "127.0.0.1"
PORT = 8554
PORTS = 65535
PAUSE = 1.0  # seconds until a server that died is started again


class Rtsp:
    """Serves ``sources`` at ``target``, rtsp://@HOST:PORT/NAME: a second one at NAME.2.

    At most ``rate`` pictures a second or all; to this machine alone where there is no HOST.
    ``restarts``: how often the server's process died. Raises SinkError where it cannot be served.
    """

    wants = Painter.wants
    dropped = 0

    def __init__(self, target: str, sources: Sequence[str], rate: float | None = None) -> None:
        self.restarts = 0
        self._host, self._port, name = _parse(target)
        self._names = [name]
        for number in range(2, len(sources) + 1):
            self._names.append(f"{name}.{number}")
        self._painters = [Painter(source, rate) for source in sources]
        self._canvases: dict[int, Canvas] = {}
        self._next_start = 0.0
        self._child: RtspChild | None = self._start()

    def put(self, item: Item) -> None:
        for index, painter in enumerate(self._painters):
            picture = painter.paint(item)
            if picture is not None:
                canvas = self._canvases.setdefault(index, Canvas(picture.size))
                self._serve(index, canvas.fit(picture))

    def close(self) -> None:
        if self._child is not None:
            self._child.close()
        self._child = None

    def _start(self) -> RtspChild:
        self._next_start = time.monotonic() + PAUSE
        return RtspChild(self._host, self._port, self._names)

    def _serve(self, index: int, picture: Image.Image) -> None:
        if self._child is None:
            if time.monotonic() < self._next_start:
                raise SinkError("the RTSP server is about to be started again")
            self._child = self._start()
        try:
            self._child.write(index, picture)
        except OSError as error:
            self.close()
            self.restarts += 1
            reason = error.strerror or error
            raise SinkError(f"the RTSP server died and is started again: {reason}") from error


def _parse(target: str) -> tuple[str, int, str]:
    """Host, port and name; the error does not quote what may hold a password."""
    match = PLACE.fullmatch(target)
    if match is None:
        problem = "the rtsp:// output is not an address to listen at"
        fix = "expected rtsp://@:8554/NAME, or rtsp://@0.0.0.0:8554/NAME for the whole network"
        raise SinkError(problem, f"{fix}, without user and password")
    port = int(match[3] or PORT)
    if not 0 < port <= PORTS:
        raise SinkError(f"the port of the rtsp:// output is {port}, expected 1 to {PORTS}")
    return match[1] or match[2] or HOST, port, match[4]
