"""A stream of work on the GPU, and the arrays in its memory."""

from __future__ import annotations

import ctypes
from ctypes import byref, c_size_t, c_uint, c_uint64, c_void_p
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from vpt_edge.runtime.errors import SessionError

if TYPE_CHECKING:
    from vpt_edge.runtime.sessions.cuda import Device

_MAPPED = 2  # CU_MEMHOSTALLOC_DEVICEMAP
_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING
_RELAXED = 2  # CU_STREAM_CAPTURE_MODE_RELAXED
_DEVICE_MEMORY = 2  # CU_MEMORYTYPE_DEVICE


class Copy2D(ctypes.Structure):
    """CUDA_MEMCPY2D of cuda.h."""

    _fields_ = [
        ("src_x", c_size_t),
        ("src_y", c_size_t),
        ("src_type", c_uint),
        ("src_host", c_void_p),
        ("src_device", c_uint64),
        ("src_array", c_void_p),
        ("src_pitch", c_size_t),
        ("dst_x", c_size_t),
        ("dst_y", c_size_t),
        ("dst_type", c_uint),
        ("dst_host", c_void_p),
        ("dst_device", c_uint64),
        ("dst_array", c_void_p),
        ("dst_pitch", c_size_t),
        ("width", c_size_t),
        ("height", c_size_t),
    ]


class Stream:
    """A queue of work, and the memory that its work uses: both are given back by ``close``, in that
    order.
    """

    def __init__(self, device: Device) -> None:
        self.device = device
        handle = c_void_p()
        device.call("cuStreamCreate", byref(handle), _NON_BLOCKING)
        self.handle = cast("int", handle.value)
        self._allocations: list[tuple[str, int]] = []  # the function that frees, and what
        self._graphs: list[int] = []

    def zeros(self, shape: tuple[int, ...], dtype: Any) -> DeviceArray:
        """An array of zeros in device memory."""
        array = DeviceArray(self, 0, shape, np.dtype(dtype))
        pointer = c_uint64()
        size = max(array.nbytes, 1)
        self.device.call("cuMemAlloc_v2", byref(pointer), size)
        self._allocations.append(("cuMemFree_v2", pointer.value))
        self.device.call("cuMemsetD8Async", pointer.value, 0, size, self.handle)
        array.pointer = pointer.value
        return array

    def pinned(self, size: int) -> tuple[np.ndarray[Any, Any], int]:
        """``size`` bytes of page-locked host memory as (size,) uint8, and their address on the
        device.
        """
        host = c_void_p()
        pointer = c_uint64()
        self.device.call("cuMemHostAlloc", byref(host), size, _MAPPED)
        address = cast("int", host.value)
        self._allocations.append(("cuMemFreeHost", address))
        self.device.call("cuMemHostGetDevicePointer_v2", byref(pointer), address, 0)
        memory = (ctypes.c_ubyte * size).from_address(address)
        return np.ctypeslib.as_array(memory), pointer.value

    def to_device(self, pointer: int, host: int, size: int) -> None:
        self.device.call("cuMemcpyHtoDAsync_v2", pointer, host, size, self.handle)

    def to_host(self, host: int, pointer: int, size: int) -> None:
        self.device.call("cuMemcpyDtoHAsync_v2", host, pointer, size, self.handle)

    def wait(self) -> None:
        """Until all queued work is done."""
        self.device.call("cuStreamSynchronize", self.handle)

    def begin_capture(self) -> None:
        self.device.call("cuStreamBeginCapture_v2", self.handle, _RELAXED)

    def end_capture(self) -> int:
        """The work queued since ``begin_capture`` as a graph that ``launch`` takes."""
        graph = c_void_p()
        ready = c_void_p()
        self.device.call("cuStreamEndCapture", self.handle, byref(graph))
        try:
            self.device.call("cuGraphInstantiateWithFlags", byref(ready), graph, 0)
        finally:
            self.device.call("cuGraphDestroy", graph)
        self._graphs.append(cast("int", ready.value))
        return self._graphs[-1]

    def launch(self, graph: int) -> None:
        self.device.call("cuGraphLaunch", graph, self.handle)

    def forget(self, graph: int) -> None:
        """Give a graph back; it must not be running."""
        self._graphs.remove(graph)
        self.device.call("cuGraphExecDestroy", graph)

    def close(self) -> None:
        """Wait for what runs, then give everything back. A second call does nothing."""
        if not self.handle:
            return
        handle = self.handle
        self.handle = 0
        work = [
            ("cuCtxSetCurrent", self.device.context),
            ("cuStreamSynchronize", handle),
            *(("cuGraphExecDestroy", graph) for graph in self._graphs),
            *reversed(self._allocations),
            ("cuStreamDestroy_v2", handle),
        ]
        self._graphs.clear()
        self._allocations.clear()
        errors = list[SessionError]()
        for call in work:
            try:
                self.device.call(*call)
            except SessionError as error:  # what can be given back is given back
                errors.append(error)
        if errors:
            raise errors[0]


class DeviceArray:
    """An array in device memory whose first axis may be wider spaced than it is long: ``pitch``
    bytes a step.

    Slices of the first two axes are arrays on the same memory; an assignment to a slice copies on
    the device, in the stream's order.
    """

    def __init__(
        self,
        stream: Stream,
        pointer: int,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        pitch: int | None = None,
    ) -> None:
        self._stream = stream
        self.pointer = pointer
        self.shape = shape
        self.dtype = dtype
        self.pitch = self.row_bytes if pitch is None else pitch

    @property
    def row_bytes(self) -> int:
        """Bytes of one step of the first axis."""
        return int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        return self.shape[0] * self.row_bytes

    @property
    def contiguous(self) -> bool:
        return self.shape[0] == 1 or self.pitch == self.row_bytes

    def __getitem__(self, key: slice | tuple[slice, slice]) -> DeviceArray:
        first, second = key if isinstance(key, tuple) else (key, slice(None))
        start, stop, _ = first.indices(self.shape[0])
        begin, end, _ = second.indices(self.shape[1])
        step = int(np.prod(self.shape[2:], dtype=np.int64)) * self.dtype.itemsize
        pointer = self.pointer + start * self.pitch + begin * step
        return DeviceArray(
            self._stream,
            pointer,
            (stop - start, end - begin, *self.shape[2:]),
            self.dtype,
            self.pitch,
        )

    def __setitem__(self, key: slice | tuple[slice, slice], source: DeviceArray) -> None:
        target = self[key]
        if (target.shape, target.dtype) != (source.shape, source.dtype):
            raise ValueError(
                f"cannot copy {source.shape} {source.dtype} into {target.shape} {target.dtype}"
            )
        copy = Copy2D(
            src_type=_DEVICE_MEMORY,
            src_device=source.pointer,
            src_pitch=source.pitch,
            dst_type=_DEVICE_MEMORY,
            dst_device=target.pointer,
            dst_pitch=target.pitch,
            width=target.row_bytes,
            height=target.shape[0],
        )
        self._stream.device.call("cuMemcpy2DAsync_v2", ctypes.addressof(copy), self._stream.handle)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        """A copy in host memory."""
        self._stream.device.enter()
        host = np.empty(self.shape, self.dtype)
        for index in range(self.shape[0]):
            row = host[index : index + 1]
            self._stream.to_host(row.ctypes.data, self.pointer + index * self.pitch, self.row_bytes)
        self._stream.wait()
        return host if dtype is None else host.astype(dtype)
