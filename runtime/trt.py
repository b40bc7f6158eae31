"""TensorRT and TensorRT-RTX: one graph as an engine on the GPU, with memory that is allocated once."""

from __future__ import annotations

import contextlib
import importlib
import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vpt_edge.runtime import cuda
from vpt_edge.runtime.errors import SessionError
from vpt_edge.runtime.plan import Platform, find_plan

if TYPE_CHECKING:
    from pathlib import Path

    from vpt_edge.runtime.bundle import Bundle, Tensor
    from vpt_edge.runtime.session import Arrays

LEAST = (10, 3)  # what JetPack 6 has
MODULES = {"tensorrt": ("tensorrt",), "tensorrt-rtx": ("tensorrt_rtx", "tensorrt_rtx_bindings")}
MEND = {
    "tensorrt": "on a Jetson it comes with JetPack (a virtual environment needs --system-site-packages); "
    "elsewhere: pip install 'vpt-edge[tensorrt]'",
    "tensorrt-rtx": "pip install 'vpt-edge[rtx]'",
}
GRAPHS_KEPT = 32  # captured ones, for as many different shapes; the oldest goes first
MESSAGES_KEPT = 8  # of TensorRT's log


def load_tensorrt(library: str) -> Any:
    """The module of ``library`` ("tensorrt" or "tensorrt-rtx"). Raises SessionError if it is missing or too old."""
    problems = []
    for name in MODULES[library]:
        try:
            module = importlib.import_module(name)
        except Exception as error:  # a library that does not load raises what it likes
            problems.append(f"{name}: {error}")
            continue
        version = tuple(int(part) for part in module.__version__.split(".")[:2])
        if library == "tensorrt" and version < LEAST:
            raise SessionError(
                f"TensorRT {module.__version__} is too old, expected 10.3 or later; on a Jetson install JetPack 6.1 or "
                "later, elsewhere: pip install 'tensorrt>=10.3'"
            )
        return module
    raise SessionError(f"{library} cannot be imported ({'; '.join(problems)}); {MEND[library]}")


def platform(trt: Any, library: str) -> Platform:
    """What plans built here are bound to. Raises SessionError where TensorRT proper finds no GPU."""
    if library == "tensorrt-rtx":  # its plans are finished on the card that runs them
        return Platform(library, trt.__version__, "any", "any", "any")
    device = cuda.Device.open()
    return Platform(library, trt.__version__, device.driver, device.name, device.capability)


def make_logger(trt: Any, messages: deque[str]) -> Any:
    """A logger that keeps the last warnings and errors in ``messages``, for the text of an error."""

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR):
                messages.append(message)

    return Logger()


