"""The routes of the page: the files in ``page/``, and nothing else."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

if TYPE_CHECKING:
    from starlette.requests import Request

FOLDER = Path(__file__).parent / "page"
INDEX = "index.html"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
# data: and blob: are pictures that a person chose, and their small copies.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data: blob:; media-src 'self' blob:; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Cache-Control": "no-cache",  # asks each time, by its tag
    "Content-Security-Policy": POLICY,
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",  # the address may hold the id of an answer
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True)
class PageFile:
    """``tag``: its ETag."""

    content: bytes
    media_type: str
    tag: str


def page_routes() -> list[Route]:
    """The page at /, and what it loads below /page/."""
    files = {path.name: read_file(path) for path in FOLDER.iterdir()}

    async def show_index(request: Request) -> Response:
        return reply(request, files[INDEX])

    async def show_file(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in files:
            raise HTTPException(404, "there is no such file")
        return reply(request, files[name])

    return [Route("/", show_index), Route("/page/{name}", show_file)]


def read_file(path: Path) -> PageFile:
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    return PageFile(content, TYPES[path.suffix], f'"{digest[:32]}"')


def reply(request: Request, file: PageFile) -> Response:
    """The file, or 304 where the browser has it."""
    headers = {**HEADERS, "ETag": file.tag}
    known = request.headers.get("if-none-match", "")
    if file.tag in known:
        return Response(status_code=304, headers=headers)
    return Response(file.content, media_type=file.media_type, headers=headers)
