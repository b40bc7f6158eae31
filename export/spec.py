"""One graph to be exported, and the words in which a model describes its tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor, nn

from vpt_edge.runtime import manifest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vpt_edge.calibration.smoothing import Fold, Smoothing
    from vpt_edge.export.attention import AttentionType, Target

    Array = NDArray[np.float32]

OPSET = 19  # the newest that TensorRT 10.3 takes in full; FP16 scales of Q/DQ need it

CACHE_FLOOR = 1e-6  # the least that a channel of the cache is taken to reach

Shape = tuple[int, ...]
WeightTransforms = dict[str, Callable[[Tensor], Tensor]]


@dataclass(frozen=True)
class GraphOptions:
    """What graphs are written for: ``dtype`` is what they compute in ("float32" or "float16"),
    ``cache_tokens`` the cache's capacity, ``image_tokens`` the most of one picture.
    """

    target: Target
    dtype: str
    cache_tokens: int
    image_tokens: int


@dataclass(frozen=True)
class Spec:
    """One graph to be exported: its interface, its torch module, and where the module's weights
    come from.

    ``build`` makes the module for an attention; ``tensor_name`` gives a parameter's name in the
    checkpoint, ``weight_transforms`` by parameter what brings a tensor into the module's shape.
    ``ratios`` names dynamic axes that are multiples of another: {"patches": ("tokens", 4)};
    ``folds`` are where quantization may smooth outliers; ``value_weights`` by part of the cache
    ("0.value") the parameter that makes it.
    """

    graph: manifest.Graph
    build: Callable[[AttentionType], nn.Module]
    tensor_name: Callable[[str], str]
    weight_transforms: WeightTransforms = field(default_factory=dict)
    ratios: dict[str, tuple[str, int]] = field(default_factory=dict)
    folds: tuple[Fold, ...] = ()
    value_weights: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.graph.file.removesuffix(".onnx")

    def read(self, parameter: str, read: Callable[[str], Tensor]) -> Tensor:
        """A module's parameter in its shape; ``read`` gives a tensor of the checkpoint by name."""
        tensor = read(self.tensor_name(parameter))
        if parameter not in self.weight_transforms:
            return tensor
        return self.weight_transforms[parameter](tensor)

    def cache_scales(
        self, largest: Mapping[str, Array], smoothing: Smoothing | None
    ) -> dict[str, Array]:
        """The steps of an int8 cache by part and channel, from the ``largest`` that the float model
        wrote.

        Smoothing changes the values: what it divides in the weight that makes them is multiplied
        again behind the cache.
        """
        rows = {} if smoothing is None else smoothing.rows
        scales = {}
        for part, most in largest.items():
            weight = self.value_weights.get(part)
            reach: NDArray[Any] = most
            if weight in rows:
                _, divisor = rows[weight]
                reach = most / divisor
            scales[part] = (np.maximum(reach, CACHE_FLOOR) / 127).astype(np.float32)
        return scales


def floats(name: str, *shape: int | str) -> manifest.Tensor:
    """A float32 input or output of a graph."""
    return manifest.Tensor(name, "float32", shape)


def weight_and_bias(name: str, shape: Shape) -> dict[str, Shape]:
    """The tensors of a layer with a bias, by name."""
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def with_cache(graph: manifest.Graph, dtype: str) -> manifest.Graph:
    """``graph`` with keys and values of ``dtype``."""
    return replace(
        graph,
        inputs=_with_cache(graph.inputs, dtype),
        outputs=_with_cache(graph.outputs, dtype),
    )


def _with_cache(tensors: tuple[manifest.Tensor, ...], dtype: str) -> tuple[manifest.Tensor, ...]:
    changed = []
    for tensor in tensors:
        if tensor.name.startswith(("past.", "present.")):
            tensor = replace(tensor, dtype=dtype)
        changed.append(tensor)
    return tuple(changed)
