"""Stored tensors of a graph whose bytes are computed when they are written."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

if TYPE_CHECKING:
    from numpy.typing import NDArray


def add_lazy(
    graph: ir.Graph,
    name: str,
    dtype: ir.DataType,
    shape: Iterable[int],
    make: Callable[[], NDArray[Any]],
) -> ir.Value:
    """A new initializer of ``graph``; ``make`` is called each time its bytes are asked for."""
    sizes = ir.Shape([int(size) for size in shape])
    value = ir.Value(name=name, shape=sizes, type=ir.TensorType(dtype))

    def tensor() -> ir.TensorProtocol:
        return ir.tensor(np.ascontiguousarray(make(), dtype.numpy()), dtype=dtype)

    value.const_value = ir.LazyTensor(tensor, dtype=dtype, shape=sizes, name=name)
    graph.register_initializer(value)
    return value


def add_constant(graph: ir.Graph, name: str, array: NDArray[Any]) -> ir.Value:
    """The initializer ``name`` of ``graph``, made of ``array`` where it is not there yet."""
    if name in graph.initializers:
        return graph.initializers[name]
    return add_lazy(graph, name, ir.DataType.from_numpy(array.dtype), array.shape, lambda: array)


def drop_unused(graph: ir.Graph, values: Iterable[ir.Value]) -> None:
    """Remove those initializers among ``values`` that no node takes any more."""
    for value in list(values):
        if not value.uses():
            del graph.initializers[value.name or ""]
