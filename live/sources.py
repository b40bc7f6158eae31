"""Sources by their addresses."""

from __future__ import annotations

import re
from collections.abc import Iterable
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from vpt_edge.live.address import mask, parse_address
from vpt_edge.live.network import PROTOCOLS
from vpt_edge.live.openers import OPENERS
from vpt_edge.live.options import Options
from vpt_edge.live.pictures import CLIPS, PICTURES
from vpt_edge.runtime.errors import SourceError
from vpt_edge.runtime.source import shorten

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from vpt_edge.live.address import Address
    from vpt_edge.live.options import SourceOptions
    from vpt_edge.live.source import Source

SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
DEVICE = re.compile(r"\d+|/dev/video\d+|/dev/v4l/.+")
GLOB = re.compile(r"[*?\[]")


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


def is_capture(source: Any) -> bool:
    """Whether it is a cv2.VideoCapture, of whichever cv2."""
    return all(hasattr(source, name) for name in ("isOpened", "read", "get"))


def recognize(source: Any) -> tuple[str, Any]:
    """The key of OPENERS for ``source``, and what its opener takes. Raises SourceError."""
    if isinstance(source, str | PathLike):
        return _recognize_text(fspath(source))
    if isinstance(source, int) and not isinstance(source, bool):
        return "v4l2://", str(source)
    if is_capture(source):
        return "a cv2.VideoCapture", source
    if isinstance(source, Iterable) and not isinstance(source, bytes | bytearray | dict):
        return "an iterable", source
    name = type(source).__name__
    expected = "expected an address, a path, a camera's number, or an iterable of frames"
    raise SourceError(f"a {name} is not a source, {expected}")


def _recognize_text(text: str | bytes) -> tuple[str, Any]:
    address = str(text).strip()
    match = SCHEME.fullmatch(address)
    if DEVICE.fullmatch(address):
        return "v4l2://", address
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
