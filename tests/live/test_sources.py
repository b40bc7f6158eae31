"""An address finds its opener, an option its source, and no secret a text."""

from __future__ import annotations

import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vpt_edge import live
from vpt_edge.live.openers import OPENERS
from vpt_edge.live.options import Options
from vpt_edge.live.sources import recognize
from vpt_edge.runtime.errors import SourceError


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("testsrc://", "testsrc://"),
        (" TESTSRC://?pattern=ball ", "testsrc://"),
        ("scenes://", "scenes://"),
        (".", "a folder"),
        ("nowhere/*.jpg", "a folder"),
        (__file__, "a file"),
        (Path(__file__), "a file"),
        (f"file://{__file__}", "a file"),
        ([], "an iterable"),
        (np.zeros((1, 2, 2, 3), np.uint8), "an iterable"),
    ],
)
def test_an_address_is_recognized(source: Any, kind: str) -> None:
    assert recognize(source)[0] == kind


@pytest.mark.parametrize("source", [None, 1.5, b"clip.mp4", {}, object()])
def test_what_is_not_a_source_is_said(source: Any) -> None:
    with pytest.raises(SourceError, match="is not a source, expected an address"):
        live.open(source)


def test_an_unknown_scheme_is_said_with_those_that_are_known() -> None:
    with pytest.raises(SourceError, match=r"ftp:// is not known .* testsrc://"):
        live.open("ftp://user:secret@host/clip.mp4")


@pytest.mark.parametrize("name", ["nowhere.mp4", "file://nowhere.mp4", "a\0b", "x" * 5000])
def test_a_file_that_is_not_there_is_said(name: str) -> None:
    with pytest.raises(SourceError, match="no file at"):
        live.open(name)


def test_an_option_that_a_source_does_not_take_is_said() -> None:
    with pytest.raises(SourceError, match="testsrc:// does not take codec; its options: flip"):
        live.open("testsrc://", codec="h264")
    with pytest.raises(SourceError, match="an iterable does not take loop"):
        live.open([], loop=3)
    with pytest.raises(TypeError, match="unexpected keyword"):
        live.open([], fps=3)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    "options",
    [
        {"width": 0, "height": 2},
        {"width": 64},
        {"width": "64", "height": 64},
        {"rate": True},
        {"rate": float("nan")},
        {"flip": "upside-down"},
        {"codec": 5},
        {"loop": -2},
        {"latency": 1.5},
        {"stall": 0},
        {"retries": -1},
        {"eco": 1},
        {"eco": None},
    ],
)
def test_a_value_that_cannot_be_is_said(options: dict[str, Any]) -> None:
    with pytest.raises(SourceError, match=f"{next(iter(options))} "):
        Options(**options)


@pytest.mark.parametrize(
    "address", ["0", "csi://0", "gst://videotestsrc", "scenes://", "testsrc://", ".", "*.jpg"]
)
def test_where_nothing_would_be_saved_eco_is_refused(address: str) -> None:
    with pytest.raises(SourceError, match="does not take eco; its options: "):
        live.open(address, eco=True)


def test_no_eco_is_taken_by_all() -> None:
    assert live.open([], eco=False).poll() is None


def test_a_source_is_one_already() -> None:
    source = live.open([])
    assert live.open(source) is source
    with pytest.raises(SourceError, match="a Source does not take rate"):
        live.open(source, rate=5)


# Without an @: with one, what stands here may be an address, and would be called.
LETTERS = st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="@")
SECRETS = st.text(LETTERS, min_size=1, max_size=9)
PLACES = (
    "{scheme}:/u{secret}:QZQ{secret}@host/x",
    "u:QZQ{secret}@host",
    "{scheme}//u:QZQ{secret}@host/x",
    "nowhere://u:QZQ{secret}@host/x",
    "file://u:QZQ{secret}@host/x",
    "testsrc://QZQ{secret}@host",
    "{scheme}://u:QZQ{secret}",
    "{scheme}://u:QZQ/{secret}@host/x",
)


@given(SECRETS, st.sampled_from(["rtsp", "http", "v4l2", "csi", "gst"]))
def test_no_secret_is_in_an_error(secret: str, scheme: str) -> None:
    for place in PLACES:
        with pytest.raises(SourceError) as failure:
            live.open(place.format(scheme=scheme, secret=secret))
        chain = (failure.value, failure.value.__cause__, failure.value.__context__)
        text = " ".join([*map(repr, chain), str(failure.value)])
        text += traceback.format_exception_only(failure.value)[-1]
        assert "QZQ" not in text, text


def test_openers_have_names_that_can_be_shown() -> None:
    for kind in OPENERS:
        assert kind.endswith("://") or " " in kind


def test_a_decoder_is_loaded_when_it_is_needed() -> None:
    code = "import sys, vpt_edge.live; print({'av', 'cv2', 'gi'} & set(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "set()"


def test_without_pyav_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    (tmp_path / "clip.mp4").touch()
    with pytest.raises(SourceError, match=r"pip install 'vpt-edge\[live\]'"):
        live.open(tmp_path / "clip.mp4")
    assert live.open([np.zeros((2, 2, 3), np.uint8)]).poll() is not None
