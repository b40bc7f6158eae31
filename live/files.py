"""Video files."""

from __future__ import annotations

import errno
import threading
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from vpt_edge.live.decoder import Decoding, open_video, raster_of, reason_of
from vpt_edge.live.feed import Picture, Pictures
from vpt_edge.live.network import PROTOCOLS
from vpt_edge.live.timeline import Timeline
from vpt_edge.runtime.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from av.packet import Packet
    from av.video.stream import VideoStream

    from vpt_edge.live.address import Address

FOREVER = -1
OPEN = 10.0  # seconds to open a file of the network
READ = 5.0  # of each of the two tries of a read
SLACK = 1.0  # seconds that a file may end before what its header says
# What is a clip by itself. Others of FFmpeg's, such as "hls", "concat" and "sdp", name more files
# and addresses, and a file tells its format by its first bytes, whatever its name is.
FORMATS = (
    "3g2,3gp,apng,asf,av1,avi,dv,flac,flv,gif,gxf,h264,hevc,ivf,m4a,m4v,matroska,mj2,mjpeg,mov,mp3,"
    "mp4,mpeg,mpegts,mpegvideo,mpjpeg,mxf,nut,obu,ogg,rm,wav,webm,wtv,yuv4mpegpipe"
)
MICROSECONDS = 1_000_000  # of a second, in which a container says how long it is


class ClipFeed:
    """Every picture of a video file, and again ``loop`` times.

    ``place``: its path, or its address in the network. ``eco``: its key frames alone; the others
    are ``undecoded``. A damaged packet is passed over; what could not be read is said in one
    SourceError, behind all that could.
    """

    def __init__(self, place: Path | Address, loop: int = 0, eco: bool = False) -> None:
        self.name = str(place)
        self.undecoded = 0
        self._eco = eco
        self._place = place
        self._loop = loop
        self._interrupted = threading.Event()

    def pictures(self) -> Pictures:
        timeline = Timeline()
        rounds = 0
        while rounds <= self._loop or self._loop == FOREVER:
            yield from self._play(timeline)
            rounds += 1

    def interrupt(self) -> None:
        self._interrupted.set()

    def _play(self, timeline: Timeline) -> Iterator[Picture]:
        decoding = self._open()
        count = 0
        with closing(decoding.container):
            for frame in decoding.frames(self._is_wanted):
                if self._interrupted.is_set():
                    return
                if frame is not None:
                    count += 1
                    yield Picture(raster_of(frame), position=timeline.place(frame.time))
            missing = _missing(decoding)
        damaged = decoding.decoder.damaged
        if damaged or count == 0:
            problem = f"{self.name}: {damaged} packets of the video could not be decoded"
            raise SourceError(f"{problem}, {count} pictures could")
        if missing > SLACK:
            given = f"{count} pictures were there"
            raise SourceError(f"{self.name} is cut off: {missing:.1f} s of it are missing, {given}")

    def _is_wanted(self, packet: Packet[VideoStream]) -> bool:
        if not self._eco or packet.is_keyframe or packet.size == 0:
            return True
        self.undecoded += 1
        return False

    def _open(self) -> Decoding:
        options = {"format_whitelist": FORMATS}
        if isinstance(self._place, Path):
            # Without file: a name such as "concat:a" would be taken for a protocol.
            return open_video(f"file:{self._place}", self._explain, options=options)
        options["protocol_whitelist"] = PROTOCOLS[self._place.scheme]
        url = self._place.url()
        return open_video(url, self._explain, options=options, timeout=(OPEN, READ))

    def _explain(self, error: Exception) -> SourceError:
        reason = reason_of(error)
        if getattr(error, "errno", None) == errno.EINVAL:
            reason = f"{reason}, as of a playlist, or of another format that is not read"
        problem = f"{self.name} cannot be read as a video: PyAV says: {reason}"
        return SourceError(problem, "ffprobe shows what is in it")


def _missing(decoding: Decoding) -> float:
    """Seconds that are missing at the end. A cut Matroska file ends as if it were whole; of other
    formats FFmpeg may have guessed how long they are.
    """
    container = decoding.container
    if "matroska" not in container.format.name or container.duration is None:
        return 0.0
    beginning = container.start_time or 0
    return (container.duration + beginning) / MICROSECONDS - decoding.reached
