"""Where the tensors of a graph lie in one run: checked, and with their addresses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vpt_edge.runtime.errors import SessionError
from vpt_edge.runtime.sessions.stream import DeviceArray

if TYPE_CHECKING:
    import numpy as np

    from vpt_edge.runtime.manifest import Graph, Tensor
    from vpt_edge.runtime.sessions import Arrays


@dataclass
class Slot:
    """Where an input or output that the caller has in host memory lies for the engine.

    ``host``: page-locked bytes, ``mapped``: their address on the GPU. ``device``: a place in the
    GPU's own memory, for what is copied because CPU and GPU share none, and for outputs that nobody
    asked for.
    """

    host: np.ndarray[Any, Any]
    mapped: int
    device: int

    def view(self, like: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """The page-locked bytes as an array of the shape and dtype of ``like``."""
        return self.host[: like.nbytes].view(like.dtype).reshape(like.shape)


@dataclass(frozen=True)
class Binding:
    """All that a captured run depends on: shapes of the inputs, addresses of all tensors, the host
    copies to make.
    """

    shapes: tuple[tuple[int, ...], ...]
    addresses: tuple[int, ...]
    outputs: tuple[tuple[int, ...] | None, ...]  # shapes, None for what nobody asked for
    copies_in: tuple[tuple[str, int], ...]  # slot and bytes
    copies_out: tuple[tuple[str, int], ...]


class Binder:
    """Makes the binding of each run of the graph ``name``.

    ``slots``: of the tensors that the caller has in host memory, though an input may be a device
    array all the same; all others are device arrays.
    ``mapped``: the engine works on the page-locked memory itself.
    """

    def __init__(self, name: str, graph: Graph, slots: Mapping[str, Slot], mapped: bool) -> None:
        self._name = name
        self._graph = graph
        self._slots = slots
        self._mapped = mapped
        self._tensors = {tensor.name for tensor in (*graph.inputs, *graph.outputs)}

    def bind(self, inputs: Arrays, outputs: Arrays) -> Binding:
        """Raises SessionError for arrays that do not fit."""
        unknown = {*inputs, *outputs} - self._tensors
        if unknown:
            raise SessionError(f"{self._name} has no {', '.join(sorted(unknown))}")
        addresses = list[int]()
        for tensor in self._graph.inputs:
            if inputs.get(tensor.name) is None:
                raise SessionError(f"{self._name} was run without {tensor.name}")
            addresses.append(self._address(tensor, inputs[tensor.name]))
        shapes = list[tuple[int, ...] | None]()
        for tensor in self._graph.outputs:
            array = outputs.get(tensor.name)
            if array is None:
                addresses.append(self._spare(tensor))
                shapes.append(None)
            else:
                addresses.append(self._address(tensor, array))
                shapes.append(tuple(array.shape))
        return Binding(
            tuple(tuple(inputs[tensor.name].shape) for tensor in self._graph.inputs),
            tuple(addresses),
            tuple(shapes),
            _copies(self._graph.inputs, inputs),
            _copies(self._graph.outputs, outputs),
        )

    def _address(self, tensor: Tensor, array: Any) -> int:
        self._check(tensor, array)
        if isinstance(array, DeviceArray):
            return array.pointer
        slot = self._slots[tensor.name]
        return slot.mapped if self._mapped else slot.device

    def _spare(self, tensor: Tensor) -> int:
        """Where an output goes that nobody asked for."""
        if tensor.name not in self._slots:
            raise SessionError(f"{self._name} was run without {tensor.name}")
        return self._slots[tensor.name].device

    def _check(self, tensor: Tensor, array: Any) -> None:
        if not self._fits(tensor, array):
            largest = {side: bounds[2] for side, bounds in self._graph.bounds.items()}
            raise SessionError(
                f"{tensor.name} of {self._name} is {array.dtype} {tuple(array.shape)}, expected "
                f"{tensor.dtype} {tensor.shape} with sizes of at most {largest}"
            )
        on_device = isinstance(array, DeviceArray)
        if on_device and tensor.name in self._slots and tensor not in self._graph.inputs:
            self._misplaced(tensor, "a host array")
        if not on_device and tensor.name not in self._slots:
            self._misplaced(tensor, "memory from zeros() of this session, contiguous")
        if on_device and not array.contiguous:
            self._misplaced(tensor, "memory from zeros() of this session, contiguous")

    def _fits(self, tensor: Tensor, array: Any) -> bool:
        if array.dtype != tensor.dtype or len(array.shape) != len(tensor.shape):
            return False
        for side, size in zip(tensor.shape, array.shape, strict=True):
            if isinstance(side, str):
                if size > self._graph.bounds[side][2]:
                    return False
            elif size != side:
                return False
        return True

    def _misplaced(self, tensor: Tensor, expected: str) -> None:
        raise SessionError(
            f"{tensor.name} of {self._name} lies in the wrong memory, expected {expected}"
        )


def _copies(tensors: tuple[Tensor, ...], arrays: Arrays) -> tuple[tuple[str, int], ...]:
    """The host copies of a run: name and bytes."""
    copies = list[tuple[str, int]]()
    for tensor in tensors:
        array = arrays.get(tensor.name)
        if array is not None and not isinstance(array, DeviceArray):
            copies.append((tensor.name, array.nbytes))
    return tuple(copies)
