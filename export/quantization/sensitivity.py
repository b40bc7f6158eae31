"""How much each product's output changes when its weight and its activation are rounded."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from vpt_edge.export.quantization.rounding import int4_weight, int8_weight

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vpt_edge.calibration.recorder import Key, Sensitivity
    from vpt_edge.export.quantization.plan import Plan

    Array = NDArray[np.float32]

OUTPUTS = 1024  # of a weight, that its rounding is measured on


def rounding_errors(
    plan: Plan, kept: Sensitivity, read: Callable[[Key], Array]
) -> dict[Key, float]:
    """Relative error of each quantized product's output, the largest first, on the rows that were
    ``kept``.

    ``read`` gives a weight (outputs, inputs) without its folds; of a large one, some of the outputs
    are measured."""
    quantized = [key for key in kept.keys if plan.recipe.kind(*key)]
    errors = {key: math.sqrt(kept.error(key, *_rounded(plan, key, read(key)))) for key in quantized}
    return dict(sorted(errors.items(), key=lambda item: -item[1]))


def _rounded(plan: Plan, key: Key, weight: Array) -> tuple[Array, Array]:
    """Some of the weight's outputs as (inputs, outputs), in float and as they are stored."""
    graph, name = key
    step = max(1, len(weight) // OUTPUTS)
    rows = weight[::step].astype(np.float64)
    if graph in plan.smoothing:
        rows = plan.smoothing[graph].scaled(name, rows, step=step)
    matrix: Array = np.ascontiguousarray(rows.T, np.float32)
    kind = plan.kind(key, len(matrix))
    if kind == "int8":
        integers, scale = int8_weight(matrix, axis=1)
        return matrix, (integers * scale).astype(np.float32)
    if kind == "int4":
        integers, scales = int4_weight(matrix, plan.block, plan.importance[key])
        return matrix, (integers * np.repeat(scales, plan.block, axis=0)).astype(np.float32)[
            : len(matrix)
        ]
    return matrix, matrix
