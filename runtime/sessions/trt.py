"""TensorRT and TensorRT-RTX: one graph as an engine on the GPU, its memory allocated once."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vpt_edge.runtime.errors import SessionError
from vpt_edge.runtime.sessions import cuda
from vpt_edge.runtime.sessions.binding import Binder, Binding, Slot
from vpt_edge.runtime.sessions.plan import map_plan
from vpt_edge.runtime.sessions.signature import check_signatures
from vpt_edge.runtime.sessions.stream import DeviceArray, Stream
from vpt_edge.runtime.sessions.tensorrt import (
    LAST_MESSAGES,
    load_tensorrt,
    make_logger,
    read_platform,
    read_signatures,
)

if TYPE_CHECKING:
    from vpt_edge.runtime.bundle import Bundle
    from vpt_edge.runtime.manifest import Tensor
    from vpt_edge.runtime.sessions import Arrays

# Captured graphs, each with a context: as many as the blocks of a cache of 4,096 tokens.
MOST_GRAPHS = 16


@dataclass
class _Context:
    """An execution context of a profile, and what it was given last."""

    handle: Any
    profile: int
    bound: Binding | None = None


class TrtSession:
    """One graph on TensorRT. A device array is used where it lies; all else goes through
    page-locked memory.

    The second run in a row with the same shapes and addresses is captured as a CUDA graph; from
    then on such a run is one launch. A captured context is used for nothing else: TensorRT leaves
    undefined what its graph does otherwise. Each session has a stream of its own: sessions in
    several threads run beside each other.
    """

    library = "tensorrt"

    def __init__(self, bundle: Bundle, name: str) -> None:
        if bundle.manifest.target != "tensorrt":
            raise SessionError(
                f"{bundle.path} was exported for {bundle.manifest.target}, device "
                f"{self.library!r} needs graphs for TensorRT",
                "vpt-export CHECKPOINT -o BUNDLE "
                f"--precision {bundle.manifest.precision} --target tensorrt",
            )
        self._name = name
        self._graph = bundle.graph(name)
        self._lock = threading.Lock()
        self._messages = deque[str](maxlen=LAST_MESSAGES)
        self._trt = load_tensorrt(self.library)
        # First: without a driver TensorRT's runtime crashes the process.
        self._device = cuda.Device.open()
        mapped, plan = map_plan(bundle, read_platform(self._trt, self.library), name)
        self._profiles = plan.profiles
        self._runtime: Any = None
        self._engine: Any = None
        self._idle: dict[int, _Context] = {}  # by profile, for runs that are not captured
        self._last: Binding | None = None
        self._captured: dict[Binding, tuple[int, _Context]] = {}
        self._stream: Stream | None = Stream(self._device)
        try:
            self._load(mapped)
            self._slots = {
                tensor.name: self._slot(tensor)
                for tensor in (*self._graph.inputs, *self._graph.outputs)
                if not tensor.name.startswith(("past.", "present."))
            }
            self._binder = Binder(name, self._graph, self._slots, self._device.integrated)
        except BaseException:
            with contextlib.suppress(SessionError):  # the first error says more
                self.close()
            raise

    def _load(self, plan: np.memmap[Any, Any]) -> None:
        """Runtime, engine, and a context for each profile; as only one of them runs at a time, they
        share memory.
        """
        stream = self._open()
        self._runtime = self._trt.Runtime(make_logger(self._trt, self._messages))
        engine = self._runtime.deserialize_cuda_engine(plan)
        self._engine = self._need(engine, f"does not load {plan.filename}")
        inputs, outputs = read_signatures(self._trt, self._engine)
        check_signatures(self._graph, inputs, outputs)
        size = max(int(self._engine.device_memory_size_v2), 1)
        self._scratch = stream.zeros((size,), np.uint8)
        for index in range(len(self._profiles)):
            self._context(index)
        stream.wait()

    def _context(self, index: int) -> _Context:
        """The context of a profile for runs that are not captured."""
        if index not in self._idle:
            stream = self._open()
            strategy = self._trt.ExecutionContextAllocationStrategy.USER_MANAGED
            handle = self._engine.create_execution_context(strategy)
            self._need(handle, "makes no context")
            handle.set_device_memory(self._scratch.pointer, self._scratch.nbytes)
            chosen = handle.set_optimization_profile_async(index, stream.handle)
            self._need(chosen, f"has no profile {index}")
            self._idle[index] = _Context(handle, index)
        return self._idle[index]

    def _slot(self, tensor: Tensor) -> Slot:
        """Memory for the largest size of a tensor."""
        stream = self._open()
        size = np.dtype(tensor.dtype).itemsize
        for side in tensor.shape:
            size *= self._graph.bounds[side][2] if isinstance(side, str) else side
        host, mapped = stream.pinned(size)
        if self._device.integrated and tensor in self._graph.inputs:
            return Slot(host, mapped, 0)
        return Slot(host, mapped, stream.zeros((size,), np.uint8).pointer)

    def zeros(self, shape: tuple[int, ...], dtype: Any) -> DeviceArray:
        with self._lock:
            stream = self._open()
            self._device.enter()
            return stream.zeros(shape, dtype)

    def run(self, inputs: Arrays, outputs: Arrays) -> None:
        with self._lock:
            stream = self._open()
            self._device.enter()
            binding = self._binder.bind(inputs, outputs)
            for name, _ in binding.copies_in:
                np.copyto(self._slots[name].view(inputs[name]), inputs[name])
            last = self._last
            self._last = None  # a run that fails may leave anything behind
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

    def _profile(self, shapes: tuple[tuple[int, ...], ...]) -> int:
        """The first profile that holds ``shapes``: they stand in the order of their size."""
        named = {
            tensor.name: shape for tensor, shape in zip(self._graph.inputs, shapes, strict=True)
        }
        for index, profile in enumerate(self._profiles):
            if profile.holds(named):
                return index
        raise SessionError(
            f"no profile of {self._name}'s plan holds {named}",
            f"build it again: vpt-build BUNDLE --device {self.library}",
        )

    def _queue(self, binding: Binding) -> None:
        """Queue a run: copies in, the engine, copies out."""
        stream = self._open()
        context = self._context(self._profile(binding.shapes))
        if context.bound != binding:
            context.bound = None
            self._give(context.handle, binding)
            context.bound = binding
        if not self._device.integrated:
            for name, size in binding.copies_in:
                slot = self._slots[name]
                stream.to_device(slot.device, slot.host.ctypes.data, size)
        self._need(context.handle.execute_async_v3(stream.handle), "does not run")
        if not self._device.integrated:
            for name, size in binding.copies_out:
                slot = self._slots[name]
                stream.to_host(slot.host.ctypes.data, slot.device, size)

    def _give(self, context: Any, binding: Binding) -> None:
        """Tell TensorRT shapes and addresses, and hold the arrays for the outputs against the
        shapes that it tells.
        """
        names = [tensor.name for tensor in (*self._graph.inputs, *self._graph.outputs)]
        for name, shape in zip(names, binding.shapes, strict=False):
            self._need(context.set_input_shape(name, shape), f"refuses {shape} as {name}")
        for name, address in zip(names, binding.addresses, strict=True):
            self._need(context.set_tensor_address(name, address), f"refuses the address of {name}")
        for tensor, given in zip(self._graph.outputs, binding.outputs, strict=True):
            expected = tuple(context.get_tensor_shape(tensor.name))
            if given not in (None, expected):
                raise SessionError(f"{tensor.name} of {self._name} is {given}, expected {expected}")

    def _capturable(self, binding: Binding) -> bool:
        """TensorRT-RTX says whether a run can be captured as it stands; TensorRT can always."""
        context = self._context(self._profile(binding.shapes))
        if self.library != "tensorrt-rtx":
            return True
        return bool(context.handle.is_stream_capturable(self._open().handle))

    def _capture(self, binding: Binding) -> int:
        stream = self._open()
        if len(self._captured) == MOST_GRAPHS:
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
        context = self._idle.pop(self._profile(binding.shapes))
        self._captured[binding] = (graph, context)
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

    def _open(self) -> Stream:
        if self._stream is None:
            raise SessionError(f"the session of {self._name} is closed")
        return self._stream

    def close(self) -> None:
        with self._lock:
            stream = self._stream
            self._stream = None
            if stream is None:
                return
            self._device.enter()
            stream.wait()
            # Graphs hold the contexts' kernels, contexts the engine's memory.
            for graph, _ in self._captured.values():
                stream.forget(graph)
            self._captured.clear()
            self._idle.clear()
            self._engine = self._runtime = None
            stream.close()


class RtxSession(TrtSession):
    """The same on TensorRT-RTX."""

    library = "tensorrt-rtx"
