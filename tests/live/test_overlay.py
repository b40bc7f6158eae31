"""What is drawn on a live picture, at every size."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from answers import answer, seen
from sources import frame

from vpt_edge.live.overlay import ANSWER, INSET, QUESTIONS, TEXT, Overlay
from vpt_edge.live.seen import Seen
from vpt_edge.runtime.overlay import COLOURS

SIZES = [(640, 480), (1280, 720), (1080, 1920), (3840, 2160)]


def grey(width: int, height: int) -> np.ndarray[Any, Any]:
    return np.full((height, width, 3), 90, np.uint8)


def look(width: int, height: int) -> tuple[int, int, int, int]:
    return (width // 8, height // 4, width // 2, height * 5 // 8)


def overlay_of(width: int, height: int, text: str = "closed", count: int = 1) -> Overlay:
    """With ``count`` answers to different questions about frame 50, two seconds after the first."""
    overlay = Overlay()
    pixels = grey(width, height)
    shown = frame(50, pixels)
    for index in range(count):
        said = answer(text, pixels, look(width, height))
        overlay.add(Seen(shown, f"Is gate {index} open?", said, 0.1, 0.4))
    return overlay


def drawn(overlay: Overlay, width: int, height: int, number: int = 50) -> np.ndarray[Any, Any]:
    picture = overlay.draw(frame(number, grey(width, height)))
    assert (picture.mode, picture.size) == ("RGB", (width, height))
    return np.asarray(picture)


def test_before_the_first_answer_there_is_the_picture() -> None:
    np.testing.assert_array_equal(drawn(Overlay(), 64, 48), grey(64, 48))


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_the_box_and_the_crop_are_where_they_belong(width: int, height: int) -> None:
    pixels = drawn(overlay_of(width, height), width, height)
    left, top, right, _ = look(width, height)
    assert tuple(pixels[top + 1, (left + right) // 2]) == COLOURS[0]  # inside of the line
    assert tuple(pixels[top + 20, left]) == COLOURS[0]
    corner = pixels[: round(height * INSET) + 40, round(width * (1 - INSET)) - 40 :]
    framed = np.argwhere((corner == COLOURS[0]).all(2))
    assert np.ptp(framed[:, 0]) >= min(height * INSET, width * INSET / 2) * 0.9


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_the_text_is_as_high_as_the_picture_lets_it_be(width: int, height: int) -> None:
    """Capitals and descenders of a line: about nine tenths of the font."""
    pixels = drawn(overlay_of(width, height, "Hg"), width, height)
    rows = np.flatnonzero((pixels[height // 2 :] == ANSWER).all(2).any(1))
    expected = min(width, height) * TEXT
    assert 0.6 * expected < np.ptp(rows) < 1.3 * expected
    assert np.ptp(rows) > 9


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_nothing_is_cut_off_at_the_right(width: int, height: int) -> None:
    """A long answer ends with its age."""
    for text in ("W" * 500, "i " * 500):
        pixels = drawn(overlay_of(width, height, text), width, height)
        band = pixels[-round(min(width, height) * TEXT * 3) :]
        bright = np.flatnonzero((band.min(2) > 150).any(0))
        assert width * 0.8 < bright.max() < width - min(width, height) * TEXT / 4


def test_the_age_goes_on() -> None:
    overlay = overlay_of(640, 480)
    fresh = drawn(overlay, 640, 480)
    np.testing.assert_array_equal(drawn(overlay, 640, 480), fresh)
    old = drawn(overlay, 640, 480, 80)
    assert (old != fresh).any()
    assert (old[:400] == fresh[:400]).all()


def test_an_age_is_not_negative() -> None:
    """A clip that begins anew."""
    overlay = overlay_of(640, 480)
    np.testing.assert_array_equal(drawn(overlay, 640, 480, 0), drawn(overlay, 640, 480))


def test_a_newer_answer_takes_the_place_of_the_older() -> None:
    overlay = overlay_of(640, 480, "closed")
    overlay.add(Seen(frame(50), "Is gate 0 open?", answer("open"), 0.1, 0.4))
    only = Overlay()
    only.add(Seen(frame(50), "Is gate 0 open?", answer("open"), 0.1, 0.4))
    np.testing.assert_array_equal(drawn(overlay, 640, 480), drawn(only, 640, 480))


def test_of_many_questions_the_newest_are_shown() -> None:
    many = drawn(overlay_of(640, 480, "Hg", 9), 640, 480)
    few = drawn(overlay_of(640, 480, "Hg", QUESTIONS), 640, 480)
    assert (many[:, 0] == 90).all(1).sum() == (few[:, 0] == 90).all(1).sum()


def test_the_frame_is_left_as_it_was() -> None:
    shown = frame(50, grey(640, 480))
    overlay_of(640, 480).draw(shown)
    assert (shown.pixels == 90).all()


@pytest.mark.parametrize(("width", "height"), [(1, 1), (8, 6), (40, 4), (3, 900), (64, 48)])
def test_the_smallest_picture_is_no_error(width: int, height: int) -> None:
    overlay = Overlay()
    pixels = grey(width, height)
    shown = frame(50, pixels)
    overlay.add(Seen(shown, "Open?", answer("yes", pixels, (0, 0, 0, 0)), 0.1, 0.4))
    drawn(overlay, width, height)


@pytest.mark.parametrize(("left", "on_the_left"), [(10, False), (400, True)])
def test_an_inset_leaves_alone_what_was_looked_at(left: int, on_the_left: bool) -> None:
    width = 640
    height = 480
    pixels = grey(width, height)
    overlay = Overlay()
    said = answer("closed", pixels, (left, 20, left + 200, 220))
    overlay.add(Seen(frame(50, pixels), "Is the gate open?", said, 0.1, 0.4))
    picture = drawn(overlay, width, height)
    lines = (picture[:120] == COLOURS[0]).all(2)
    at_the_left = lines[:, :8].any()
    at_the_right = lines[:, -8:].any()
    assert (bool(at_the_left), bool(at_the_right)) == (on_the_left, not on_the_left)


def test_what_was_asked_once_goes_with_the_next_answer() -> None:
    overlay = Overlay()
    overlay.add(seen(0, "yes", "Open?"))
    overlay.add(dataclasses.replace(seen(0, "no", "Who?"), once=True))
    assert list(overlay._answers) == ["Open?", "Who?"]
    overlay.add(seen(1, "yes", "Shut?"))
    assert list(overlay._answers) == ["Open?", "Shut?"]
