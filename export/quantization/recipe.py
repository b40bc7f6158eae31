"""What each precision does to a graph; one ``Recipe`` each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

INT4_BLOCK = 128  # GPTQ's and AWQ's group; with 64, twice as many scales make a step a tenth longer


@dataclass(frozen=True)
class Recipe:
    """``dtype`` by target: what weights are stored in, if they are not quantized, and a float
    cache.

    ``tolerance`` of a float graph's difference from torch, relative to the largest value of an
    output. ``matmuls`` says, for a quantized recipe, what becomes of each graph's matmuls:
    "int8" (weights and activations) or "int4" (weights alone, in blocks); ``exceptions`` are
    weights that are treated otherwise. Norms, softmax, rotary embedding, the residual stream and
    the condition's projector compute in float in every precision.
    """

    name: str
    dtype: Mapping[str, str]
    tolerance: float = 0.0
    matmuls: Mapping[str, str] = field(default_factory=dict)
    exceptions: Mapping[str, str] = field(default_factory=dict)

    @property
    def quantized(self) -> bool:
        return bool(self.matmuls)

    def kind(self, graph: str, weight: str) -> str | None:
        """ "int8", "int4" or None for the matmul of ``graph`` with ``weight``."""
        return self.exceptions.get(weight, self.matmuls.get(graph))


def _everywhere(dtype: str) -> Mapping[str, str]:
    return {"onnxruntime": dtype, "tensorrt": dtype}


# A CPU computes in float32, TensorRT in float16.
_FLOAT = {"onnxruntime": "float32", "tensorrt": "float16"}
_ENCODERS = {"vision_encoder": "int8", "reencoder_features": "int8"}

RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("fp32", _everywhere("float32"), tolerance=2e-5),
        Recipe("fp16", _everywhere("float16"), tolerance=1e-2),
        Recipe("int8", _FLOAT, matmuls={**_ENCODERS, "decoder": "int8"}),
        Recipe(
            "int4",
            _FLOAT,
            matmuls={**_ENCODERS, "decoder": "int4"},
            exceptions={"lm_head.weight": "int8"},
        ),
    )
}