@dataclass
class _Slot:
    """Where an input or output that the caller has in host memory lies for the engine.

    ``host``: page-locked bytes, ``mapped``: their address on the GPU. ``device``: a place in the GPU's own memory, for
    what is copied because CPU and GPU share none, and for outputs that nobody asked for.
    """

    host: np.ndarray[Any, Any]
    mapped: int
    device: int

    def view(self, like: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """The page-locked bytes as an array of the shape and dtype of ``like``."""
        return self.host[: like.nbytes].view(like.dtype).reshape(like.shape)


@dataclass(frozen=True)
class _Binding:
    """All that a captured run depends on: shapes of the inputs, addresses of all tensors, the host copies to make."""

    shapes: tuple[tuple[int, ...], ...]
    addresses: tuple[int, ...]
    copies_in: tuple[tuple[str, int], ...]  # slot and bytes
    copies_out: tuple[tuple[str, int], ...]


class TrtSession:
    """One graph on TensorRT. A device array is used where it lies; all else goes through page-locked memory.

    The second run in a row with the same shapes and addresses is captured as a CUDA graph; from then on such a run is
    one launch. Each session has a stream of its own: sessions in several threads run beside each other.
    """

    library = "tensorrt"

    def __init__(self, bundle: Bundle, name: str) -> None:
        if bundle.manifest.target != "tensorrt":
            raise SessionError(
                f"{bundle.path} was exported for {bundle.manifest.target}, device {self.library!r} needs graphs for "
                f"TensorRT: vpt-export CHECKPOINT -o BUNDLE --precision {bundle.manifest.precision} --target tensorrt"
            )
        self._name, self._graph = name, bundle.graph(name)
        self._lock, self._messages = threading.Lock(), deque[str](maxlen=MESSAGES_KEPT)
        self._trt = load_tensorrt(self.library)
        self._device = cuda.Device.open()  # first: without a driver TensorRT's runtime crashes the process
        path, plan = find_plan(bundle, platform(self._trt, self.library), name)
        self._profiles = plan.profiles
        self._runtime: Any = None
        self._engine: Any = None
        self._contexts: list[Any] = []
        self._bound: list[_Binding | None] = [None] * len(plan.profiles)  # what each context was given last
        self._last: _Binding | None = None
        self._captured: dict[_Binding, int] = {}
        self._stream: cuda.Stream | None = cuda.Stream(self._device)
        try:
            self._load(path)
            self._slots = {
                tensor.name: self._slot(tensor)
                for tensor in (*self._graph.inputs, *self._graph.outputs)
                if not tensor.name.startswith(("past.", "present."))
            }
        except BaseException:
            self.close()
            raise

    def _load(self, path: Path) -> None:
        """Runtime, engine, and a context for each profile; as only one of them runs at a time, they share memory."""
        trt, stream = self._trt, self._open()
        self._runtime = trt.Runtime(make_logger(trt, self._messages))
        mapped = np.memmap(path, np.uint8, mode="r")  # read from the page cache, not into memory of our own
        self._engine = self._need(self._runtime.deserialize_cuda_engine(mapped), f"does not load {path}")
        scratch = stream.zeros((max(int(self._engine.device_memory_size_v2), 1),), np.uint8)
        for index in range(len(self._profiles)):
            strategy = trt.ExecutionContextAllocationStrategy.USER_MANAGED
            context = self._need(self._engine.create_execution_context(strategy), "makes no context")
            self._contexts.append(context)
            context.set_device_memory(scratch.pointer, scratch.nbytes)
            self._need(context.set_optimization_profile_async(index, stream.handle), f"has no profile {index}")
        stream.wait()

    def _slot(self, tensor: Tensor) -> _Slot:
        sides = [self._graph.bounds[side][2] if isinstance(side, str) else side for side in tensor.shape]
        size = int(np.prod(sides, dtype=np.int64)) * np.dtype(tensor.dtype).itemsize
        stream, shared = self._open(), self._device.integrated and tensor in self._graph.inputs
        host, mapped = stream.pinned(size)
        return _Slot(host, mapped, 0 if shared else stream.zeros((size,), np.uint8).pointer)

    def zeros(self, shape: tuple[int, ...], dtype: Any) -> cuda.DeviceArray:
        with self._lock:
            stream = self._open()
            self._device.enter()
            return stream.zeros(shape, dtype)

    def run(self, inputs: Arrays, outputs: Arrays) -> None:
        with self._lock:
            stream = self._open()
            self._device.enter()
            binding = self._bind(inputs, outputs)
            for name, _ in binding.copies_in:
                np.copyto(self._slots[name].view(inputs[name]), inputs[name])
            if binding in self._captured:
                stream.launch(self._captured[binding])
            elif binding == self._last and self._capturable(binding):
                stream.launch(self._capture(binding))
            else:
                self._queue(binding)
            self._last = binding
            stream.wait()
            for name, _ in binding.copies_out:
                np.copyto(outputs[name], self._slots[name].view(outputs[name]))

    def _bind(self, inputs: Arrays, outputs: Arrays) -> _Binding:
        """Check the arrays, and find the address of every tensor of the graph."""
        unknown = {*inputs, *outputs} - {tensor.name for tensor in (*self._graph.inputs, *self._graph.outputs)}
        if unknown:
            raise SessionError(f"{self._name} has no {', '.join(sorted(unknown))}")
        addresses, copies = [], ([], [])  # type: tuple[list[int], tuple[list[tuple[str, int]], list[tuple[str, int]]]]
        for is_output, tensors, arrays in ((False, self._graph.inputs, inputs), (True, self._graph.outputs, outputs)):
            for tensor in tensors:
                array = arrays.get(tensor.name)
                if array is None:
                    if not is_output or tensor.name not in self._slots:
                        raise SessionError(f"{self._name} was run without {tensor.name}")
                    addresses.append(self._slots[tensor.name].device)
                    continue
                self._check(tensor, array)
                if isinstance(array, cuda.DeviceArray):
                    addresses.append(array.pointer)
                else:
                    slot = self._slots[tensor.name]
                    addresses.append(slot.mapped if self._device.integrated else slot.device)
                    copies[is_output].append((tensor.name, array.nbytes))
        shapes = tuple(tuple(inputs[tensor.name].shape) for tensor in self._graph.inputs)
        return _Binding(shapes, tuple(addresses), tuple(copies[0]), tuple(copies[1]))

    def _check(self, tensor: Tensor, array: Any) -> None:
        found, device = f"{array.dtype} {tuple(array.shape)}", isinstance(array, cuda.DeviceArray)
        fits = array.dtype == tensor.dtype and len(array.shape) == len(tensor.shape)
        for side, size in zip(tensor.shape, array.shape, strict=False):
            fits = fits and (size <= self._graph.bounds[side][2] if isinstance(side, str) else size == side)
        if not fits:
            raise SessionError(
                f"{tensor.name} of {self._name} is {found}, expected {tensor.dtype} {tensor.shape} with sizes "
                f"of at most { ({name: bounds[2] for name, bounds in self._graph.bounds.items()}) }"
            )
        if device != (tensor.name not in self._slots) or (device and not array.contiguous):
            expected = "a host array" if device else "memory from zeros() of this session, contiguous"
            raise SessionError(f"{tensor.name} of {self._name} lies in the wrong memory, expected {expected}")

    def _profile(self, shapes: tuple[tuple[int, ...], ...]) -> int:
        """The first profile that holds ``shapes``: they stand in the order of their size."""
        named = {tensor.name: shape for tensor, shape in zip(self._graph.inputs, shapes, strict=True)}
        for index, profile in enumerate(self._profiles):
            if profile.holds(named):
                return index
        raise SessionError(
            f"no profile of {self._name}'s plan holds {named}; build it again: vpt-build BUNDLE --device {self.library}"
        )

    def _queue(self, binding: _Binding) -> None:
        """Queue a run: copies in, the engine, copies out."""
        stream, index = self._open(), self._profile(binding.shapes)
        context = self._contexts[index]
        if self._bound[index] != binding:
            self._bound[index] = None
            names = [tensor.name for tensor in (*self._graph.inputs, *self._graph.outputs)]
            for name, shape in zip(names, binding.shapes, strict=False):
                self._need(context.set_input_shape(name, shape), f"refuses {shape} as {name}")
            for name, address in zip(names, binding.addresses, strict=True):
                self._need(context.set_tensor_address(name, address), f"refuses the address of {name}")
            self._bound[index] = binding
        shared = self._device.integrated
        for name, size in () if shared else binding.copies_in:
            stream.to_device(self._slots[name].device, self._slots[name].host.ctypes.data, size)
        self._need(context.execute_async_v3(stream.handle), "does not run")
        for name, size in () if shared else binding.copies_out:
            stream.to_host(self._slots[name].host.ctypes.data, self._slots[name].device, size)

    def _capturable(self, binding: _Binding) -> bool:
        """TensorRT-RTX says whether a run can be captured as it stands; TensorRT can always."""
        context = self._contexts[self._profile(binding.shapes)]
        return bool(context.is_stream_capturable(self._open().handle)) if self.library == "tensorrt-rtx" else True

    def _capture(self, binding: _Binding) -> int:
        stream = self._open()
        if len(self._captured) == GRAPHS_KEPT:
            stream.forget(self._captured.pop(next(iter(self._captured))))
        stream.begin_capture()
        try:
            self._queue(binding)
        except SessionError:
            with contextlib.suppress(SessionError):  # the first error says more
                stream.end_capture()
            raise
        self._captured[binding] = stream.end_capture()
        return self._captured[binding]

    def _need(self, result: Any, problem: str) -> Any:
        """``result`` unless TensorRT gave nothing. Raises SessionError with what its log said last."""
        if result is None or result is False:
            said = "; ".join(self._messages) or "nothing in its log"
            self._messages.clear()
            raise SessionError(f"{self.library} {problem} ({self._name}): {said}")
        return result

    def _open(self) -> cuda.Stream:
        if self._stream is None:
            raise SessionError(f"the session of {self._name} is closed")
        return self._stream

    def close(self) -> None:
        with self._lock:
            stream, self._stream = self._stream, None
            if stream is None:
                return
            self._device.enter()
            stream.wait()
            for graph in self._captured.values():  # graphs hold the contexts' kernels, contexts the engine's memory
                stream.forget(graph)
            self._captured.clear()
            self._contexts.clear()
            self._engine = self._runtime = None
            stream.close()


class RtxSession(TrtSession):
    """The same on TensorRT-RTX."""

    library = "tensorrt-rtx"
