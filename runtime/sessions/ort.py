"""ONNX Runtime, on the CPU and on a GPU through CUDA."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import io
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vpt_edge.runtime import host
from vpt_edge.runtime.errors import SessionError
from vpt_edge.runtime.names import utf8_name
from vpt_edge.runtime.schema import LISTED
from vpt_edge.runtime.sessions import cuda
from vpt_edge.runtime.sessions.failure import summarize
from vpt_edge.runtime.sessions.signature import Signature, check_signatures
from vpt_edge.runtime.sessions.stream import DeviceArray, Stream

if TYPE_CHECKING:
    from vpt_edge.runtime.bundle import Bundle
    from vpt_edge.runtime.sessions import Array, Arrays

CPU = "CPUExecutionProvider"
SILENT = 4  # of its log: its exceptions say the same, and a node's name goes to no terminal raw
FLOATS = {"float": "float32", "double": "float64"}  # its names; those of others are numpy's
HEAVY_OPERATORS = {
    *("Conv", "Gemm", "MatMul", "GroupQueryAttention", "MultiHeadAttention"),
    *("MatMulIntegerToFloat", "MatMulNBits", "QGemm"),
}


class OrtSession:
    """One graph on ONNX Runtime. Arrays are bound where they lie: nothing is copied in or out."""

    provider = CPU
    provider_options: dict[str, Any] = {}

    def __init__(self, bundle: Bundle, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._session: Any = self._inference_session(bundle, name)
        self._binding: Any = self._session.io_binding()
        self._bound: dict[str, Array] = {}
        inputs = _read_signatures(self._session.get_inputs())
        outputs = _read_signatures(self._session.get_outputs())
        check_signatures(bundle.graph(name), inputs, outputs)
        self._inputs = set(inputs)
        self._outputs = set(outputs)

    def _inference_session(self, bundle: Bundle, name: str) -> Any:
        file = bundle.graph(name).file
        try:
            import onnxruntime
        except ImportError as error:
            raise SessionError(
                f"onnxruntime cannot be imported ({error})", "pip install vpt-edge"
            ) from error
        options = onnxruntime.SessionOptions()
        options.log_severity_level = SILENT
        self._prepare(onnxruntime, options)
        try:
            with utf8_name(bundle.file(file)) as place:
                session = onnxruntime.InferenceSession(
                    place,
                    options,
                    providers=[(self.provider, self.provider_options)],
                    enable_fallback=0,  # which would tell the terminal that it has failed
                )
        except Exception as error:  # ONNX Runtime has no public tree of errors
            fix = "export the checkpoint again, or install the version in which it was exported"
            if bundle.is_scattered:
                fix = f"its files are symlinks into several folders: {copy_files(bundle.path)}"
            raise SessionError(
                f"ONNX Runtime {onnxruntime.__version__} cannot open {file}: {summarize(error)}",
                fix,
            ) from error
        # It may have fallen back to the CPU, with no more than a line in its log.
        if session.get_providers()[0] != self.provider:
            raise SessionError(
                f"{self.provider} does not load: {missing_library(onnxruntime)}",
                "install what it names, or use another device; vpt-doctor shows which run here",
            )
        return session

    def _prepare(self, onnxruntime: Any, options: Any) -> None:
        """What the provider needs before a session is opened."""
        _share_arena()
        options.add_session_config_entry("session.use_env_allocators", "1")
        cores = host.usable_cores()
        # Left alone it starts threads for all of them, and they spin.
        if cores < (os.cpu_count() or cores):
            options.intra_op_num_threads = cores

    def run(self, inputs: Arrays, outputs: Arrays) -> None:
        with self._lock:
            if self._session is None:
                raise SessionError(f"the session of {self._name} is closed")
            self._check(inputs, outputs)
            self._bind_all(inputs, self._binding.bind_input)
            self._bind_all(outputs, self._binding.bind_output)
            try:
                self._session.run_with_iobinding(self._binding)
            except Exception as error:  # see above
                first = list(inputs.items())[:LISTED]  # a decoder has a past for each layer
                shapes = ", ".join(f"{name} {array.shape}" for name, array in first)
                raise SessionError(
                    f"ONNX Runtime failed in {self._name} ({shapes}): {summarize(error)}"
                ) from error

    def _check(self, inputs: Arrays, outputs: Arrays) -> None:
        given = {*inputs, *outputs}
        unknown = given - self._inputs - self._outputs
        if unknown:
            raise SessionError(f"{self._name} has no {', '.join(sorted(unknown))}")
        missing = self._inputs - set(inputs)
        if missing:
            raise SessionError(f"{self._name} was run without {', '.join(sorted(missing))}")
        # What an earlier run asked for and this one does not would be written as well.
        if set(self._bound) - given:
            self._binding.clear_binding_inputs()
            self._binding.clear_binding_outputs()
            self._bound.clear()

    def _bind_all(self, arrays: Arrays, bind: Any) -> None:
        for name, array in arrays.items():
            if self._bound.get(name) is not array:
                self._bind(name, array, bind)

    def _bind(self, name: str, array: Array, bind: Any) -> None:
        if isinstance(array, np.ndarray):
            if not array.flags.c_contiguous:
                raise SessionError(
                    f"{name} of {self._name} is not contiguous: {array.shape}, {array.strides}"
                )
            place = "cpu"
            pointer = array.ctypes.data
        else:
            place = "cuda"
            pointer = array.pointer
        try:
            bind(name, place, 0, array.dtype, array.shape, pointer)
        except Exception as error:  # see above
            raise SessionError(
                f"{self._name} refuses {name}, {array.dtype} {array.shape}: {summarize(error)}"
            ) from error
        self._bound[name] = array  # keeps the memory alive, and spares the next run the binding

    def zeros(self, shape: tuple[int, ...], dtype: Any, /) -> Array:
        if self._session is None:
            raise SessionError(f"the session of {self._name} is closed")
        return np.zeros(shape, dtype)

    def close(self) -> None:
        with self._lock:
            self._bound.clear()
            self._binding = None
            self._session = None
        # Only glibc has it, and keeps what was freed.
        with contextlib.suppress(OSError, AttributeError, TypeError):
            ctypes.CDLL(None).malloc_trim(0)


class OrtCudaSession(OrtSession):
    """The same on a GPU: the key-value cache stays there, all else is copied by ONNX Runtime."""

    provider = "CUDAExecutionProvider"
    provider_options = {
        "arena_extend_strategy": "kSameAsRequested",
        "cudnn_conv_algo_search": "HEURISTIC",
    }

    def __init__(self, bundle: Bundle, name: str) -> None:
        manifest = bundle.manifest
        if manifest.target != "onnxruntime":
            raise SessionError(
                f"{bundle.path} was exported for {manifest.target}, device 'cuda' needs graphs for "
                "ONNX Runtime",
                "vpt-export CHECKPOINT -o BUNDLE "
                f"--precision {manifest.precision} --target onnxruntime",
            )
        super().__init__(bundle, name)
        missing = misplaced_operators(self._session, self.provider)
        if missing:
            raise SessionError(
                f"{self.provider} has no kernel for {', '.join(missing)} of {name} in "
                f"{manifest.precision}: they would go to the CPU",
                "use a bundle of fp16 (vpt-export --precision fp16), or device 'tensorrt'",
            )
        self._stream = Stream(cuda.Device.open())

    def _prepare(self, onnxruntime: Any, options: Any) -> None:
        if self.provider not in onnxruntime.get_available_providers():
            raise SessionError(
                f"this onnxruntime {onnxruntime.__version__} has no {self.provider}",
                "pip uninstall -y onnxruntime onnxruntime-gpu && pip install "
                "'onnxruntime-gpu[cuda,cudnn]' (on a Jetson: NVIDIA's wheel for it)",
            )
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        if hasattr(onnxruntime, "preload_dlls"):
            with contextlib.redirect_stdout(io.StringIO()):  # it prints advice where answers go
                onnxruntime.preload_dlls()  # CUDA's libraries may have come as wheels

    def zeros(self, shape: tuple[int, ...], dtype: Any, /) -> DeviceArray:
        self._stream.device.enter()
        array = self._stream.zeros(shape, dtype)
        self._stream.wait()  # ONNX Runtime works on a stream of its own
        return array

    def close(self) -> None:
        super().close()
        self._stream.close()


def silence_log() -> None:
    """Let what ONNX Runtime logs of the whole process go nowhere, for a program that prints for it:
    it writes to the terminal raw, in colours.
    """
    with contextlib.suppress(ImportError):  # said by the first session
        import onnxruntime

        onnxruntime.set_default_logger_severity(SILENT)


_sharing = threading.Lock()


def _share_arena() -> None:
    """One arena for the sessions of this process: the decoder takes what the vision encoder frees.

    It stays until the process ends, and the next pipeline takes it.
    """
    with _sharing:  # sessions open at once
        _register_arena()


@functools.cache
def _register_arena() -> None:
    import onnxruntime

    place = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    defaults = onnxruntime.OrtArenaCfg(0, -1, -1, -1)
    with contextlib.suppress(RuntimeError):  # the program around us has registered one: it will do
        onnxruntime.create_and_register_allocator(place, defaults)


def _read_signatures(values: Any) -> dict[str, Signature]:
    """What ONNX Runtime tells of inputs or outputs, by name."""
    signatures = dict[str, Signature]()
    for value in values:
        dtype = value.type.removeprefix("tensor(").removesuffix(")")
        signatures[value.name] = Signature(FLOATS.get(dtype, dtype), tuple(value.shape))
    return signatures


def copy_files(folder: Path) -> str:
    """How to come by a bundle without symlinks."""
    return f"copy what they point to, cp -rL {folder} COPY"


def misplaced_operators(session: Any, provider: str) -> list[str]:
    """The heavy operators of a session that went to another provider than ``provider``."""
    groups: list[Any] = getattr(session, "get_provider_graph_assignment_info", list)()
    operators = set[str]()
    for group in groups:
        if group.ep_name != provider:
            operators.update(node.op_type for node in group.get_nodes())
    return sorted(operators & HEAVY_OPERATORS)


def missing_library(onnxruntime: Any) -> str:
    """What the dynamic linker says about the CUDA provider: ONNX Runtime itself only logs it."""
    folder = Path(onnxruntime.__file__).parent / "capi"
    path = next(iter(sorted(folder.glob("*onnxruntime_providers_cuda.*"))), None)
    if path is None:
        return f"no CUDA provider in {folder}"
    try:
        for shared in folder.glob("*onnxruntime_providers_shared.*"):  # the other one leans on it
            ctypes.CDLL(str(shared), ctypes.RTLD_GLOBAL)
        ctypes.CDLL(str(path))
    except OSError as error:
        return str(error)
    return "its libraries load, but it found no GPU that it can use"
