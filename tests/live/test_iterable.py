"""An application's own frames are a source."""

from __future__ import annotations

import numpy as np
import pytest

from vpt_edge import live
from vpt_edge.live.frame import ArrayRaster, Frame
from vpt_edge.live.source import each_frame
from vpt_edge.runtime.errors import SourceError


def arrays(count: int) -> list[np.ndarray]:
    return [np.full((4, 6, 3), index, np.uint8) for index in range(count)]


def test_every_array_comes() -> None:
    for items in (arrays(3), iter(arrays(3)), (each for each in arrays(3)), np.stack(arrays(3))):
        source = live.open(items)
        frames = list(each_frame(source))
        assert [frame.pixels.max() for frame in frames] == [0, 1, 2]
        assert not source.live


def test_frames_stay_as_they_are() -> None:
    frame = Frame(7, 1.5, 2.5, 3.5, "mine", ArrayRaster(arrays(1)[0]), {"a": "b"})
    (kept,) = each_frame(live.open([frame]))
    assert (kept.number, kept.truth, kept.source) == (7, {"a": "b"}, "mine")


def test_their_rate_places_them() -> None:
    positions = [frame.position for frame in each_frame(live.open(arrays(3), rate=2))]
    assert positions == [0, 0.5, 1]


def test_an_array_that_changes_later_does_not_change_a_frame() -> None:
    array = arrays(1)[0]
    (frame,) = each_frame(live.open([array]))
    assert frame.pixels.max() == 0
    array[:] = 9
    assert frame.pixels.max() == 0


@pytest.mark.parametrize(
    "item",
    [
        "a.jpg",
        None,
        np.zeros((4, 6), np.uint8),
        np.zeros((4, 6, 4), np.uint8),
        np.zeros((4, 6, 3), np.float32),
        np.zeros((0, 6, 3), np.uint8),
    ],
)
def test_what_is_not_a_frame_is_said(item: object) -> None:
    source = live.open([*arrays(1), item])
    assert source.poll() is not None
    with pytest.raises(SourceError, match=r"item 1 of the list is .*expected a Frame, or an array"):
        source.poll()


def test_an_error_of_the_application_stays_its_own() -> None:
    def items() -> object:
        yield arrays(1)[0]
        raise ZeroDivisionError

    source = live.open(items())
    assert source.poll() is not None
    with pytest.raises(ZeroDivisionError):
        source.poll()
    assert source.state == "ended"
