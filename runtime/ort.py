"""ONNX Runtime, on the CPU and on a GPU through CUDA."""

from __future__ import annotations

import ctypes
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vpt_edge.runtime.errors import SessionError

if TYPE_CHECKING:
    from vpt_edge.runtime.bundle import Bundle
    from vpt_edge.runtime.cuda import DeviceArray
    from vpt_edge.runtime.session import Array, Arrays


class OrtSession:
    """One graph on ONNX Runtime. Arrays are bound where they lie: nothing is copied in or out."""

    provider = "CPUExecutionProvider"
    provider_options: dict[str, Any] = {}

    def __init__(self, bundle: Bundle, name: str) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise SessionError(f"onnxruntime cannot be imported ({error}); pip install vpt-edge") from error
        if bundle.manifest.target != "onnxruntime" and self.provider != "CPUExecutionProvider":
            raise SessionError(
                f"{bundle.path} was exported for {bundle.manifest.target}, device 'cuda' needs graphs for ONNX Runtime:"
                f" vpt-export CHECKPOINT -o BUNDLE --precision {bundle.manifest.precision} --target onnxruntime"
            )
        if self.provider not in onnxruntime.get_available_providers():
            raise SessionError(
                f"this onnxruntime {onnxruntime.__version__} has no {self.provider}: pip uninstall -y onnxruntime "
                "onnxruntime-gpu && pip install 'onnxruntime-gpu[cuda,cudnn]' (on a Jetson: NVIDIA's wheel for it)"
            )
        if self.provider != "CPUExecutionProvider" and hasattr(onnxruntime, "preload_dlls"):
            onnxruntime.preload_dlls()  # CUDA's libraries may have come as wheels
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        path = bundle.file(bundle.graph(name).file)
        self._lock = threading.Lock()
        try:
            self._session: Any = onnxruntime.InferenceSession(
                str(path), options, providers=[(self.provider, self.provider_options)]
            )
        except Exception as error:  # ONNX Runtime has no public tree of errors
            raise SessionError(f"ONNX Runtime cannot open {path}: {error}; export the checkpoint again") from error
        if self._session.get_providers()[0] != self.provider:  # it has fallen back to the CPU, with a line in its log
            raise SessionError(
                f"{self.provider} does not load: {missing_library(onnxruntime)}; install what it names, or use "
                "another device; vpt-doctor shows which run here"
            )
        self._name, self._graph = name, bundle.graph(name)
        self._binding: Any = self._session.io_binding()
        self._bound: dict[str, Array] = {}

    def run(self, inputs: Arrays, outputs: Arrays) -> None:
        with self._lock:
            if self._session is None:
                raise SessionError(f"the session of {self._name} is closed")
            for arrays, bind in ((inputs, self._binding.bind_input), (outputs, self._binding.bind_output)):
                for name, array in arrays.items():
                    if self._bound.get(name) is not array:
                        self._bind(name, array, bind)
            try:
                self._session.run_with_iobinding(self._binding)
            except Exception as error:  # see above
                shapes = ", ".join(f"{name} {array.shape}" for name, array in inputs.items())
                raise SessionError(f"ONNX Runtime failed in {self._name} ({shapes}): {error}") from error

    def _bind(self, name: str, array: Array, bind: Any) -> None:
        place, pointer = "cpu", 0
        if isinstance(array, np.ndarray):
            if not array.flags.c_contiguous:
                raise SessionError(f"{name} of {self._name} is not contiguous: {array.shape}, {array.strides}")
            pointer = array.ctypes.data
        else:
            place, pointer = "cuda", array.pointer
        try:
            bind(name, place, 0, array.dtype, array.shape, pointer)
        except Exception as error:  # see above
            raise SessionError(f"{self._name} refuses {name}, {array.dtype} {array.shape}: {error}") from error
        self._bound[name] = array  # keeps the memory alive, and spares the next run the binding

    def zeros(self, shape: tuple[int, ...], dtype: Any, /) -> Array:
        return np.zeros(shape, dtype)

    def close(self) -> None:
        with self._lock:
            self._bound.clear()
            self._binding = self._session = None


class OrtCudaSession(OrtSession):
    """The same on a GPU: the key-value cache stays there, all else is copied by ONNX Runtime."""

    provider = "CUDAExecutionProvider"
    provider_options = {"arena_extend_strategy": "kSameAsRequested", "cudnn_conv_algo_search": "HEURISTIC"}

    def __init__(self, bundle: Bundle, name: str) -> None:
        from vpt_edge.runtime import cuda

        super().__init__(bundle, name)
        self._stream = cuda.Stream(cuda.Device.open())

    def zeros(self, shape: tuple[int, ...], dtype: Any, /) -> DeviceArray:
        self._stream.device.enter()
        array = self._stream.zeros(shape, dtype)
        self._stream.wait()  # ONNX Runtime works on a stream of its own
        return array

    def close(self) -> None:
        super().close()
        self._stream.close()


def missing_library(onnxruntime: Any) -> str:
    """What the dynamic linker says about the CUDA provider: ONNX Runtime itself only logs it."""
    folder = Path(onnxruntime.__file__).parent / "capi"
    for path in sorted(folder.glob("*onnxruntime_providers_cuda.*")):
        try:
            for shared in folder.glob("*onnxruntime_providers_shared.*"):  # the other one leans on it
                ctypes.CDLL(str(shared), ctypes.RTLD_GLOBAL)
            ctypes.CDLL(str(path))
        except OSError as error:
            return str(error)
        return "its libraries load, but it found no GPU that it can use"
    return f"no CUDA provider in {folder}"
