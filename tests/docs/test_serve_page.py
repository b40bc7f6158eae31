"""The page on serving has every field, every key and every code, and no other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from golden import ROOT
from scripted import REGION
from serving import Served
from starlette.routing import Route

from vpt_edge.commands.serve import describe
from vpt_edge.runtime.testing import tiny_bundle
from vpt_edge.server import chat_message, chat_request
from vpt_edge.server.app import routes
from vpt_edge.server.harmless_fields import CHAT
from vpt_edge.server.http_server import ABANDONED
from vpt_edge.server.service import LAST_STEP
from vpt_edge.server.settings import Settings

DOCS = ROOT / "docs"
PAGE = (DOCS / "serve.md").read_text("utf-8")
QUOTED = re.compile(r"`([^`]+)`")
ROW = re.compile(r"^\| (.+?) \| (.*) \|$", re.MULTILINE)


def section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def rows(text: str) -> list[tuple[str, str]]:
    """The rows of a section's tables, without their heads."""
    return [(first, rest) for first, rest in ROW.findall(text) if first.startswith(("`", "4", "5"))]


def quoted(text: str) -> set[str]:
    return set(QUOTED.findall(text))


def test_the_fields_of_a_request_are_those_that_are_read() -> None:
    text = section("What a request may say")
    read, _, rest = text.partition("These are accepted, passed over")
    harmless, _, neutral = rest.partition("These are accepted with the value")
    names = set[str]()
    for first, _ in rows(read):
        names |= quoted(first)
    assert names == chat_request.READ
    listed = {}
    for place, rest in ROW.findall(harmless):
        listed[place] = quoted(rest.partition(":")[0])
    assert listed == CHAT
    values = {}
    for first, rest in rows(neutral):
        values.update(dict.fromkeys(quoted(first), rest))
    in_messages = {*chat_message.NEUTRAL, "annotations"}
    assert set(values) == set(chat_request.NEUTRAL) | in_messages
    for field, known in chat_request.NEUTRAL.items():
        for value in known:
            if value != {}:
                written = str(value).replace("'", '"').replace("False", "false")
                assert written in values[field], field


def test_the_keys_of_the_block_are_those_of_a_reply(tmp_path: Path) -> None:
    with Served(tiny_bundle(tmp_path), REGION, "A dog.") as served:
        reply = served.ask().json()["vpt"]
    named = {first.strip("`") for first, _ in rows(section("The reply"))}
    assert set(reply) == named - {"id", "frame"}
    assert set(reply["looks"][0]) <= quoted(section("The reply"))


def test_the_keys_of_a_frame_are_named(tmp_path: Path) -> None:
    with Served(tiny_bundle(tmp_path), "A dog.", watch=("testsrc://",)) as served:
        (source,) = served.client.get("/sources").json()["sources"]
        frame = served.ask_source(source["name"]).json()["vpt"]["frame"]
    (row,) = [rest for first, rest in rows(section("The reply")) if first == "`frame`"]
    assert quoted(row) == set(frame)


def codes() -> Iterator[tuple[int, str]]:
    """What the server's errors are called, with their statuses; a watch's are with its routes, on
    the page about it.
    """
    paths = set((ROOT / "server").glob("*.py")) - {ROOT / "server" / "watch_service.py"}
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call) or ast.unparse(node.func) != "RequestError":
                continue
            status, code, *_ = node.args
            if isinstance(status, ast.Constant) and isinstance(code, ast.Constant):
                yield int(str(status.value)), str(code.value)


def test_every_code_of_an_error_is_explained() -> None:
    pages = "".join(path.read_text("utf-8") for path in DOCS.glob("*.md"))
    assert [code for _, code in set(codes()) if f"`{code}`" not in pages] == []


def test_every_code_stands_with_its_status() -> None:
    described = dict[str, str]()
    for first, rest in rows(section("Errors")):
        described.update(dict.fromkeys(quoted(rest.partition("|")[0]), first))
    for status, code in codes():
        assert str(status) in described.get(code, str(status)), code


def test_how_it_ends_is_what_the_settings_say() -> None:
    assert Settings("").grace_seconds == 10.0
    assert "no more than ten seconds" in section("Queue and fairness")
    (seconds,) = re.findall(r"terminationGracePeriodSeconds: (\d+) # .* ten seconds", PAGE)
    assert int(seconds) > Settings("").grace_seconds + ABANDONED + LAST_STEP


def test_every_code_that_is_explained_exists() -> None:
    source = "".join(path.read_text("utf-8") for path in (ROOT / "server").glob("*.py"))
    for _, rest in rows(section("Errors")):
        for code in re.findall(r"`([a-z_]+)`", rest.partition("|")[0]):
            assert f'"{code}"' in source, code


def test_the_first_line_is_that_of_the_command() -> None:
    line = describe("http://127.0.0.1:8000", has_keys=False, model="bundle").partition("\n")[0]
    assert f"`{line}`" in PAGE


def test_the_routes_exist() -> None:
    paths = {route.path_format for route in routes() if isinstance(route, Route)}
    for first, _ in rows(section("Routes")):
        for name in quoted(first):
            path = name.rpartition(" ")[2]
            if "…" not in path:
                assert path.replace("NAME", "{model}") in paths, path
