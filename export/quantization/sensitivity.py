"""How much each matmul's output changes when its weight and its activation are rounded."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from vpt_edge.calibration.recorder import RowRecorder
from vpt_edge.export.quantization.rounding import int4_weight, int8_weight

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vpt_edge.calibration.recorder import Key
    from vpt_edge.export.quantization.plan import QuantizationPlan

    Array = NDArray[np.float32]

OUTPUTS = 1024  # of a weight, that its rounding is measured on


class Sensitivity:
    """Measures the matmuls that ``plan`` quantizes, on what ``recorder`` is told.

    ``read`` gives a weight (outputs, inputs) without its folds; of a large one, some of the outputs
    are measured.
    """

    def __init__(self, plan: QuantizationPlan, read: Callable[[Key], Array]) -> None:
        self.recorder = RowRecorder(plan.divisors, plan.thresholds)
        self._plan = plan
        self._read = read

    @cached_property
    def errors(self) -> dict[Key, float]:
        """Relative error of each matmul's output, the largest first: measured once, when the
        recorder has seen what it is to see.
        """
        errors = {}
        for key in self.recorder.keys:
            if self._plan.recipe.kind(*key):
                errors[key] = math.sqrt(self.recorder.error(key, *self._round(key)))
        return dict(sorted(errors.items(), key=lambda item: -item[1]))

    def _round(self, key: Key) -> tuple[Array, Array]:
        """Some of the weight's outputs as (inputs, outputs), in float and as they are stored."""
        graph, name = key
        weight = self._read(key)
        step = max(1, len(weight) // OUTPUTS)
        rows = weight[::step].astype(np.float64)
        if graph in self._plan.smoothing:
            rows = self._plan.smoothing[graph].apply(name, rows, step=step)
        matrix: Array = np.ascontiguousarray(rows.T, np.float32)
        kind = self._plan.kind(key, len(matrix))
        if kind == "int8":
            integers, scale = int8_weight(matrix, axis=1)
            return matrix, (integers * scale).astype(np.float32)
        if kind == "int4":
            block = self._plan.block
            integers, scales = int4_weight(matrix, block, self._plan.importance[key])
            rounded = (integers * np.repeat(scales, block, axis=0)).astype(np.float32)
            return matrix, rounded[: len(matrix)]
        return matrix, matrix
