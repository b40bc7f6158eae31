"""Pictures as clients name them: by addresses, or in base64."""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from typing import TYPE_CHECKING

from vpt_edge.runtime.source import shorten
from vpt_edge.server.errors import RequestError
from vpt_edge.server.fetch import Fetcher
from vpt_edge.server.fetch_rules import FetchRules
from vpt_edge.server.picture_folder import PictureFolder

if TYPE_CHECKING:
    from vpt_edge.server.settings import Settings

EXPECTED = "expected data:image/jpeg;base64,…"
FOREIGN = re.compile(r"[^A-Za-z0-9+/=]")  # in base64


class PictureLoader:
    """Loads what an address names, as far as ``settings`` allow it.

    Raises VptError for settings that cannot be.
    """

    def __init__(self, settings: Settings) -> None:
        self._folder = None
        self._fetcher = None
        if settings.allow_files is not None:
            self._folder = PictureFolder(settings.allow_files, settings.max_body)
        if settings.allow_urls:
            self._fetcher = Fetcher(FetchRules(settings.allow_urls), settings.max_body)

    async def load(self, address: str) -> bytes:
        """The file of the picture at ``address``.

        Raises RequestError for what is not allowed, and what cannot be read.
        """
        scheme = address[:9].partition(":")[0].lower()
        if scheme == "data":
            return await asyncio.to_thread(decode_data, address)
        if scheme == "file" and self._folder is not None:
            return await asyncio.to_thread(self._folder.read, address)
        if scheme in ("http", "https") and self._fetcher is not None:
            return await self._fetcher.fetch(address)
        fix = ""
        if scheme == "file":
            fix = "send the file itself, or let vpt-serve read its folder: --allow-files DIR"
        elif scheme in ("http", "https"):
            fix = "send the file itself, or let vpt-serve fetch from its host: --allow-urls HOST"
        problem = f"the picture's address is {shorten(address)!r}, {EXPECTED}"
        raise RequestError(400, "invalid_image_url", problem, fix, param="messages")


def decode_data(address: str) -> bytes:
    """The bytes in a data: address. Raises RequestError for one that is not base64.

    The kind of picture that it states is not looked at: the picture itself tells it.
    """
    head, comma, data = address.partition(",")
    _, *parameters = head.lower().split(";")
    if not comma or "base64" not in parameters[-1:]:
        problem = f"the picture's address begins with {shorten(head)!r}, {EXPECTED}"
        raise RequestError(400, "invalid_image_url", problem, param="messages")
    return decode_base64(data)


def decode_base64(data: str) -> bytes:
    """The bytes of a picture in base64, in one line and with its padding (RFC 4648, 4).

    Raises RequestError for anything else.
    """
    foreign = FOREIGN.search(data)
    if foreign is not None:
        place = foreign.start() + 1
        problem = f"the picture is not base64: its character {place} is {foreign[0]!r}"
        raise _not_base64(problem)
    try:
        decoded = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        problem = f"the picture is not base64: it has {len(data)} characters and a wrong end"
        raise _not_base64(problem) from None
    if not decoded:
        raise RequestError(400, "invalid_image_format", "the picture is empty", param="messages")
    return decoded


def _not_base64(problem: str) -> RequestError:
    fix = "encode the whole file in one line, with the letters + and /: base64 -w0 FILE"
    return RequestError(400, "invalid_image_format", problem, fix, param="messages")
