"""From a torch module without weights to an ONNX file whose weights stream from the checkpoint."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx_ir as ir
import torch
from onnxscript import optimizer
from torch import Tensor, nn

from vpt_edge.export.quantization.rounding import int8_weight
from vpt_edge.export.spec import OPSET
from vpt_edge.runtime.errors import ExportError

if TYPE_CHECKING:
    from vpt_edge.export.layers import Attention
    from vpt_edge.export.spec import Spec

WRITERS = 2  # weights in memory at a time; rounding and reading leave the interpreter
INLINE_BYTES = 1024  # what is smaller stays inside the .onnx file
SHAPE_NUMBERS = 32  # arithmetic on shapes is folded; weights have more numbers and are not
TRACE_SIZES = {"past": 3, "capacity": 16, "sequence": 5, "tokens": 6}


def trace(spec: Spec, attention: Attention, dtype: torch.dtype) -> ir.Model:
    """The graph of ``spec`` with parameters of ``dtype`` that have shapes and names but take no
    memory."""
    with torch.device("meta"):
        module = spec.build(attention)
    _drop_storage(module.to(dtype).eval())
    inputs, shapes = _example_inputs(spec)
    with _quiet():
        try:
            program = torch.onnx.export(
                module,
                inputs,
                dynamo=True,
                dynamic_shapes=shapes,
                opset_version=OPSET,
                optimize=False,
                verbose=False,
            )
        except Exception as error:  # whatever the tracer meets
            raise ExportError(
                f"torch cannot export {spec.graph.file}: {str(error).splitlines()[0]}"
            ) from error
    assert program is not None
    _name_interface(program.model, spec)
    return program.model


def _drop_storage(module: nn.Module) -> None:
    """Replace each parameter by one of the same shape with a single number behind it."""
    for part in module.modules():
        for name, parameter in part.named_parameters(recurse=False):
            hollow = torch.zeros((), dtype=parameter.dtype).expand(parameter.shape)
            setattr(part, name, nn.Parameter(hollow, requires_grad=False))


def _example_inputs(spec: Spec) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Arguments for the trace and their dynamic axes; the cache's tensors are nested as the module
    takes them."""
    axes = {
        axis: torch.export.Dim(axis, min=1, max=high)
        for axis, (_, _, high) in spec.graph.bounds.items()
    }
    sizes = dict(TRACE_SIZES)
    for axis, (root, ratio) in spec.ratios.items():
        axes[axis], sizes[axis] = ratio * axes[root], ratio * sizes[root]
    flat: list[Any] = []
    dynamic: list[Any] = []
    for tensor in spec.graph.inputs:
        shape = [sizes[size] if isinstance(size, str) else size for size in tensor.shape]
        flat.append(torch.zeros(shape, dtype=getattr(torch, tensor.dtype)))
        dynamic.append(
            {index: axes[size] for index, size in enumerate(tensor.shape) if isinstance(size, str)}
        )
    return nested(spec, flat), nested(spec, dynamic)


def nested(spec: Spec, items: Sequence[Any]) -> tuple[Any, ...]:
    """``items``, one for each input of the graph, as its module takes them: the cache's layer by
    layer."""
    names = [tensor.name for tensor in spec.graph.inputs]
    past = [index for index, name in enumerate(names) if name.startswith("past.")]
    if not past:
        return tuple(items)
    pairs = [(items[index], items[index + 1]) for index in past[::2]]
    lengths = tuple(items[past[-1] + 1 :])
    return (*items[: past[0]], pairs, lengths) if lengths else (*items[: past[0]], pairs)


def _name_interface(model: ir.Model, spec: Spec) -> None:
    """Give inputs, outputs and their axes the names of the spec."""
    for values, tensors in (
        (model.graph.inputs, spec.graph.inputs),
        (model.graph.outputs, spec.graph.outputs),
    ):
        if len(values) != len(tensors):
            raise ExportError(
                f"{spec.graph.file} has {len(values)} inputs or outputs, expected {len(tensors)}"
            )
        for value, tensor in zip(values, tensors, strict=True):
            value.name = tensor.name
            value.shape = ir.Shape(tensor.shape)
            value.dtype = ir.DataType[
                {"float32": "FLOAT", "float16": "FLOAT16", "int32": "INT32", "int64": "INT64"}[
                    tensor.dtype
                ]
            ]


