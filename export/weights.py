"""The weights of a graph: computed when they are written, a few at a time."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
import torch
from onnxscript import optimizer
from torch import Tensor, nn

from vpt_edge.export.quantization.rounding import int8_weight
from vpt_edge.runtime.errors import ExportError

if TYPE_CHECKING:
    from numpy.typing import NDArray

WRITERS = 2  # weights in memory at a time; rounding and reading leave the interpreter
INLINE_BYTES = 1024  # what is smaller stays inside the .onnx file
SHAPE_NUMBERS = 32  # arithmetic on shapes is folded; weights have more numbers and are not
ROWS = 4096  # of an embedding table, that are written at a time
TRANSPOSED = ".transposed"  # behind the name of a weight that is stored for MatMul


def lazy_tensor(
    name: str, dtype: ir.DataType, shape: Iterable[int], make: Callable[[], NDArray[Any]]
) -> ir.LazyTensor:
    """A stored tensor; ``make`` is called each time its bytes are asked for, and may give an array
    of another dtype and order.
    """

    def tensor() -> ir.TensorProtocol:
        return ir.tensor(np.ascontiguousarray(make(), dtype.numpy()), dtype=dtype)

    sizes = ir.Shape([int(size) for size in shape])
    return ir.LazyTensor(tensor, dtype=dtype, shape=sizes, name=name)


def add_initializer(
    graph: ir.Graph,
    name: str,
    dtype: ir.DataType,
    shape: Iterable[int],
    make: Callable[[], NDArray[Any]],
) -> ir.Value:
    """A new initializer of ``graph``: a ``lazy_tensor``."""
    tensor = lazy_tensor(name, dtype, shape, make)
    value = ir.Value(name=name, shape=tensor.shape, type=ir.TensorType(dtype), const_value=tensor)
    graph.register_initializer(value)
    return value


def attach_weights(model: ir.Model, load: Callable[[str], Tensor]) -> None:
    """Let every parameter's initializer come from ``load(name)`` when it is written, and transpose
    it for MatMul.
    """
    for name, value in model.graph.initializers.items():
        if isinstance(getattr(value.const_value, "raw", None), nn.Parameter):
            assert value.shape is not None and value.dtype is not None
            shape = value.shape.numpy()
            value.const_value = lazy_tensor(name, value.dtype, shape, partial(_array, load, name))
    for node in list(model.graph):
        if node.op_type == "Transpose":
            _store_transposed(model.graph, node)
    optimizer.fold_constants(model, input_size_limit=SHAPE_NUMBERS)
    optimizer.remove_unused_nodes(model)


def _array(load: Callable[[str], Tensor], name: str) -> NDArray[Any]:
    return load(name).numpy()


def _store_transposed(graph: ir.Graph, node: ir.Node) -> None:
    """Store the weight that ``node`` transposes as it comes out, if it is a weight."""
    source = node.inputs[0]
    if source is None or source.name not in graph.initializers:
        return
    weight = source.const_value
    assert weight is not None
    order = node.attributes["perm"].as_ints()
    sizes = weight.shape.numpy()
    stored = add_initializer(
        graph,
        f"{source.name}{TRANSPOSED}",
        weight.dtype,
        [sizes[axis] for axis in order],
        lambda: weight.numpy().transpose(order),
    )
    node.outputs[0].replace_all_uses_with(stored)
    graph.remove(node, safe=True)


def write_model(model: ir.Model, path: Path, stored: dict[str, Path]) -> None:
    """Write ``model`` with its weights in ``<path>.data``, as many at a time as there are writers.

    ``stored`` names initializers whose very bytes lie in another file beside it already: those are
    pointed at.
    """
    large = []
    for name, value in model.graph.initializers.items():
        assert value.const_value is not None
        if name in stored:
            point_outside(value, stored[name], 0)
        elif value.const_value.nbytes >= INLINE_BYTES:
            large.append(value)
        else:
            value.const_value.tobytes()  # what it raises would be hidden by ir.save
    _write_outside(large, path.with_name(f"{path.name}.data"))
    strip(model)
    ir.save(model, path)


def point_outside(value: ir.Value, file: Path, offset: int) -> None:
    """Let the bytes of an initializer be those of ``file`` from ``offset`` on."""
    tensor = value.const_value
    assert tensor is not None
    value.const_value = ir.ExternalTensor(
        file.name,
        offset,
        tensor.nbytes,
        tensor.dtype,
        shape=ir.Shape(tensor.shape.numpy()),
        name=value.name or "",
        base_dir=file.parent,
    )


def _write_outside(values: Sequence[ir.Value], path: Path) -> None:
    """Write the initializers one behind the other into ``path``, and let them point there.

    The largest begin: the scales of a weight wait until it is rounded, and would hold up a writer.
    """
    places = list[tuple[ir.TensorProtocol, int]]()
    end = 0
    for value in values:
        assert value.const_value is not None
        places.append((value.const_value, end))
        end += value.const_value.nbytes
    largest_first = sorted(places, key=lambda place: -place[0].nbytes)
    with path.open("wb") as file, ThreadPoolExecutor(WRITERS) as pool:
        for _ in pool.map(partial(_put, file.fileno()), largest_first):
            pass
    for value, (_, offset) in zip(values, places, strict=True):
        point_outside(value, path, offset)


def _put(file: int, place: tuple[ir.TensorProtocol, int]) -> None:
    tensor, offset = place
    left = memoryview(tensor.tobytes())
    while left:  # the system takes no more than 2 GiB at once
        written = os.pwrite(file, left, offset)
        left = left[written:]
        offset += written


def strip(model: ir.Model) -> None:
    """Leave out the exporter's notes on where each node came from, which are larger than the
    graph.
    """
    model.producer_name = "vpt-edge"
    model.producer_version = None
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    values = [*model.graph.inputs, *model.graph.initializers.values()]
    for node in model.graph:
        node.metadata_props.clear()
        node.doc_string = None
        values += node.outputs
    for value in values:
        value.metadata_props.clear()


def cast(tensor: Tensor, dtype: torch.dtype, name: str) -> Tensor:
    """The weight ``name`` in ``dtype``. Raises ExportError where a number of it becomes
    infinite.
    """
    result = tensor.to(dtype)
    if torch.finfo(dtype).max < torch.finfo(tensor.dtype).max:
        check_reach(result, tensor, name)
    return result


def check_reach(result: Tensor, tensor: Tensor, name: str) -> None:
    """Raise ExportError where a number of ``tensor`` is infinite in ``result``, the same in fewer
    bits.
    """
    if not is_finite(result):
        dtype = str(result.dtype).removeprefix("torch.")
        largest = float(max(map(abs, tensor.aminmax())))
        raise ExportError(
            f"{name} has numbers up to {largest:.3g}, but {dtype} ends at "
            f"{torch.finfo(result.dtype).max:,.0f}",
            "export it with --precision fp32 for onnxruntime, which computes in float32",
        )


def is_finite(tensor: Tensor) -> bool:
    """Whether no number is NaN or infinite: one pass that takes no memory."""
    return all(map(math.isfinite, tensor.aminmax()))


def is_equal(matrix: Tensor, other: Tensor) -> bool:
    """Whether two matrices of one shape hold the same numbers, of whatever dtype; a block of rows
    at a time.
    """
    blocks = zip(matrix.split(ROWS), other.split(ROWS), strict=True)
    return all(torch.equal(rows.double(), others.double()) for rows, others in blocks)


def write_int8(matrix: Tensor, path: Path, scales: Path) -> None:
    """Write a matrix as raw int8 rows, and one float32 scale a row into ``scales``; a block of rows
    at a time.
    """
    with path.open("wb") as file, scales.open("wb") as scale_file:
        for rows in matrix.split(ROWS):
            integers, scale = int8_weight(rows.float().numpy(), axis=0)
            file.write(integers.tobytes())
            scale_file.write(scale.tobytes())


def write_raw(matrix: Tensor, dtype: torch.dtype, path: Path, name: str) -> None:
    """Write the weight ``name`` as raw little-endian rows of ``dtype``, a block at a time."""
    with path.open("wb") as file:
        for rows in matrix.split(ROWS):
            file.write(cast(rows, dtype, name).contiguous().numpy().tobytes())
