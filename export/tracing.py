"""From a torch module without weights to an ONNX graph."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import onnx_ir as ir
import torch
from torch import nn

from vpt_edge.export.spec import OPSET
from vpt_edge.runtime.errors import ExportError

if TYPE_CHECKING:
    from vpt_edge.export.attention import AttentionType
    from vpt_edge.export.spec import Spec
    from vpt_edge.runtime import manifest

TRACE_SIZES = {"past": 3, "capacity": 16, "sequence": 5, "tokens": 6, "windows": 3, "last": 2}
DTYPES = {
    "float32": ir.DataType.FLOAT,
    "float16": ir.DataType.FLOAT16,
    "int32": ir.DataType.INT32,
    "int64": ir.DataType.INT64,
}


def trace(spec: Spec, attention: AttentionType, dtype: torch.dtype) -> ir.Model:
    """The graph of ``spec`` with parameters of ``dtype`` that have shapes and names but take no
    memory. Raises ExportError.
    """
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
            if _is_interrupt(error):
                raise KeyboardInterrupt from error
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise ExportError(f"torch cannot export {spec.graph.file}: {reason}") from error
    assert program is not None
    _name_values(spec, program.model.graph.inputs, spec.graph.inputs)
    _name_values(spec, program.model.graph.outputs, spec.graph.outputs)
    return program.model


def _is_interrupt(error: BaseException | None) -> bool:
    """Whether the tracer, or a binding below it, has made another error of Ctrl-C."""
    pending = [error]
    known = list[BaseException]()
    while pending:
        current = pending.pop()
        if isinstance(current, KeyboardInterrupt):
            return True
        if current is not None and current not in known:
            known.append(current)
            pending += [current.__cause__, current.__context__]
    return False


def _drop_storage(module: nn.Module) -> None:
    """Replace each parameter by one of the same shape with a single number behind it."""
    for part in module.modules():
        for name, parameter in part.named_parameters(recurse=False):
            hollow = torch.zeros((), dtype=parameter.dtype).expand(parameter.shape)
            setattr(part, name, nn.Parameter(hollow, requires_grad=False))


def _example_inputs(spec: Spec) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Arguments for the trace and their dynamic axes; the cache's tensors are nested as the module
    takes them.
    """
    sizes = dict(TRACE_SIZES)
    axes = dict[str, Any]()
    for axis, (_, _, high) in spec.graph.bounds.items():
        axes[axis] = torch.export.Dim(axis, min=1, max=high)
    for axis, (root, ratio) in spec.ratios.items():
        axes[axis] = ratio * axes[root]
        sizes[axis] = ratio * sizes[root]
    examples: list[Any] = []
    dynamic: list[Any] = []
    for tensor in spec.graph.inputs:
        shape = list[int]()
        dynamic_axes = {}
        for index, size in enumerate(tensor.shape):
            if isinstance(size, str):
                dynamic_axes[index] = axes[size]
                shape.append(sizes[size])
            else:
                shape.append(size)
        examples.append(torch.zeros(shape, dtype=getattr(torch, tensor.dtype)))
        dynamic.append(dynamic_axes)
    return nest(spec, examples), nest(spec, dynamic)


def nest(spec: Spec, items: Sequence[Any]) -> tuple[Any, ...]:
    """``items``, one for each input of the graph, as its module takes them: the cache's layer by
    layer.
    """
    names = [tensor.name for tensor in spec.graph.inputs]
    past = [index for index, name in enumerate(names) if name.startswith("past.")]
    if not past:
        return tuple(items)
    first = past[0]
    end = past[-1] + 1
    pairs = list(zip(items[first:end:2], items[first + 1 : end : 2], strict=True))
    if end == len(items):
        return (*items[:first], pairs)
    return (*items[:first], pairs, tuple(items[end:]))


def _name_values(
    spec: Spec, values: Sequence[ir.Value], tensors: Sequence[manifest.Tensor]
) -> None:
    """Give inputs or outputs, and their axes, the names of the spec."""
    if len(values) != len(tensors):
        raise ExportError(
            f"{spec.graph.file} has {len(values)} inputs or outputs, expected {len(tensors)}"
        )
    for value, tensor in zip(values, tensors, strict=True):
        value.name = tensor.name
        value.shape = ir.Shape(tensor.shape)
        value.dtype = DTYPES[tensor.dtype]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's remarks about packages that are not needed and names that it chooses
    itself.
    """
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
