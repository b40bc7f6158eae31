from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from serving import Served

from vpt_edge.server.page_routes import FOLDER

if TYPE_CHECKING:
    import httpx

Serve = Callable[..., Served]
LIMIT = 100_000  # bytes of the whole page
NAMES = sorted(path.name for path in FOLDER.iterdir())


@pytest.fixture
def client(serve: Serve) -> httpx.Client:
    return serve().client


def test_the_page_is_at_the_root(client: httpx.Client) -> None:
    reply = client.get("/")
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    assert reply.content == (FOLDER / "index.html").read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_its_files_come_with_a_type_and_are_asked_for_by_their_tag(
    client: httpx.Client, name: str
) -> None:
    reply = client.get(f"/page/{name}")
    assert reply.content == (FOLDER / name).read_bytes()
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["cache-control"] == "no-cache"
    again = client.get(f"/page/{name}", headers={"If-None-Match": reply.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    other = client.get(f"/page/{name}", headers={"If-None-Match": '"other"'})
    assert other.status_code == 200


@pytest.mark.parametrize(
    "path", ["none.js", "..%2fapp.py", "%2e%2e/app.py", "../app.py", "%2fetc%2fpasswd", "py.typed"]
)
def test_no_other_file_is_served(client: httpx.Client, path: str) -> None:
    assert client.get(f"/page/{path}").status_code == 404


def test_its_policy_lets_nothing_in_from_outside(client: httpx.Client) -> None:
    policy = client.get("/").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert "frame-ancestors 'none'" in policy


def test_it_is_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < LIMIT


def test_it_names_no_outside_address() -> None:
    addresses = set[str]()
    for name in NAMES:
        addresses.update(re.findall(r"(?:https?:)?//[\w.-]+\.\w+", (FOLDER / name).read_text()))
    assert addresses == {"http://www.w3.org"}  # the name of SVG, which nobody fetches


def test_it_writes_no_markup() -> None:
    """What the model says is text: nothing of the page may take it for anything else."""
    for path in FOLDER.glob("*.js"):
        text = path.read_text()
        for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
            assert word not in text, path.name
    index = (FOLDER / "index.html").read_text()
    assert not re.search(r"<script(?![^>]*\ssrc=)|<style|\sstyle=|\son\w+=", index)


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith(".js")])
def test_its_files_are_short(name: str) -> None:
    lines = (FOLDER / name).read_text().splitlines()
    assert len(lines) < 300
    assert max(map(len, lines)) <= 110