@contextlib.contextmanager
def _quiet() -> Any:
    """Silence the exporter's remarks about packages that are not needed and names that it chooses
    itself."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def attach_weights(model: ir.Model, load: Callable[[str], Tensor]) -> None:
    """Let every parameter's initializer come from ``load(name)`` when it is written, and transpose
    it for MatMul."""
    for name, value in model.graph.initializers.items():
        if isinstance(getattr(value.const_value, "raw", None), nn.Parameter):
            assert value.shape is not None and value.dtype is not None
            value.const_value = _lazy(name, value.dtype, value.shape, partial(load, name))
    for node in list(model.graph):
        source = node.inputs[0] if node.op_type == "Transpose" else None
        if source is None or source.name not in model.graph.initializers:
            continue
        weight, order, name = (
            source.const_value,
            node.attributes["perm"].as_ints(),
            f"{source.name}.transposed",
        )
        assert weight is not None
        shape = ir.Shape([weight.shape.numpy()[axis] for axis in order])
        turned = ir.Value(name=name, shape=shape, type=source.type)
        turned.const_value = _lazy(name, weight.dtype, shape, partial(_transposed, weight, order))
        model.graph.register_initializer(turned)
        node.outputs[0].replace_all_uses_with(turned)
        model.graph.remove(node, safe=True)
    optimizer.fold_constants(model, input_size_limit=SHAPE_NUMBERS)
    optimizer.remove_unused_nodes(model)


def _transposed(weight: ir.TensorProtocol, order: Sequence[int]) -> Tensor:
    return torch.from_numpy(weight.numpy()).permute(*order)


def _lazy(
    name: str, dtype: ir.DataType, shape: ir.Shape, make: Callable[[], Tensor]
) -> ir.LazyTensor:
    return ir.LazyTensor(
        lambda: ir.tensor(make().contiguous().numpy()), dtype=dtype, shape=shape, name=name
    )


def write(model: ir.Model, path: Path, stored: dict[str, Path]) -> None:
    """Write ``model`` with its weights in ``<path>.data``, as many at a time as there are writers.

    ``stored`` names initializers whose very bytes lie in another file beside it already: those are
    pointed at."""
    large = []
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        assert tensor is not None
        if name in stored:
            value.const_value = ir.ExternalTensor(
                stored[name].name,
                0,
                tensor.nbytes,
                tensor.dtype,
                shape=ir.Shape(tensor.shape.numpy()),
                name=name,
                base_dir=path.parent,
            )
        elif tensor.nbytes >= INLINE_BYTES:
            large.append(value)
    _write_outside(large, path.with_name(f"{path.name}.data"))
    _strip(model)
    ir.save(model, path)


def _write_outside(values: Sequence[ir.Value], path: Path) -> None:
    """Write the initializers one behind the other into ``path``, and let them point there.

    The largest begin: the scales of a weight wait until it is rounded, and would hold up a writer.
    """
    places, end = list[tuple[ir.TensorProtocol, int]](), 0
    for value in values:
        assert value.const_value is not None
        places.append((value.const_value, end))
        end += value.const_value.nbytes
    with path.open("wb") as file, ThreadPoolExecutor(WRITERS) as pool:
        first = sorted(places, key=lambda place: -place[0].nbytes)
        for _ in pool.map(lambda place: _put(file.fileno(), *place), first):
            pass
    for value, (tensor, offset) in zip(values, places, strict=True):
        value.const_value = ir.ExternalTensor(
            path.name,
            offset,
            tensor.nbytes,
            tensor.dtype,
            shape=ir.Shape(tensor.shape.numpy()),
            name=value.name or "",
            base_dir=path.parent,
        )


def _put(file: int, tensor: ir.TensorProtocol, offset: int) -> None:
    left = memoryview(tensor.tobytes())
    while left:  # the system takes no more than 2 GiB at once
        written = os.pwrite(file, left, offset)
        left, offset = left[written:], offset + written


def _strip(model: ir.Model) -> None:
    """Leave out the exporter's notes on where each node came from: they are larger than the graph."""
    model.producer_name, model.producer_version = "vpt-edge", None
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    values = [*model.graph.inputs, *model.graph.initializers.values()]
    for node in model.graph:
        node.metadata_props.clear()
        node.doc_string = None
        values += node.outputs
    for value in values:
        value.metadata_props.clear()


def write_int8(matrix: Tensor, path: Path, scales: Path) -> None:
    """Write a matrix as raw int8 rows, and one float32 scale a row into ``scales``; a block of rows
    at a time."""
    with path.open("wb") as file, scales.open("wb") as scale_file:
        for rows in matrix.split(4096):
            integers, scale = int8_weight(rows.float().numpy(), axis=0)
            file.write(integers.tobytes())
            scale_file.write(scale.tobytes())


def write_raw(matrix: Tensor, dtype: torch.dtype, path: Path) -> None:
    """Write a matrix as raw little-endian rows of ``dtype``, a block at a time."""
    with path.open("wb") as file:
        for rows in matrix.split(4096):
            file.write(rows.to(dtype).contiguous().numpy().tobytes())
