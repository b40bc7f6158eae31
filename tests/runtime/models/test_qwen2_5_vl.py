"""Qwen2.5-VL's windows: every patch in one of them, in the order of the authors' code."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from families import write_checkpoint
from hypothesis import example, given
from hypothesis import strategies as st
from pictures import noise

from vpt_edge.export.exporter import export
from vpt_edge.runtime.context import Encoded
from vpt_edge.runtime.errors import BundleError
from vpt_edge.runtime.manifest import ImageConfig
from vpt_edge.runtime.models import open_tower
from vpt_edge.runtime.models.qwen2_5_vl import Qwen25VL, cut_windows
from vpt_edge.runtime.models.qwen2_vl import PROCESSOR

if TYPE_CHECKING:
    from vpt_edge.runtime import Bundle
    from vpt_edge.runtime.models import Tower

LIMITS = ImageConfig(None, 3136, 1000000)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("qwen2_5_vl")
    source = write_checkpoint(folder / "checkpoint", "qwen2_5_vl")
    return export(str(source), folder / "bundle", precision="fp32")


def test_a_picture_of_six_tokens_a_side_has_four_windows() -> None:
    windows = cut_windows((1, 12, 12), 4)
    assert windows.lengths.tolist() == [64, 32, 32, 16]
    tokens = (windows.order[::4] // 4).tolist()
    assert tokens[:16] == [0, 1, 2, 3, 6, 7, 8, 9, 12, 13, 14, 15, 18, 19, 20, 21]
    assert tokens[16:24] == [4, 5, 10, 11, 16, 17, 22, 23]
    assert tokens[24:] == [24, 25, 26, 27, 30, 31, 32, 33, 28, 29, 34, 35]
    assert windows.places[64:66].tolist() == [64, 65]  # the second window's first
    assert windows.places[96] == 128
    assert windows.slots[1, 31] == 95
    assert windows.slots[1, 32:].tolist() == [0] * 32


@given(rows=st.integers(1, 20), columns=st.integers(1, 20), window=st.integers(1, 6))
@example(rows=1, columns=1, window=4)
@example(rows=8, columns=8, window=4)
def test_every_patch_has_one_slot(rows: int, columns: int, window: int) -> None:
    windows = cut_windows((1, 2 * rows, 2 * columns), window)
    count = 4 * rows * columns
    assert sorted(windows.order.tolist()) == list(range(count))
    assert len(windows.lengths) == -(-rows // window) * -(-columns // window)
    assert windows.lengths.sum() == count and windows.lengths.min() > 0
    assert len(windows.lengths) <= -(-rows * columns // window)  # the graph's bound
    np.testing.assert_array_equal(windows.slots.reshape(-1)[windows.places], np.arange(count))
    filled = np.arange(windows.slots.shape[1]) < windows.lengths[:, None]
    assert filled.sum() == count
    assert set(np.flatnonzero(filled)) == set(windows.places.tolist())
    tokens = windows.order[::4] // 4
    row, column = np.divmod(tokens, columns)
    of_window = np.repeat(np.arange(len(windows.lengths)), windows.lengths // 4)
    for number in range(len(windows.lengths)):
        inside = of_window == number
        assert np.ptp(row[inside]) < window and np.ptp(column[inside]) < window
        assert (np.diff(tokens[inside]) > 0).all()  # in reading order


def test_patches_and_rotations_come_window_by_window(bundle: Bundle) -> None:
    tower = open_tower(bundle.manifest)
    patches = tower.preprocess(noise(300, 200), LIMITS)
    windows = cut_windows(patches.grid, 4)
    inputs = tower.inputs(patches)
    np.testing.assert_array_equal(inputs["patches"][0], patches.values[windows.order])
    _, rows, columns = patches.grid
    assert inputs["cos"].shape == (rows * columns, 8)
    second = np.flatnonzero(windows.order == 1)[0]
    assert inputs["cos"][second, 0] == 1.0  # the second patch of the first row: no row turns it
    assert inputs["cos"][second, 4] == pytest.approx(np.cos(1.0))


def test_features_are_put_back_in_reading_order(bundle: Bundle) -> None:
    tower = open_tower(bundle.manifest)
    grid = (1, 14, 22)
    tokens = cut_windows(grid, 4).order[::4] // 4
    features = tokens[:, None].astype(np.float32) + np.zeros((1, 3), np.float32)
    restored = tower.restore(features, grid)
    np.testing.assert_array_equal(restored[:, 0], np.arange(77))
    assert restored.dtype == np.float32


def test_time_counts_as_the_checkpoint_says(bundle: Bundle) -> None:
    """Two positions a second from the first pair on; 2.9 - 0.4 is less than 2.5 in floats."""
    tower = open_tower(bundle.manifest)
    pair = Encoded(np.zeros((6, 3), np.float32), (1, 4, 6))
    moments = ((0.4, 0.9), (1.1, 1.2), (2.9, 3.0), (9.0, 9.0))
    (scene,) = tower.join_frames([pair] * 4, moments)
    assert scene.grid == (4, 4, 6)
    assert scene.times == (0, 1, 5, 17)


def test_a_bundle_that_does_not_say_how_time_counts_takes_no_frames(bundle: Bundle) -> None:
    model = {**bundle.manifest.model}
    del model["tokens_per_second"]
    tower = open_tower(replace(bundle.manifest, model=model))
    pair = Encoded(np.zeros((6, 3), np.float32), (1, 4, 6))
    with pytest.raises(BundleError, match="how many positions a second of a scene takes"):
        tower.join_frames([pair], [(0.0, 1.0)])


def test_the_manifest_names_it(bundle: Bundle) -> None:
    tower: Tower = Qwen25VL(bundle.manifest)  # mypy holds it against the protocol
    assert isinstance(open_tower(bundle.manifest), type(tower))
    assert bundle.manifest.model == {
        "name": "qwen2_5_vl",
        "head_dim": 16,
        "window": 4,
        "tokens_per_second": 2.0,
    }
    assert tower.grid((333, 517), LIMITS) == (1, 36, 24)
    assert PROCESSOR.most_tokens(bundle.manifest.image) == 2048


@pytest.mark.parametrize(
    ("block", "found"),
    [
        ({"window": 3}, "slots is int64"),
        ({"window": 0}, "window is 0, expected"),
        ({"head_dim": 8}, "cos is float32"),
        ({"head_dim": 6}, "head_dim is 6, expected a multiple of 4"),
    ],
)
def test_a_block_that_is_not_the_graphs_is_refused(
    block: dict[str, int], found: str, bundle: Bundle
) -> None:
    manifest = replace(bundle.manifest, model={**bundle.manifest.model, **block})
    with pytest.raises(BundleError, match=found):
        open_tower(manifest)
