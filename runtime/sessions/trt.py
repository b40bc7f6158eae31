"""TensorRT and TensorRT-RTX: one graph as an engine on the GPU, with memory that is allocated once."""

from __future__ import annotations

import contextlib
import importlib
import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vpt_edge.runtime.errors import SessionError
from vpt_edge.runtime.sessions import cuda
from vpt_edge.runtime.sessions.plan import Platform, find_plan

if TYPE_CHECKING:
    from pathlib import Path

    from vpt_edge.runtime.bundle import Bundle, Tensor
    from vpt_edge.runtime.sessions import Arrays

LEAST = (10, 3)  # what JetPack 6 has
MODULES = {"tensorrt": ("tensorrt",), "tensorrt-rtx": ("tensorrt_rtx", "tensorrt_rtx_bindings")}
MEND = {
    "tensorrt": "on a Jetson it comes with JetPack (a virtual environment needs --system-site-packages); "
    "elsewhere: pip install 'vpt-edge[tensorrt]'",
    "tensorrt-rtx": "pip install 'vpt-edge[rtx]'",
}
GRAPHS_KEPT = (
    16  # captured ones, each with a context: as many as the blocks of a cache of 4,096 tokens
)
MESSAGES_KEPT = 8  # of TensorRT's log


def load_tensorrt(library: str) -> Any:
    """The module of ``library`` ("tensorrt" or "tensorrt-rtx").

    Raises SessionError if it is missing or too old.
    """
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
    """What plans built here are bound to.

    Raises SessionError where TensorRT proper finds no GPU.
    """
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

    ``host``: page-locked bytes, ``mapped``: their address on the GPU. ``device``: a place in the
    GPU's own memory, for what is copied because CPU and GPU share none, and for outputs that nobody
    asked for."""

    host: np.ndarray[Any, Any]
    mapped: int
    device: int

    def view(self, like: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """The page-locked bytes as an array of the shape and dtype of ``like``."""
        return self.host[: like.nbytes].view(like.dtype).reshape(like.shape)


@dataclass(frozen=True)
class _Binding:
    """All that a captured run depends on: shapes of the inputs, addresses of all tensors, the host
    copies to make."""

    shapes: tuple[tuple[int, ...], ...]
    addresses: tuple[int, ...]
    outputs: tuple[tuple[int, ...] | None, ...]  # shapes, None for what nobody asked for
    copies_in: tuple[tuple[str, int], ...]  # slot and bytes
    copies_out: tuple[tuple[str, int], ...]


@dataclass
class _Context:
    """An execution context of a profile, and what it was given last."""

    made: Any
    profile: int
    bound: _Binding | None = None


class TrtSession:
    """One graph on TensorRT. A device array is used where it lies; all else goes through
    page-locked memory.

    The second run in a row with the same shapes and addresses is captured as a CUDA graph; from
    then on such a run is one launch. A captured context is used for nothing else: TensorRT leaves
    undefined what its graph does otherwise. Each session has a stream of its own: sessions in
    several threads run beside each other."""

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
        self._device = (
            cuda.Device.open()
        )  # first: without a driver TensorRT's runtime crashes the process
        path, plan = find_plan(bundle, platform(self._trt, self.library), name)
        self._profiles = plan.profiles
        self._runtime: Any = None
        self._engine: Any = None
        self._idle: dict[int, _Context] = {}  # by profile, for runs that are not captured
        self._last: _Binding | None = None
        self._captured: dict[_Binding, tuple[int, _Context]] = {}
        self._stream: cuda.Stream | None = cuda.Stream(self._device)
        try:
            self._load(path)
            self._slots = {
                tensor.name: self._slot(tensor)
                for tensor in (*self._graph.inputs, *self._graph.outputs)
                if not tensor.name.startswith(("past.", "present."))
            }
        except BaseException:
            with contextlib.suppress(SessionError):  # the first error says more
                self.close()
            raise

    def _load(self, path: Path) -> None:
        """Runtime, engine, and a context for each profile; as only one of them runs at a time, they
        share memory."""
        trt, stream = self._trt, self._open()
        self._runtime = trt.Runtime(make_logger(trt, self._messages))
        mapped = np.memmap(
            path, np.uint8, mode="r"
        )  # read from the page cache, not into memory of our own
        self._engine = self._need(
            self._runtime.deserialize_cuda_engine(mapped), f"does not load {path}"
        )
        self._scratch = stream.zeros((max(int(self._engine.device_memory_size_v2), 1),), np.uint8)
        for index in range(len(self._profiles)):
            self._context(index)
        stream.wait()

    def _context(self, index: int) -> _Context:
        """The context of a profile for runs that are not captured; as only one runs at a time, they
        share memory."""
        if index not in self._idle:
            strategy = self._trt.ExecutionContextAllocationStrategy.USER_MANAGED
            made = self._need(self._engine.create_execution_context(strategy), "makes no context")
            made.set_device_memory(self._scratch.pointer, self._scratch.nbytes)
            handle = self._open().handle
            self._need(
                made.set_optimization_profile_async(index, handle), f"has no profile {index}"
            )
            self._idle[index] = _Context(made, index)
        return self._idle[index]

    def _slot(self, tensor: Tensor) -> _Slot:
        sides = [
            self._graph.bounds[side][2] if isinstance(side, str) else side for side in tensor.shape
        ]
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
            last, self._last = self._last, None  # a run that fails may leave anything behind
            if binding in self._captured:
                stream.launch(self._captured[binding][0])
            elif binding == last and self._capturable(binding):
                stream.launch(self._capture(binding))
            else:
                self._queue(binding)
            stream.wait()
            self._last = binding
            for name, _ in binding.copies_out:
                np.copyto(outputs[name], self._slots[name].view(outputs[name]))

    def _bind(self, inputs: Arrays, outputs: Arrays) -> _Binding:
        """Check the arrays, and find the address of every tensor of the graph."""
        unknown = {*inputs, *outputs} - {
            tensor.name for tensor in (*self._graph.inputs, *self._graph.outputs)
        }
        if unknown:
            raise SessionError(f"{self._name} has no {', '.join(sorted(unknown))}")
        addresses, copies = [], ([], [])  # type: tuple[list[int], tuple[list[tuple[str, int]], list[tuple[str, int]]]]
        for is_output, tensors, arrays in (
            (False, self._graph.inputs, inputs),
            (True, self._graph.outputs, outputs),
        ):
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
        shown = (outputs.get(tensor.name) for tensor in self._graph.outputs)
        places = tuple(None if array is None else tuple(array.shape) for array in shown)
        return _Binding(shapes, tuple(addresses), places, tuple(copies[0]), tuple(copies[1]))

    def _check(self, tensor: Tensor, array: Any) -> None:
        found, device = f"{array.dtype} {tuple(array.shape)}", isinstance(array, cuda.DeviceArray)
        fits = array.dtype == tensor.dtype and len(array.shape) == len(tensor.shape)
        for side, size in zip(tensor.shape, array.shape, strict=False):
            fits = fits and (
                size <= self._graph.bounds[side][2] if isinstance(side, str) else size == side
            )
        if not fits:
            raise SessionError(
                f"{tensor.name} of {self._name} is {found}, expected {tensor.dtype} {tensor.shape} with sizes "
                f"of at most { ({name: bounds[2] for name, bounds in self._graph.bounds.items()}) }"
            )
        if device != (tensor.name not in self._slots) or (device and not array.contiguous):
            expected = (
                "a host array" if device else "memory from zeros() of this session, contiguous"
            )
            raise SessionError(
                f"{tensor.name} of {self._name} lies in the wrong memory, expected {expected}"
            )

    def _profile(self, shapes: tuple[tuple[int, ...], ...]) -> int:
        """The first profile that holds ``shapes``: they stand in the order of their size."""
        named = {
            tensor.name: shape for tensor, shape in zip(self._graph.inputs, shapes, strict=True)
        }
        for index, profile in enumerate(self._profiles):
            if profile.holds(named):
                return index
        raise SessionError(
            f"no profile of {self._name}'s plan holds {named}; build it again: vpt-build BUNDLE --device {self.library}"
        )

    def _queue(self, binding: _Binding) -> None:
        """Queue a run: copies in, the engine, copies out."""
        stream, index = self._open(), self._profile(binding.shapes)
        context = self._context(index)
        if context.bound != binding:
            context.bound = None
            self._give(context.made, binding)
            context.bound = binding
        shared = self._device.integrated
        for name, size in () if shared else binding.copies_in:
            stream.to_device(self._slots[name].device, self._slots[name].host.ctypes.data, size)
        self._need(context.made.execute_async_v3(stream.handle), "does not run")
        for name, size in () if shared else binding.copies_out:
            stream.to_host(self._slots[name].host.ctypes.data, self._slots[name].device, size)

    def _give(self, context: Any, binding: _Binding) -> None:
        """Tell TensorRT shapes and addresses, and hold the arrays for the outputs against the
        shapes that it tells."""
        names = [tensor.name for tensor in (*self._graph.inputs, *self._graph.outputs)]
        for name, shape in zip(names, binding.shapes, strict=False):
            self._need(context.set_input_shape(name, shape), f"refuses {shape} as {name}")
        for name, address in zip(names, binding.addresses, strict=True):
            self._need(context.set_tensor_address(name, address), f"refuses the address of {name}")
        for tensor, found in zip(self._graph.outputs, binding.outputs, strict=True):
            expected = tuple(context.get_tensor_shape(tensor.name))
            if found not in (None, expected):
                raise SessionError(f"{tensor.name} of {self._name} is {found}, expected {expected}")

    def _capturable(self, binding: _Binding) -> bool:
        """TensorRT-RTX says whether a run can be captured as it stands; TensorRT can always."""
        context = self._context(self._profile(binding.shapes))
        return (
            bool(context.made.is_stream_capturable(self._open().handle))
            if self.library == "tensorrt-rtx"
            else True
        )

    def _capture(self, binding: _Binding) -> int:
        stream = self._open()
        if len(self._captured) == GRAPHS_KEPT:
            oldest, context = self._captured.pop(next(iter(self._captured)))
            stream.forget(oldest)
            self._idle.setdefault(context.profile, context)
        stream.begin_capture()
        try:
            self._queue(binding)
        except SessionError:
            with contextlib.suppress(SessionError):  # the first error says more
                stream.end_capture()
            raise
        graph = stream.end_capture()
        self._captured[binding] = graph, self._idle.pop(self._profile(binding.shapes))
        return graph

    def _need(self, result: Any, problem: str) -> Any:
        """``result`` unless TensorRT gave nothing.

        Raises SessionError with what its log said last.
        """
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
            for (
                graph,
                _,
            ) in (
                self._captured.values()
            ):  # graphs hold the contexts' kernels, contexts the engine's memory
                stream.forget(graph)
            self._captured.clear()
            self._idle.clear()
            self._engine = self._runtime = None
            stream.close()


class RtxSession(TrtSession):
    """The same on TensorRT-RTX."""

    library = "tensorrt-rtx"
