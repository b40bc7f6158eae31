"""Which samples calibrate and which judge depends on their content alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from vpt_edge.calibration.sample import Sample
from vpt_edge.export.quantization.selection import split
from vpt_edge.runtime.errors import VptError

if TYPE_CHECKING:
    from pathlib import Path


def draw(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (30, 40, 3), np.uint8)
    Image.fromarray(pixels).save(path, "PNG")
    return path


def questions(folder: Path, pictures: int, each: int, names: str = "abcdefgh") -> list[Sample]:
    paths = [draw(folder / f"{names[index]}.png", index) for index in range(pictures)]
    return [Sample(path, f"Question {index}") for path in paths for index in range(each)]


def test_the_parts_depend_on_the_content_alone(tmp_path: Path) -> None:
    samples = questions(tmp_path / "here", 8, 2)
    calibration, gate = split(samples)
    assert (len(calibration), len(gate)) == (12, 4)
    assert [sample for sample in samples if sample in calibration] == list(calibration)
    assert set(calibration) | set(gate) == set(samples)
    again = split(samples[::-1])
    assert set(again[1]) == set(gate)
    moved = questions(tmp_path / "there", 8, 2, "hgfedcba")
    assert [moved.index(sample) for sample in split(moved)[1]] == [
        samples.index(sample) for sample in gate
    ]
    assert not {sample.image for sample in gate} & {sample.image for sample in calibration}


@pytest.mark.parametrize("count", range(8))
@pytest.mark.parametrize("share", [0.01, 0.25, 0.99])
def test_no_part_is_empty_where_two_are_possible(count: int, share: float, tmp_path: Path) -> None:
    samples = questions(tmp_path, 1, count)
    calibration, gate = split(samples, share)
    assert len(calibration) + len(gate) == count
    assert (len(calibration) > 0, len(gate) > 0) == (count > 0, count > 1)


@pytest.mark.parametrize("share", [0, 1, -1, float("nan")])
def test_a_share_is_between_none_and_all(share: float) -> None:
    with pytest.raises(VptError, match="held_out"):
        split([], share)
