"""A graph's inputs and outputs as a library tells of them, held against the manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from vpt_edge.runtime.errors import SessionError
from vpt_edge.runtime.schema import EXPORT_AGAIN, brief, label, labels

if TYPE_CHECKING:
    from vpt_edge.runtime.manifest import Graph, Tensor

Bounds: TypeAlias = Mapping[str, tuple[int, int, int]]


class Signature(NamedTuple):
    """dtype and shape of an input or output; what is not a number of the shape is dynamic."""

    dtype: str
    shape: tuple[object, ...]


def check_signatures(
    graph: Graph, inputs: Mapping[str, Signature], outputs: Mapping[str, Signature]
) -> None:
    """Raise SessionError unless a library's ``inputs`` and ``outputs`` are those of ``graph``.

    A dynamic side fits any size; a fixed one must be the only size that the manifest gives it.
    """
    others = set[str]()
    for tensors, signatures in ((graph.inputs, inputs), (graph.outputs, outputs)):
        others |= {tensor.name for tensor in tensors} ^ set(signatures)
    if others:
        _refuse(graph, f"their inputs and outputs: {labels(others)}")
    _check_sizes(graph, "input", graph.inputs, inputs)
    _check_sizes(graph, "output", graph.outputs, outputs)


def _check_sizes(
    graph: Graph, kind: str, tensors: Sequence[Tensor], signatures: Mapping[str, Signature]
) -> None:
    for tensor in tensors:
        found = signatures[tensor.name]
        if found.dtype != tensor.dtype or not _fits(found.shape, tensor.shape, graph.bounds):
            expected = f"{tensor.dtype} {brief(tensor.shape)}"
            shown = f"{label(found.dtype)} {brief(found.shape)}, expected {expected}"
            _refuse(graph, f"the {kind} {label(tensor.name)}: found {shown}")


def _fits(found: tuple[object, ...], expected: tuple[int | str, ...], bounds: Bounds) -> bool:
    if len(found) != len(expected):
        return False
    for size, side in zip(found, expected, strict=True):
        least = largest = side
        if isinstance(side, str):
            least, _, largest = bounds[side]
        if isinstance(size, int) and not least == size == largest:
            return False
    return True


def _refuse(graph: Graph, difference: str) -> None:
    raise SessionError(f"{graph.file} and manifest.json differ in {difference}", EXPORT_AGAIN)
