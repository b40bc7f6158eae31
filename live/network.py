"""Cameras of the network: RTSP, and MJPEG or another endless video over HTTP."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING

from vpt_edge.live.address import QUOTING
from vpt_edge.live.backlog import Backlog
from vpt_edge.live.decoder import TRIES, load_av, open_video, reason_of, shot_of
from vpt_edge.live.feed import PermanentError, Picture, Pictures
from vpt_edge.runtime.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vpt_edge.live.address import Address
    from vpt_edge.live.decoder import Decoding, Shot

MARGIN = 0.3  # seconds more than the watchdog waits, which says what is the matter
OPEN = 5.0  # seconds until a camera that does not answer counts as away
ANALYSIS = "100000"  # microseconds of the stream that FFmpeg looks at before it gives a picture
PROTOCOLS = {  # what an address, or a playlist that it leads to, may make FFmpeg open
    "rtsp": "rtsp,rtp,rtcp,tcp,udp",
    "rtsps": "rtsps,rtsp,rtp,srtp,tcp,udp,tls",
    "http": "http,https,tcp,tls,crypto,hls",
    "https": "http,https,tcp,tls,crypto,hls",
}
TRANSPORTS = ("tcp", "udp")


class Delay:
    """Tells a picture that came late, by its time stamp and that of the one before.

    When FFmpeg's time for a read is over it hands out what it has of the next picture, often half
    of it: that is neither new nor whole.
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._arrival: float | None = None
        self._stamp: float | None = None

    def is_late(self, stamp: float | None) -> bool:
        """``stamp``: seconds, of the picture that arrives now."""
        now = time.monotonic()
        silence = now - (self._arrival or now)
        is_late = False
        if stamp is not None and self._stamp is not None and silence >= self._timeout:
            is_late = stamp - self._stamp < silence / 2
        self._arrival = now
        self._stamp = stamp
        return is_late


class NetworkFeed:
    """The pictures of ``address``, as long as they come.

    ``transport``: of RTSP, "tcp" or "udp". ``latency``: milliseconds to wait for packets that come
    out of order. ``stall``: seconds without a packet until a read is given up. ``eco``: decode only
    what somebody looks at.
    """

    def __init__(
        self,
        address: Address,
        stall: float,
        transport: str = "tcp",
        latency: int | None = None,
        eco: bool = False,
    ) -> None:
        self.name = str(address)
        self._eco = eco
        self._backlog = Backlog()
        self._address = address
        self._timeout = (OPEN, (stall + MARGIN) / TRIES)
        self._options = {
            "analyzeduration": ANALYSIS,
            "protocol_whitelist": PROTOCOLS[address.scheme],
        }
        if address.scheme.startswith("rtsp"):
            self._options["rtsp_transport"] = transport
            self._options["allowed_media_types"] = "video"
        if latency is not None:
            self._options["max_delay"] = str(1000 * latency)
        self._interrupted = threading.Event()

    def pictures(self) -> Pictures:
        self._interrupted.clear()
        decoding = open_video(
            self._address.url(), self._explain, options=self._options, timeout=self._timeout
        )
        delay = Delay(self._timeout[1])
        with closing(decoding.container):
            for shot in self._shots(decoding):
                if self._interrupted.is_set():
                    raise SourceError(f"{self.name} gave no picture")
                if shot is not None and not delay.is_late(shot.time):
                    yield Picture(shot.raster)

    def _shots(self, decoding: Decoding) -> Iterator[Shot | None]:
        if self._eco:
            return self._backlog.shots(decoding)
        return map(shot_of, decoding.frames())

    @property
    def undecoded(self) -> int:
        return self._backlog.undecoded

    def interrupt(self) -> None:
        """The next packet, or the next read that is given up, ends it."""
        self._interrupted.set()

    def _explain(self, error: Exception) -> SourceError:
        """What PyAV's error means for a camera. Its text is not shown: it holds the password."""
        av = load_av().error
        said = f"PyAV says: {reason_of(error)}"
        example = f"{self._address.scheme}://USER:PASSWORD@{self._address.host}"
        if isinstance(error, av.HTTPUnauthorizedError | av.HTTPForbiddenError):
            problem = f"{self.name} refuses its user or password: {said}"
            return PermanentError(problem, f"give them as {example}, and {QUOTING}")
        if isinstance(error, av.HTTPClientError):
            problem = f"{self.name} is not a stream of its server: {said}"
            return PermanentError(problem, "look up the path in the camera's manual")
        if isinstance(error, av.ExitError | TimeoutError):
            fix = "check its host, its port and the cable"
            return SourceError(f"{self.name} does not answer", fix)
        if isinstance(error, ConnectionRefusedError):
            fix = "check the port, and whether the camera's server is switched on"
            return SourceError(f"{self.name} refuses connections: {said}", fix)
        fix = f"check that its host is reached: ping {self._address.host.partition(':')[0]}"
        return SourceError(f"{self.name} cannot be read: {said}", fix)
