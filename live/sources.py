"""Sources by their addresses."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote

from vpt_edge.live.address import mask, parse_address
from vpt_edge.live.drawn import DrawnFeed
from vpt_edge.live.files import ClipFeed
from vpt_edge.live.framing import Framing
from vpt_edge.live.iterable import IterableFeed
from vpt_edge.live.motion import MovingScenes
from vpt_edge.live.network import PROTOCOLS, TRANSPORTS, NetworkFeed
from vpt_edge.live.options import Options
from vpt_edge.live.pictures import CLIPS, PICTURES, RATE, PictureFeed, find_files
from vpt_edge.live.playback import Playback
from vpt_edge.live.reader import Reader
from vpt_edge.live.testsrc import PATTERNS, TestPattern
from vpt_edge.runtime.errors import SourceError
from vpt_edge.runtime.source import shorten

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from vpt_edge.live.address import Address
    from vpt_edge.live.feed import Feed
    from vpt_edge.live.options import SourceOptions
    from vpt_edge.live.source import Source

SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
GLOB = re.compile(r"[*?\[]")
DRAWN_RATE = 30.0
DRAWN_SIZE = (640, 360)
LONGEST_HOLD = 1e6  # seconds of a scene
PATTERN_KINDS = {"pattern": str, "width": int, "height": int, "rate": float}
SCENE_KINDS = {"seed": int, "hold": float, "rate": float}


@dataclass(frozen=True)
class Opener:
    """How what is named one way is opened, and the options that it takes."""

    open: Callable[[Any, Options], Source]
    takes: frozenset[str]


def open_source(source: Any, **options: Unpack[SourceOptions]) -> Source:
    """Open a camera, a stream, a clip: whatever gives frames.

    ``source``: an address as in docs/live-sources.md, a path, the number of a camera, an opened
    ``cv2.VideoCapture``, or any iterable of Frames or of arrays (height, width, 3) uint8 RGB. A
    Source is given back as it is. ``options``: those of Options, as far as the source takes them.

    A live source is opened by a thread of its own: ``poll`` raises what trying again would not
    mend, and says where it is otherwise lost in ``state`` and ``problem``. Raises SourceError for
    an address that is not understood, an option that it does not take and a file that is not there.
    """
    settings = Options(**options)
    if hasattr(source, "poll") and hasattr(source, "listen"):
        _check_options("a Source", frozenset(), settings)
        return source
    kind, place = recognize(source)
    opener = OPENERS[kind]
    _check_options(kind, opener.takes, settings)
    return opener.open(place, settings)


def recognize(source: Any) -> tuple[str, Any]:
    """The key of OPENERS for ``source``, and what its opener takes. Raises SourceError."""
    if isinstance(source, str | PathLike):
        return _recognize_text(fspath(source))
    if isinstance(source, Iterable) and not isinstance(source, bytes | bytearray | dict):
        return "an iterable", source
    name = type(source).__name__
    expected = "expected an address, a path, a camera's number, or an iterable of frames"
    raise SourceError(f"a {name} is not a source, {expected}")


def _recognize_text(text: str | bytes) -> tuple[str, Any]:
    address = str(text).strip()
    match = SCHEME.fullmatch(address)
    if match is None:
        return _recognize_path(address)
    scheme = match[1].lower()
    if scheme == "file":
        return _recognize_path(match[2])
    if scheme in PROTOCOLS:
        return _recognize_network(parse_address(address))
    if f"{scheme}://" not in OPENERS:
        schemes = sorted(kind for kind in OPENERS if kind.endswith("://"))
        known = " ".join([*schemes, "file://"])
        raise SourceError(f"{scheme}:// is not known as a source, expected a path or {known}")
    return f"{scheme}://", match[2]


def _recognize_network(address: Address) -> tuple[str, Any]:
    is_file = Path(address.path.lower()).suffix in CLIPS - {".mjpeg"}
    if address.scheme.startswith("http") and is_file:
        return "a file of the network", address
    return f"{address.scheme}://", address


def _recognize_path(name: str) -> tuple[str, Any]:
    if not name:
        raise SourceError("the path is empty, expected a file, a folder or an address")
    path = Path(name)
    if not _exists(path) and _exists(Path(unquote(name))):
        path = Path(unquote(name))
    if not _exists(path):
        if GLOB.search(name):
            return "a folder", name
        fix = "an address of the network begins with rtsp:// or http://"
        raise SourceError(f"no file at {shorten(mask(name))}", fix)
    if path.is_dir():
        return "a folder", str(path)
    if path.suffix.lower() in PICTURES:
        return "a folder", str(path)
    return "a file", path


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # of a name that no file can have
        return False


def _check_options(kind: str, takes: frozenset[str], options: Options) -> None:
    for name in options.given():
        if name not in takes:
            known = ", ".join(sorted(takes)) or "none"
            raise SourceError(f"{kind} does not take {name}; its options: {known}")


def _open_live(feed: Feed, options: Options) -> Source:
    return Reader(feed, Framing(feed.name, options.flip or "none"), options.patience())


def _play(feed: Feed, options: Options) -> Playback:
    return Playback(feed, Framing(feed.name, options.flip or "none"))


def _open_file(place: Path | Address, options: Options) -> Source:
    return _play(ClipFeed(place, options.loop or 0), options).prepare()


def _open_rtsp(address: Address, options: Options) -> Source:
    transport, plain = address.take("transport")
    if transport is not None and transport not in TRANSPORTS:
        raise SourceError(f"the transport of rtsp:// is one of {', '.join(TRANSPORTS)}")
    patience = options.patience()
    feed = NetworkFeed(plain, patience.stall, transport or TRANSPORTS[0], options.latency)
    return _open_live(feed, options)


def _open_http(address: Address, options: Options) -> Source:
    return _open_live(NetworkFeed(address, options.patience().stall), options)


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


def _open_scenes(query: str, options: Options) -> Source:
    values = _parse_query("scenes", query, SCENE_KINDS)
    rate = Options(rate=values.pop("rate", DRAWN_RATE)).rate
    if not 0 < values.get("hold", 1.0) < LONGEST_HOLD:
        raise SourceError(f"hold is {values['hold']}, expected a number of seconds")
    feed = DrawnFeed("scenes://", MovingScenes(**values), options.rate or rate or DRAWN_RATE)
    return _open_live(feed, options)


def _parse_query(scheme: str, query: str, kinds: dict[str, type]) -> dict[str, Any]:
    """The parameters behind ``scheme://?``, each of its kind. Raises SourceError."""
    values = dict[str, Any]()
    if "@" in query:
        raise SourceError(
            f"{scheme}:// takes no user and password", f"expected {scheme}://?name=value"
        )
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
RTSP = Opener(_open_rtsp, LIVE | {"latency"})
HTTP = Opener(_open_http, LIVE)
CLIP = Opener(_open_file, frozenset({"flip", "loop"}))
OPENERS: dict[str, Opener] = {
    "a file": CLIP,
    "a file of the network": CLIP,
    "a folder": Opener(_open_folder, frozenset({"flip", "loop", "rate"})),
    "an iterable": Opener(_open_iterable, frozenset({"flip", "rate"})),
    "http://": HTTP,
    "https://": HTTP,
    "rtsp://": RTSP,
    "rtsps://": RTSP,
    "scenes://": Opener(_open_scenes, DRAWN),
    "testsrc://": Opener(_open_testsrc, DRAWN | {"width", "height"}),
}
