"""What a quantized export does to each matmul."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from vpt_edge.export.quantization.matmuls import find_matmuls
from vpt_edge.export.quantization.onnxruntime import OnnxRuntimeDialect
from vpt_edge.export.quantization.qdq import QdqDialect

if TYPE_CHECKING:
    import numpy as np
    import onnx_ir as ir
    from numpy.typing import NDArray

    from vpt_edge.calibration.recorder import Key
    from vpt_edge.calibration.smoothing import Smoothing
    from vpt_edge.export.quantization.matmuls import Matmul
    from vpt_edge.export.quantization.recipe import Recipe

    Array = NDArray[np.float32]

EVERY = "*"
HEAD = "lm_head.weight"  # of the matmul that chooses tokens


class Dialect(Protocol):
    """How a target writes quantized matmuls into the graph that the dialect was made for."""

    def int8(self, matmul: Matmul, threshold: float) -> None:
        """INT8 weights, a scale for each output; activations in steps of ``threshold`` / 127."""

    def int8_head(self, matmul: Matmul, threshold: float, block: int) -> None:
        """The same for the matmul that chooses tokens: only its largest outputs count."""

    def int4(self, matmul: Matmul, block: int, importance: Array) -> None:
        """INT4 weights, a scale for each ``block`` of inputs and each output.

        ``importance`` (inputs,): the mean square of what each row is multiplied with.
        """

    def int8_cache(self, scales: Mapping[str, Array]) -> None:
        """Keys and values of int8; ``scales`` (kv_heads * head_dim,) by part such as "0.key".

        Raises ExportError where the target has none.
        """

    def finish(self) -> None:
        """What is left to do when every matmul is written."""


DIALECTS: dict[str, Callable[[ir.Model, str], Dialect]] = {
    "onnxruntime": OnnxRuntimeDialect,
    "tensorrt": QdqDialect,
}


@dataclass(frozen=True)
class QuantizationPlan:
    """What a quantized export does to each matmul, by (graph, weight).

    ``smoothing`` by graph; ``thresholds`` clip the activations of int8 matmuls; ``importance`` is
    the mean square of what each row of an int4 weight is multiplied with, ``block`` the int4 block;
    ``floats`` are the matmuls that stay in float, with the reason; the weight "*" stands for every
    matmul of a graph. ``cache_scales`` has one for each channel (kv_heads * head_dim,) of an int8
    cache, by part such as "0.key"; nothing where the cache is of floats.
    """

    recipe: Recipe
    smoothing: Mapping[str, Smoothing]
    thresholds: Mapping[Key, float]
    importance: Mapping[Key, Array]
    floats: Mapping[Key, str]
    block: int
    cache_scales: Mapping[str, Array] = field(default_factory=dict)

    def kind(self, key: Key, inputs: int) -> str | None:
        """ "int8", "int4" or None; an int4 matmul whose inputs do not part into blocks becomes
        int8.
        """
        graph, _ = key
        if key in self.floats or (graph, EVERY) in self.floats:
            return None
        kind = self.recipe.kind(*key)
        if kind == "int4" and inputs % self.block:
            return "int8"
        return kind

    @property
    def divisors(self) -> dict[Key, NDArray[np.float64]]:
        """What smoothing divides the activation of each matmul by: (inputs,)."""
        divisors = {}
        for graph, smoothing in self.smoothing.items():
            for weight, divisor in smoothing.columns.items():
                divisors[graph, weight] = divisor
        return divisors

    def apply(self, model: ir.Model, graph: str, target: str, dtype: str) -> None:
        """Quantize the matmuls of ``model``, the graph ``graph`` written for ``target``, which
        computes in ``dtype``.
        """
        dialect = DIALECTS[target](model, dtype)
        for matmul in find_matmuls(model):
            self._quantize(dialect, matmul, (graph, matmul.name))
        if graph == "decoder" and self.cache_scales:
            dialect.int8_cache(self.cache_scales)
        dialect.finish()

    def _quantize(self, dialect: Dialect, matmul: Matmul, key: Key) -> None:
        kind = self.kind(key, matmul.inputs)
        if kind == "int8" and matmul.name == HEAD:
            dialect.int8_head(matmul, self.thresholds[key], self.block)
        elif kind == "int8":
            dialect.int8(matmul, self.thresholds[key])
        elif kind == "int4":
            dialect.int4(matmul, self.block, self.importance[key])

    def to_dict(self) -> dict[str, Any]:
        """What ``ranges.json`` has: thresholds and the alphas of smoothing by graph, and the steps
        of an int8 cache.
        """
        thresholds: dict[str, dict[str, float]] = {}
        for (graph, weight), threshold in self.thresholds.items():
            thresholds.setdefault(graph, {})[weight] = threshold
        alphas = {graph: smoothing.alphas for graph, smoothing in self.smoothing.items()}
        data: dict[str, Any] = {"thresholds": thresholds, "smoothing": alphas}
        if self.cache_scales:
            data["cache"] = {part: scales.tolist() for part, scales in self.cache_scales.items()}
        return data
