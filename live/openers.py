"""How each kind of source is opened."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from vpt_edge.live.address import mask
from vpt_edge.live.camera import DeviceFeed
from vpt_edge.live.drawn import DrawnFeed
from vpt_edge.live.files import ClipFeed
from vpt_edge.live.framing import Framing
from vpt_edge.live.gstreamer import ChildFeed, csi_pipeline, gst_pipeline
from vpt_edge.live.iterable import IterableFeed
from vpt_edge.live.motion import MovingScenes
from vpt_edge.live.network import TRANSPORTS, NetworkFeed
from vpt_edge.live.opencv import CaptureFeed, check_capture
from vpt_edge.live.options import Options
from vpt_edge.live.pictures import RATE, PictureFeed, find_files
from vpt_edge.live.playback import Playback
from vpt_edge.live.reader import Reader
from vpt_edge.live.signs.moving import MovingSigns
from vpt_edge.live.testsrc import PATTERNS, TestPattern
from vpt_edge.runtime.errors import SourceError
from vpt_edge.runtime.schema import brief
from vpt_edge.runtime.source import shorten

if TYPE_CHECKING:
    from vpt_edge.live.address import Address
    from vpt_edge.live.drawn import Drawing
    from vpt_edge.live.feed import Feed
    from vpt_edge.live.opencv import Capture
    from vpt_edge.live.source import Source

CSI_SIZE = (1280, 720)
CSI_RATE = 30.0
DRAWN_RATE = 30.0
DRAWN_SIZE = (640, 360)
LONGEST_HOLD = 1e6  # seconds of a scene
PATTERN_KINDS = {"pattern": str, "width": int, "height": int, "rate": float}
SCENE_KINDS = {"seed": int, "hold": float, "rate": float, "tag": str}
SIGN_KINDS = {**SCENE_KINDS, "side": int, "grounds": str}
SCENES: dict[str, tuple[dict[str, type], Callable[..., Drawing]]] = {
    "": (SCENE_KINDS, MovingScenes),
    "signs": (SIGN_KINDS, MovingSigns),
}


@dataclass(frozen=True)
class Opener:
    """How what is named one way is opened, and the options that it takes."""

    open: Callable[[Any, Options], Source]
    takes: frozenset[str]


def _open_live(feed: Feed, options: Options) -> Source:
    return Reader(feed, Framing(feed.name, options.flip or "none"), options.patience())


def _play(feed: Feed, options: Options) -> Playback:
    return Playback(feed, Framing(feed.name, options.flip or "none"))


def _open_file(place: Path | Address, options: Options) -> Source:
    return _play(ClipFeed(place, options.loop or 0, options.eco), options).prepare()


def _open_rtsp(address: Address, options: Options) -> Source:
    transport, plain = address.take("transport")
    if transport is not None and transport not in TRANSPORTS:
        raise SourceError(f"the transport of rtsp:// is one of {', '.join(TRANSPORTS)}")
    patience = options.patience()
    feed = NetworkFeed(
        plain, patience.stall, transport or TRANSPORTS[0], options.latency, options.eco
    )
    return _open_live(feed, options)


def _open_http(address: Address, options: Options) -> Source:
    feed = NetworkFeed(address, options.patience().stall, eco=options.eco)
    return _open_live(feed, options)


def _open_device(name: str, options: Options) -> Source:
    device = f"/dev/video{name}" if name.isdecimal() else name
    if not device.startswith("/"):
        raise SourceError("a camera is v4l2:///dev/video0 or a number, with three slashes")
    size = None
    if options.width is not None and options.height is not None:
        size = (options.width, options.height)
    return _open_live(DeviceFeed(device, size, options.rate, options.codec), options)


def _open_csi(text: str, options: Options) -> Source:
    if not text.isdecimal():
        raise SourceError("a camera at a CSI port is csi://0 or csi://1")
    size = options.size(*CSI_SIZE)
    pipeline = csi_pipeline(int(text), size, options.rate or CSI_RATE)
    return _open_live(ChildFeed(f"csi://{text}", pipeline, size), options)


def _open_gst(text: str, options: Options) -> Source:
    if options.width is None or options.height is None:
        problem = "gst:// does not know the size of its pictures"
        raise SourceError(problem, "give width and height, to which they are scaled")
    size = (options.width, options.height)
    pipeline = gst_pipeline(text, size)
    return _open_live(ChildFeed(f"gst://{shorten(mask(text))}", pipeline, size), options)


def _open_capture(capture: Capture, options: Options) -> Source:
    feed = CaptureFeed(check_capture(capture))
    if feed.is_file:
        return _play(feed, options)
    return _open_live(feed, dataclasses.replace(options, retries=0))


def _open_folder(pattern: str, options: Options) -> Source:
    paths = find_files(pattern)
    feed = PictureFeed(pattern, paths, options.rate or RATE, options.loop or 0)
    return _play(feed, options).prepare()


def _open_iterable(items: Iterable[Any], options: Options) -> Source:
    return _play(IterableFeed(items, options.rate), options)


def _open_testsrc(query: str, options: Options) -> Source:
    values = _parse_query("testsrc", query, PATTERN_KINDS)
    pattern = values.pop("pattern", "ball")
    if pattern not in PATTERNS:
        known = ", ".join(PATTERNS)
        raise SourceError(f"testsrc:// has no pattern {pattern}, expected {known}")
    merged = Options(**{**values, **options.given()})
    width, height = merged.size(*DRAWN_SIZE)
    drawing = TestPattern(pattern, width, height)
    feed = DrawnFeed(f"testsrc://{pattern}", drawing, merged.rate or DRAWN_RATE)
    return _open_live(feed, merged)


def _open_scenes(text: str, options: Options) -> Source:
    _check_login("scenes", text)
    name, _, query = text.strip("/").partition("?")
    if "=" in name:  # the question mark may be left out
        query = name
        name = ""
    name = name.rstrip("/")
    if name not in SCENES:
        expected = "expected scenes:// or scenes://signs"
        raise SourceError(f"no scenes are called {brief(name)}, {expected}")
    kinds, drawing = SCENES[name]
    values = _parse_query("scenes", query, kinds)
    rate = Options(rate=values.pop("rate", DRAWN_RATE)).rate
    if not 0 < values.get("hold", 1.0) < LONGEST_HOLD:
        raise SourceError(f"hold is {values['hold']}, expected a number of seconds")
    feed = DrawnFeed(f"scenes://{name}", drawing(**values), options.rate or rate or DRAWN_RATE)
    return _open_live(feed, options)


def _check_login(scheme: str, text: str) -> None:
    if "@" in text:
        raise SourceError(
            f"{scheme}:// takes no user and password", f"expected {scheme}://?name=value"
        )


def _parse_query(scheme: str, query: str, kinds: dict[str, type]) -> dict[str, Any]:
    """The parameters behind ``scheme://?``, each of its kind. Raises SourceError."""
    values = dict[str, Any]()
    _check_login(scheme, query)
    for name, text in parse_qsl(query.lstrip("/").removeprefix("?"), keep_blank_values=True):
        if name not in kinds:
            known = ", ".join(kinds)
            problem = f"{scheme}:// does not take {name} in its address"
            raise SourceError(f"{problem}, it takes {known}")
        try:
            values[name] = kinds[name](text)
        except ValueError:
            kind = kinds[name].__name__
            problem = f"{name} of {scheme}:// is {text}, expected a value of type {kind}"
            raise SourceError(problem) from None
    return values


LIVE = frozenset({"flip", "stall", "retries"})
DRAWN = frozenset({"flip", "rate"})
RTSP = Opener(_open_rtsp, LIVE | {"eco", "latency"})
HTTP = Opener(_open_http, LIVE | {"eco"})
CLIP = Opener(_open_file, frozenset({"eco", "flip", "loop"}))
OPENERS: dict[str, Opener] = {
    "a file": CLIP,
    "a file of the network": CLIP,
    "a folder": Opener(_open_folder, frozenset({"flip", "loop", "rate"})),
    "an iterable": Opener(_open_iterable, frozenset({"flip", "rate"})),
    "a cv2.VideoCapture": Opener(_open_capture, frozenset({"flip", "stall"})),
    "csi://": Opener(_open_csi, LIVE | {"height", "rate", "width"}),
    "gst://": Opener(_open_gst, LIVE | {"height", "width"}),
    "http://": HTTP,
    "https://": HTTP,
    "rtsp://": RTSP,
    "rtsps://": RTSP,
    "scenes://": Opener(_open_scenes, DRAWN),
    "testsrc://": Opener(_open_testsrc, DRAWN | {"height", "width"}),
    "v4l2://": Opener(_open_device, LIVE | {"codec", "height", "rate", "width"}),
}
