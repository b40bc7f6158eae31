"""The little of CUDA that a session needs, by ctypes on the driver's own library.

The driver is there wherever a GPU can be used at all, on a Jetson as on a desktop, for every
Python: nothing more has to be installed, and no version has to fit."""

from __future__ import annotations

import ctypes
import threading
from ctypes import POINTER, byref, c_char_p, c_int, c_size_t, c_uint, c_uint64, c_void_p
from typing import Any, NoReturn, cast

import numpy as np

from vpt_edge.runtime.errors import SessionError

LIBRARIES = ("libcuda.so.1", "libcuda.so", "nvcuda.dll")
ALIGNMENT = 256  # of every address that TensorRT is given

_MAPPED = 2  # CU_MEMHOSTALLOC_DEVICEMAP
_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING
_RELAXED = 2  # CU_STREAM_CAPTURE_MODE_RELAXED
_DEVICE_MEMORY = 2  # CU_MEMORYTYPE_DEVICE
_INTEGRATED = 18  # CU_DEVICE_ATTRIBUTE_INTEGRATED
_CAPABILITY = (75, 76)  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR
_OUT_OF_MEMORY = 2  # CUDA_ERROR_OUT_OF_MEMORY

PROTOTYPES: dict[str, tuple[Any, ...]] = {
    "cuInit": (c_uint,),
    "cuDriverGetVersion": (POINTER(c_int),),
    "cuGetErrorName": (c_int, POINTER(c_char_p)),
    "cuGetErrorString": (c_int, POINTER(c_char_p)),
    "cuDeviceGet": (POINTER(c_int), c_int),
    "cuDeviceGetName": (c_char_p, c_int, c_int),
    "cuDeviceGetAttribute": (POINTER(c_int), c_int, c_int),
    "cuDevicePrimaryCtxRetain": (POINTER(c_void_p), c_int),
    "cuCtxSetCurrent": (c_void_p,),
    "cuMemGetInfo_v2": (POINTER(c_size_t), POINTER(c_size_t)),
    "cuMemAlloc_v2": (POINTER(c_uint64), c_size_t),
    "cuMemFree_v2": (c_uint64,),
    "cuMemHostAlloc": (POINTER(c_void_p), c_size_t, c_uint),
    "cuMemHostGetDevicePointer_v2": (POINTER(c_uint64), c_void_p, c_uint),
    "cuMemFreeHost": (c_void_p,),
    "cuMemsetD8Async": (c_uint64, ctypes.c_ubyte, c_size_t, c_void_p),
    "cuMemcpyHtoDAsync_v2": (c_uint64, c_void_p, c_size_t, c_void_p),
    "cuMemcpyDtoHAsync_v2": (c_void_p, c_uint64, c_size_t, c_void_p),
    "cuMemcpy2DAsync_v2": (c_void_p, c_void_p),
    "cuStreamCreate": (POINTER(c_void_p), c_uint),
    "cuStreamSynchronize": (c_void_p,),
    "cuStreamDestroy_v2": (c_void_p,),
    "cuStreamBeginCapture_v2": (c_void_p, c_int),
    "cuStreamEndCapture": (c_void_p, POINTER(c_void_p)),
    "cuGraphInstantiateWithFlags": (POINTER(c_void_p), c_void_p, ctypes.c_ulonglong),
    "cuGraphLaunch": (c_void_p, c_void_p),
    "cuGraphExecDestroy": (c_void_p,),
    "cuGraphDestroy": (c_void_p,),
}


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


def load_library() -> Any:
    """The driver's library. Raises SessionError where there is none."""
    problems = []
    for name in LIBRARIES:
        try:
            return ctypes.CDLL(name)
        except OSError as error:
            problems.append(str(error))
    raise SessionError(
        f"no CUDA driver: {problems[0]}; install NVIDIA's driver (on a Jetson it comes with JetPack)"
    )


