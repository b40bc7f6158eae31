"""The page on sources has every option, who takes it, and the bounds of the code."""

from __future__ import annotations

import dataclasses
import re

import pytest
from golden import ROOT

from vpt_edge.live import group
from vpt_edge.live.openers import LIVE, OPENERS
from vpt_edge.live.options import Options

PAGE = (ROOT / "docs" / "live-sources.md").read_text("utf-8")
ADDRESSES = {  # how the rows of the table begin
    "a file": "`clip.mp4`",
    "a file of the network": "`http://host/clip.mp4`",
    "a folder": "`shots/`",
    "an iterable": "any iterable",
    "csi://": "`csi://0`",
    "gst://": "`gst://",
    "http://": "`http://host/video`",
    "rtsp://": "`rtsp://",
    "scenes://": "`scenes://",
    "testsrc://": "`testsrc://",
    "v4l2://": "`/dev/video0`",
}


def section(title: str) -> str:
    return PAGE.partition(f"\n{title}\n")[2].partition("\n## ")[0]


def rows() -> list[str]:
    return re.findall(r"^\| (.*) \|$", section("## Addresses"), re.MULTILINE)


def test_every_option_is_described_and_no_other() -> None:
    described = set[str]()
    _, _, table = section("## Addresses").partition("| option | meaning |")
    for names in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE):
        described.update(re.findall(r"`(\w+)`", names))
    assert described == {field.name for field in dataclasses.fields(Options)}


@pytest.mark.parametrize("kind", ADDRESSES)
def test_a_row_has_the_options_that_its_source_takes(kind: str) -> None:
    (row,) = [row for row in rows() if row.startswith(ADDRESSES[kind])]
    named = set(re.findall(r"`(\w+)`", row.rpartition("|")[2]))
    assert named == OPENERS[kind].takes - LIVE


def test_the_bounds_of_eco_are_those_of_the_code() -> None:
    text = " ".join(section("### With `eco`").split())
    assert f"At most {group.MOST} packets wait, or {group.LARGEST >> 20} MiB." in text
