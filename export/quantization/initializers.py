"""Constants and leftovers among the stored tensors of a graph."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from vpt_edge.export.weights import add_initializer

if TYPE_CHECKING:
    from numpy.typing import NDArray


def add_constant(graph: ir.Graph, name: str, array: NDArray[Any]) -> ir.Value:
    """The initializer ``name`` of ``graph``, made of ``array`` where it is not there yet."""
    if name in graph.initializers:
        return graph.initializers[name]
    dtype = ir.DataType.from_numpy(array.dtype)
    return add_initializer(graph, name, dtype, array.shape, lambda: array)


def drop_unused(graph: ir.Graph, values: Iterable[ir.Value]) -> None:
    """Remove those initializers among ``values`` that no node takes any more."""
    for value in list(values):
        if not value.uses():
            del graph.initializers[value.name or ""]
