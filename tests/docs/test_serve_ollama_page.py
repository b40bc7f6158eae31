"""The page on ollama's routes has every route, field and option, and no other."""

from __future__ import annotations

import re

from golden import ROOT

from vpt_edge.server import ollama_request
from vpt_edge.server.harmless_fields import OLLAMA
from vpt_edge.server.ollama import ollama_routes

PAGE = (ROOT / "docs" / "serve-ollama.md").read_text("utf-8")
QUOTED = re.compile(r"`([^`]+)`")


def quoted(begin: str, end: str) -> set[str]:
    """What is quoted between two texts of the page."""
    return set(QUOTED.findall(PAGE.partition(begin)[2].partition(end)[0]))


def test_every_route_is_there() -> None:
    for route in ollama_routes():
        assert re.search(rf"`(GET |POST )?{route.path}`", PAGE), route.path


def test_the_options_are_those_that_are_read() -> None:
    table = PAGE.partition("| option |")[2].partition("\n\n")[0]
    names = set[str]()
    for row in table.splitlines()[2:]:
        names |= set(QUOTED.findall(row.split("|")[1]))
    assert names == ollama_request.OPTIONS_READ


def test_what_changes_nothing_is_listed() -> None:
    table = PAGE.partition("**Accepted, passed over")[2].partition("A conversation that is longer")[
        0
    ]
    rows = [row.split("|")[1:3] for row in table.splitlines() if row.startswith("|")][2:]
    listed = {place.strip(): set(QUOTED.findall(names)) for place, names in rows}
    assert listed == OLLAMA


def test_what_is_ignored_is_listed() -> None:
    names = quoted("under `vpt.ignored`, unless", "**Refused by name**")
    assert names == set(ollama_request.NOT_DONE) | ollama_request.DETAILS


def test_what_is_refused_is_listed() -> None:
    names = quoted("**Refused by name**", "## The reply")
    assert names == set(ollama_request.NEUTRAL)