class Device:
    """The first GPU, in the context that TensorRT and ONNX Runtime use as well."""

    _one: Device | None = None
    _lock = threading.Lock()

    @classmethod
    def open(cls) -> Device:
        """The process's device. Raises SessionError without a driver or a GPU."""
        with cls._lock:
            if cls._one is None:
                cls._one = cls(load_library())
            cls._one.enter()
            return cls._one

    def __init__(self, library: Any) -> None:
        self._functions = {}
        for name, arguments in PROTOTYPES.items():
            try:
                function = getattr(library, name)
            except AttributeError:
                raise SessionError(
                    f"the CUDA driver has no {name}; update it to CUDA 12 or later"
                ) from None
            function.argtypes, function.restype = arguments, c_int
            self._functions[name] = function
        self.call("cuInit", 0)
        device, context = c_int(), c_void_p()
        self.call("cuDeviceGet", byref(device), 0)
        self.call("cuDevicePrimaryCtxRetain", byref(context), device)
        self._device, self.context = device, context
        self.enter()
        text = ctypes.create_string_buffer(256)
        self.call("cuDeviceGetName", text, len(text), device)
        self.name = text.value.decode(errors="replace")
        self.capability = ".".join(str(self._attribute(which)) for which in _CAPABILITY)
        version = c_int()
        self.call("cuDriverGetVersion", byref(version))
        self.driver = f"{version.value // 1000}.{version.value % 1000 // 10}"
        self.integrated = bool(self._attribute(_INTEGRATED))  # CPU and GPU share memory

    def enter(self) -> None:
        """Make the context current in this thread."""
        self.call("cuCtxSetCurrent", self.context)

    def call(self, function: str, *arguments: Any) -> None:
        """Call the driver. Raises SessionError for any result but success."""
        code = self._functions[function](*arguments)
        if code:
            self._fail(function, code)

    def _fail(self, function: str, code: int) -> NoReturn:
        texts = []
        for describe in ("cuGetErrorName", "cuGetErrorString"):
            text = c_char_p()
            known = not self._functions[describe](code, byref(text)) and text.value
            texts.append(cast("bytes", text.value).decode() if known else str(code))
        advice = ""
        if code == _OUT_OF_MEMORY:
            free, total = self.memory()
            advice = (
                f"; {free >> 20} of {total >> 20} MiB are free: close other programs on the GPU"
            )
        raise SessionError(f"CUDA failed in {function}: {texts[0]}, {texts[1]}{advice}")

    def memory(self) -> tuple[int, int]:
        """Free and total bytes."""
        free, total = c_size_t(), c_size_t()
        self.call("cuMemGetInfo_v2", byref(free), byref(total))
        return free.value, total.value

    def _attribute(self, which: int) -> int:
        value = c_int()
        self.call("cuDeviceGetAttribute", byref(value), which, self._device)
        return value.value


class Stream:
    """A queue of work, and the memory that its work uses: both are given back by ``close``, in that
    order."""

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
        pointer, size = c_uint64(), max(array.nbytes, 1)
        self.device.call("cuMemAlloc_v2", byref(pointer), size)
        self._allocations.append(("cuMemFree_v2", pointer.value))
        self.device.call("cuMemsetD8Async", pointer.value, 0, size, self.handle)
        array.pointer = pointer.value
        return array

    def pinned(self, size: int) -> tuple[np.ndarray[Any, Any], int]:
        """``size`` bytes of page-locked host memory as (size,) uint8, and their address on the
        device."""
        host, pointer = c_void_p(), c_uint64()
        self.device.call("cuMemHostAlloc", byref(host), size, _MAPPED)
        address = cast("int", host.value)
        self._allocations.append(("cuMemFreeHost", address))
        self.device.call("cuMemHostGetDevicePointer_v2", byref(pointer), address, 0)
        return np.ctypeslib.as_array((ctypes.c_ubyte * size).from_address(address)), pointer.value

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
        graph, ready = c_void_p(), c_void_p()
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
        handle, self.handle = self.handle, 0
        work = [
            ("cuCtxSetCurrent", self.device.context),
            ("cuStreamSynchronize", handle),
            *(("cuGraphExecDestroy", graph) for graph in self._graphs),
            *reversed(self._allocations),
            ("cuStreamDestroy_v2", handle),
        ]
        self._graphs, self._allocations, errors = [], [], list[SessionError]()
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
    the device, in the stream's order."""

    def __init__(
        self,
        stream: Stream,
        pointer: int,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        pitch: int | None = None,
    ) -> None:
        self._stream, self.pointer, self.shape, self.dtype = stream, pointer, shape, dtype
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
