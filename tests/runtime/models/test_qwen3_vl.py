"""What Qwen3-VL's tower feeds its graphs; that it is transformers' bits is held by tests/parity."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pictures import noise

from vpt_edge.runtime.errors import BundleError, SessionError
from vpt_edge.runtime.manifest import ImageConfig, Tensor
from vpt_edge.runtime.models import open_tower
from vpt_edge.runtime.models.qwen3_vl import PROCESSOR, Qwen3VL
from vpt_edge.runtime.perception import open_perception
from vpt_edge.runtime.perception.none import NoneConfig, block
from vpt_edge.runtime.stopwatch import Stopwatch
from vpt_edge.runtime.testing import HIDDEN, LEVELS, ScriptedSession, tiny_bundle
from vpt_edge.runtime.vision import Vision

if TYPE_CHECKING:
    from vpt_edge.runtime.bundle import Bundle
    from vpt_edge.runtime.manifest import Manifest

PLAIN = block(NoneConfig(None, None))
RELEASED = ImageConfig(None, 65536, 16777216)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("tiny")
    return tiny_bundle(folder, model="qwen3_vl", perception=PLAIN)


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        ((640, 480), (640, 480)),
        ((641, 479), (640, 480)),
        ((100, 100), (256, 256)),  # 65,536 pixels at least
        ((32, 32), (256, 256)),
        ((10, 2000), (32, 3648)),
        ((48, 80), (224, 352)),
        ((1200, 900), (1216, 896)),  # 37.5 and 28.125, to the even number
        ((8000, 6000), (4704, 3520)),
    ],
)
def test_sizes_are_multiples_of_32(size: tuple[int, int], shown: tuple[int, int]) -> None:
    assert PROCESSOR.shown_size(size, RELEASED) == shown
    assert PROCESSOR.grid(size, RELEASED) == (1, shown[1] // 16, shown[0] // 16)


@given(width=st.integers(1, 5000), height=st.integers(1, 5000))
def test_no_picture_has_more_tokens_than_are_announced(width: int, height: int) -> None:
    if max(width, height) / min(width, height) <= 200:
        _, rows, columns = PROCESSOR.grid((width, height), RELEASED)
        assert 0 < rows * columns // 4 <= PROCESSOR.most_tokens(RELEASED)


def test_pixels_are_from_minus_one_to_one(bundle: Bundle) -> None:
    patches = open_tower(bundle.manifest).preprocess(noise(96, 64), bundle.manifest.image)
    assert patches.values.shape == (24, 1536)
    assert (patches.values.min(), patches.values.max()) == (-1, 1)
    patch = patches.values[0].reshape(3, 2, 256)
    assert np.array_equal(patch[:, 0], patch[:, 1])  # one picture is both frames


def test_the_inputs_are_those_of_the_graph(bundle: Bundle) -> None:
    tower = open_tower(bundle.manifest)
    inputs = tower.inputs(tower.preprocess(noise(96, 64), bundle.manifest.image))
    assert list(inputs) == [tensor.name for tensor in bundle.graph("vision_encoder").inputs]
    assert {name: array.dtype.name for name, array in inputs.items() if name != "taps"} == {
        name: "float32" for name in inputs if name != "taps"
    }
    assert inputs["taps"].dtype == np.int64
    assert inputs["taps"].min() == 0
    assert inputs["taps"].max() == 15  # of a table of 4x4


def test_a_picture_brings_its_deep_features(bundle: Bundle) -> None:
    way = open_perception(bundle.manifest)
    session = ScriptedSession(bundle, "vision_encoder", [])
    encoded = Vision(bundle.manifest, way, {"vision_encoder": session}).encode(
        noise(96, 64), Stopwatch()
    )
    assert encoded.deep is not None
    assert (encoded.features.shape, encoded.deep.shape) == ((6, HIDDEN), (LEVELS, 6, HIDDEN))


class Overflowing(ScriptedSession):
    """Its deep features are not finite: its features alone would not tell."""

    def run(self, inputs: Any, outputs: Any) -> None:
        super().run(inputs, outputs)
        outputs["deep"][-1, -1, -1] = np.inf


def test_deep_features_that_are_not_finite_name_the_graph(bundle: Bundle) -> None:
    way = open_perception(bundle.manifest)
    sessions = {"vision_encoder": Overflowing(bundle, "vision_encoder", [])}
    with pytest.raises(SessionError, match="vision_encoder computed numbers that are not finite"):
        Vision(bundle.manifest, way, sessions).encode(noise(96, 64), Stopwatch())


def changed(manifest: Manifest, name: str, *tensors: Tensor) -> Manifest:
    """``manifest`` whose graph ``name`` takes ``tensors`` in the place of those of their names."""
    graph = manifest.graphs[name]
    names = {tensor.name for tensor in tensors}
    kept = [tensor for tensor in graph.inputs if tensor.name not in names]
    graphs = {**manifest.graphs, name: replace(graph, inputs=(*kept, *tensors))}
    return replace(manifest, graphs=graphs)


def test_a_decoder_of_other_levels_is_refused(bundle: Bundle) -> None:
    deep = Tensor("deep", "float32", (LEVELS + 1, "sequence", HIDDEN))
    with pytest.raises(BundleError, match="takes deep features of 3 levels, expected 2"):
        Qwen3VL(changed(bundle.manifest, "decoder", deep))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("levels", 0),
        ("levels", 3),
        ("levels", "2"),
        ("positions_side", 0),
        ("positions_side", None),
        ("head_dim", 6),
        ("head_dim", 12),
    ],
)
def test_a_block_that_contradicts_the_graphs_is_refused(
    key: str, value: object, bundle: Bundle
) -> None:
    manifest = bundle.manifest
    with pytest.raises(BundleError):
        Qwen3VL(replace(manifest, model={**manifest.model, key: value}))


def test_other_limits_are_refused(bundle: Bundle) -> None:
    image = ImageConfig(None, 1, 32 * 32 - 1)
    with pytest.raises(BundleError, match="max_pixels is 1023, expected at least 1024"):
        Qwen3VL(replace(bundle.manifest, image=image))
