"""The CUDA driver by ctypes, and the GPU as it tells of it.

The driver is there wherever a GPU can be used at all, on a Jetson as on a desktop, for every
Python: nothing more has to be installed, and no version has to fit.
"""

from __future__ import annotations

import ctypes
import threading
from ctypes import POINTER, byref, c_char_p, c_int, c_size_t, c_uint, c_uint64, c_void_p
from typing import Any, NoReturn

from vpt_edge.runtime.errors import SessionError

LIBRARIES = ("libcuda.so.1", "libcuda.so", "nvcuda.dll")
ALIGNMENT = 256  # of every address that TensorRT is given

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


def load_library() -> Any:
    """The driver's library. Raises SessionError where there is none."""
    problems = []
    for name in LIBRARIES:
        try:
            return ctypes.CDLL(name)
        except OSError as error:
            problems.append(str(error))
    raise SessionError(
        f"no CUDA driver: {problems[0]}",
        "install NVIDIA's driver (on a Jetson it comes with JetPack)",
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
                    f"the CUDA driver has no {name}", "update it to CUDA 12 or later"
                ) from None
            function.argtypes = arguments
            function.restype = c_int
            self._functions[name] = function
        self.call("cuInit", 0)
        self._device = c_int()
        self.context = c_void_p()
        self.call("cuDeviceGet", byref(self._device), 0)
        self.call("cuDevicePrimaryCtxRetain", byref(self.context), self._device)
        self.enter()
        self.name = self._read_name()
        self.capability = ".".join(str(self._attribute(which)) for which in _CAPABILITY)
        self.driver = self._read_version()
        self.integrated = bool(self._attribute(_INTEGRATED))  # CPU and GPU share memory

    def _read_name(self) -> str:
        text = ctypes.create_string_buffer(256)
        self.call("cuDeviceGetName", text, len(text), self._device)
        return text.value.decode(errors="replace")

    def _read_version(self) -> str:
        """The version of CUDA that the driver serves, as 12.6."""
        version = c_int()
        self.call("cuDriverGetVersion", byref(version))
        return f"{version.value // 1000}.{version.value % 1000 // 10}"

    def enter(self) -> None:
        """Make the context current in this thread."""
        self.call("cuCtxSetCurrent", self.context)

    def call(self, function: str, *arguments: Any) -> None:
        """Call the driver. Raises SessionError for any result but success."""
        code = self._functions[function](*arguments)
        if code:
            self._fail(function, code)

    def _fail(self, function: str, code: int) -> NoReturn:
        name = self._describe("cuGetErrorName", code)
        text = self._describe("cuGetErrorString", code)
        fix = ""
        if code == _OUT_OF_MEMORY:
            free, total = self.memory()
            fix = f"{free >> 20} of {total >> 20} MiB are free: close other programs on the GPU"
        raise SessionError(f"CUDA failed in {function}: {name}, {text}", fix)

    def _describe(self, function: str, code: int) -> str:
        """What the driver says of an error; its number where it does not know it."""
        text = c_char_p()
        if self._functions[function](code, byref(text)) or not text.value:
            return str(code)
        return text.value.decode()

    def memory(self) -> tuple[int, int]:
        """Free and total bytes."""
        free = c_size_t()
        total = c_size_t()
        self.call("cuMemGetInfo_v2", byref(free), byref(total))
        return free.value, total.value

    def _attribute(self, which: int) -> int:
        value = c_int()
        self.call("cuDeviceGetAttribute", byref(value), which, self._device)
        return value.value
