"""Short names for sources, as they stand in a URL."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import TYPE_CHECKING

from vpt_edge.live.network import PROTOCOLS

if TYPE_CHECKING:
    from collections.abc import Sequence

LONGEST = 32  # characters, without the number of one that came before
PORT = re.compile(r":\d+$")
OTHERS = re.compile(r"[^a-z0-9._]+")


def name_sources(addresses: Sequence[str]) -> list[str]:
    """A name for each of ``addresses``, which are without their passwords: ``camera`` of
    ``rtsp://camera:554/stream``, ``camera-2`` of another one there, ``video0``, ``testsrc-ball``.
    """
    names = list[str]()
    for address in addresses:
        stem = _stem(address)
        name = stem
        count = 1
        while name in names:
            count += 1
            name = f"{stem}-{count}"
        names.append(name)
    return names


def _stem(address: str) -> str:
    scheme, separator, rest = address.partition("://")
    text = f"{scheme}-{rest}"
    if not separator:
        text = PurePath(address).name
    elif scheme in PROTOCOLS:
        host = re.split("[/?]", rest)[0]
        text = PORT.sub("", host)
    elif scheme == "gst":  # what follows is a program, not a name
        text = scheme
    name = OTHERS.sub("-", text.lower())
    return name[:LONGEST].strip("._-") or "source"
