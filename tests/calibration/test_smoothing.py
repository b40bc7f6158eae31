"""Folds leave the float model as it is, and make outliers small where that helps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from families import write_checkpoint
from golden import GOLDEN, TAGS

from vpt_edge.calibration.ranges import Statistics
from vpt_edge.calibration.smoothing import Fold, Smoothing, SmoothingSearch
from vpt_edge.export.attention import TARGETS, PlainAttention
from vpt_edge.export.checkpoint import Checkpoint
from vpt_edge.export.quantization.rounding import int4_weight
from vpt_edge.runtime.models.qwen2_5_vl import cut_windows
from vpt_edge.runtime.positions import vision_rope

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from vpt_edge.export.spec import Spec

    Array = NDArray[np.float64]

CHECKPOINTS = [TAGS, *(GOLDEN / "models" / name for name in ("det", "seg") if GOLDEN.is_dir())]


def with_random_folds(spec: Spec, weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights with every fold of ``spec`` applied at random scales."""
    rng, smoothing = np.random.default_rng(0), Smoothing()
    for fold in spec.folds:
        scale = rng.uniform(0.1, 10, fold.channels)
        smoothing.rows |= dict.fromkeys(fold.producers, (fold.start, scale))
        smoothing.columns |= {name: scale[np.array(fold.channel)] for name in fold.consumers}
    return {
        name: torch.from_numpy(smoothing.apply(name, tensor.numpy()))
        for name, tensor in weights.items()
    }


@pytest.mark.parametrize("path", CHECKPOINTS, ids=lambda path: path.name)
def test_every_fold_leaves_the_model_as_it_is(path: object) -> None:
    check_folds(Checkpoint.open(str(path)))


def test_every_fold_leaves_windows_as_they_are(tmp_path: Path) -> None:
    check_folds(Checkpoint.open(str(write_checkpoint(tmp_path, "qwen2_5_vl"))))


def check_folds(checkpoint: Checkpoint) -> None:
    for spec in checkpoint.specs("onnxruntime", "float32", 64).values():
        if not spec.folds:
            continue
        module = spec.build(PlainAttention).double().eval()
        weights = {name: spec.read(name, checkpoint.read).double() for name in module.state_dict()}
        names = {name for fold in spec.folds for name in (*fold.producers, *fold.consumers)}
        assert names <= set(weights), "a fold names a parameter that is not there"
        outputs = []
        for version in (weights, with_random_folds(spec, weights)):
            module.load_state_dict(version)
            with torch.inference_mode():
                result = module(*inputs(spec, checkpoint))
            outputs.append(result[0] if isinstance(result, tuple) else result)
        np.testing.assert_allclose(
            outputs[1], outputs[0], rtol=0, atol=2e-4 * float(outputs[0].abs().max())
        )


def inputs(spec: Spec, checkpoint: Checkpoint) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    if spec.name == "vision_encoder":
        block = checkpoint.model.tower.block()
        patches = torch.randn(1, 24, 1176, generator=generator)
        arrays: list[NDArray[Any]] = list(vision_rope(4, 6, 2, block["head_dim"]))
        if "window" in block:
            windows = cut_windows((1, 4, 6), 1)
            arrays += [windows.slots, windows.places, windows.lengths]
        return [patches, *map(torch.from_numpy, arrays)]
    if spec.name == "decoder":
        half = checkpoint.text.head_dim // 2
        embeds = torch.randn(1, 5, checkpoint.text.hidden_size, generator=generator)
        return [
            embeds,
            torch.rand(5, half, generator=generator),
            torch.rand(5, half, generator=generator),
        ]
    return [torch.randn(*(int(size) for size in spec.graph.inputs[0].shape), generator=generator)]


def search(
    fold: Fold, statistics: Statistics, weight: Array, int4_block: int | None = None
) -> Smoothing:
    """The smoothing of one matmul, which becomes INT8 or INT4."""
    is_int4 = int4_block is not None
    chosen = SmoothingSearch(
        {"matmul": statistics}, lambda name: weight, lambda name: is_int4, int4_block or 32
    )
    return chosen.run([fold])


def test_a_loud_channel_is_smoothed_and_an_even_tensor_is_left_alone() -> None:
    rng = np.random.default_rng(0)
    even, weight = rng.standard_normal((400, 16)), rng.standard_normal((8, 16))
    loud, quiet = even.copy(), weight.copy()
    loud[:, 3] *= 200
    quiet[:, 3] /= 200
    fold = Fold(("norm",), ("matmul",), tuple(range(16)))
    for values, matrix, strong in ((loud, quiet, True), (even, weight, False)):
        statistics = Statistics(16)
        statistics.observe(values.astype(np.float32))
        smoothing = search(fold, statistics, matrix)
        spread = 1.0
        if smoothing.rows:
            _, scale = smoothing.rows["norm"]
            spread = scale[3] / np.median(scale)
        assert (spread > 20) == strong


def int4_error(weight: Array, squares: Array, scale: Array, block: int) -> float:
    """Of the outputs, squared, when ``weight`` (outputs, inputs) is rounded behind the fold
    ``scale``.
    """
    turned, shares = (weight * scale).T.astype(np.float32), squares / scale**2
    integers, steps = int4_weight(turned, block, shares.astype(np.float32))
    rounded = integers * np.repeat(steps, block, axis=0)
    return float((np.square(rounded - turned) * shares[:, None]).sum())


def test_int4_is_smoothed_for_its_own_blocks() -> None:
    """A block's step is that of its largest weight: the longer the block, the less may one column
    grow.
    """
    rng, fold = np.random.default_rng(3), Fold(("norm",), ("matmul",), tuple(range(128)))
    values, weight = rng.standard_normal((400, 128)), rng.standard_normal((64, 128))
    values *= rng.lognormal(0, 1, 128)
    seen = Statistics(128)
    seen.observe(values.astype(np.float32))
    short = search(fold, seen, weight, int4_block=32).columns["matmul"]
    long = search(fold, seen, weight, int4_block=128).columns["matmul"]
    for block, own, other in ((32, short, long), (128, long, short)):
        own_error = int4_error(weight, seen.mean_squares, own, block)
        assert own_error < int4_error(weight, seen.mean_squares, other, block)


def test_an_unobserved_fold_is_left_alone() -> None:
    fold = Fold(("norm",), ("matmul",), tuple(range(4)))
    search = SmoothingSearch({}, lambda name: np.ones((2, 4)), lambda name: False, 32)
    smoothing = search.run([fold])
    assert not smoothing.touches("norm")
    assert not smoothing.touches("matmul")


def test_both_targets_share_the_folds() -> None:
    checkpoint = Checkpoint.open(str(TAGS))
    folds = []
    for target, dtype in zip(TARGETS, ("float32", "float16"), strict=True):
        specs = checkpoint.specs(target, dtype, 64)
        folds.append({name: spec.folds for name, spec in specs.items()})
    assert folds[0] == folds[1]
