"""An emulated CUDA driver: what ``ctypes.CDLL("libcuda.so.1")`` would return, in host memory.

What is emulated: the functions of ``runtime.sessions.cuda.PROTOTYPES``, called through real ctypes
callbacks; memory (see ``memory``); the current context of each thread; streams as lazy queues;
capture and graphs; counters. Asynchronous work runs when somebody waits for its stream and not a
moment earlier, and each stream waits for nobody else: a result that is read too early, or a buffer
that is filled again too early, shows in the numbers. Stricter than a GPU: copies from pageable
memory are refused, freeing memory in use is an error, two streams with work on the same bytes are
an error, and a thread that captures may neither allocate nor wait.

What is not: kernels of one's own, events, priorities, peers, unified memory, the legacy stream,
speed.
"""

from __future__ import annotations

import ctypes
import threading
import weakref
from collections import Counter, deque
from collections.abc import Callable
from ctypes import c_char_p, c_int, c_void_p
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from emulated.memory import (
    CAPTURE_INVALIDATED,
    CAPTURE_UNSUPPORTED,
    ILLEGAL_ADDRESS,
    INVALID_CONTEXT,
    INVALID_HANDLE,
    INVALID_VALUE,
    OUT_OF_MEMORY,
    UNKNOWN,
    Memory,
    Misuse,
    Refusal,
    Span,
    overlap,
)
from vpt_edge.runtime.sessions import cuda
from vpt_edge.runtime.sessions.stream import Copy2D

CONTEXT = 0xC0DE
ERRORS = {
    INVALID_VALUE: ("CUDA_ERROR_INVALID_VALUE", "invalid argument"),
    OUT_OF_MEMORY: ("CUDA_ERROR_OUT_OF_MEMORY", "out of memory"),
    INVALID_CONTEXT: ("CUDA_ERROR_INVALID_CONTEXT", "invalid device context"),
    INVALID_HANDLE: ("CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"),
    ILLEGAL_ADDRESS: ("CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"),
    CAPTURE_UNSUPPORTED: (
        "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED",
        "operation not permitted when stream is capturing",
    ),
}
WITHOUT_CONTEXT = {
    *(
        "cuInit",
        "cuDriverGetVersion",
        "cuGetErrorName",
        "cuGetErrorString",
        "cuDeviceGet",
        "cuDeviceGetName",
    ),
    *("cuDeviceGetAttribute", "cuDevicePrimaryCtxRetain", "cuCtxSetCurrent"),
}
MAX_PITCH = (1 << 31) - 1
HOST, DEVICE = 1, 2  # CU_MEMORYTYPE


@dataclass(frozen=True)
class Work:
    """Something that a stream does later; ``reads`` and ``writes`` are what it touches on the
    device.
    """

    text: str
    run: Callable[[], None]
    reads: tuple[Span, ...] = ()
    writes: tuple[Span, ...] = ()


@dataclass
class EmulatedStream:
    handle: int
    queue: deque[Work] = field(default_factory=deque)
    lock: threading.Lock = field(default_factory=threading.Lock)
    capture: list[Work] | None = None
    capturing_thread: int = 0


_FUNCTIONS: dict[str, Callable[..., None]] = {}


def _emulates(name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    def register(function: Callable[..., None]) -> Callable[..., None]:
        _FUNCTIONS[name] = function
        return function

    return register


class Driver:
    """The state of the emulated device.

    ``errors``: what callers did wrong. ``copied``: bytes by kind ("HtoD", "DtoH", "DtoD").
    ``calls``: by function. ``executions``: of engines, in replays too; ``profiles``: the same by
    graph and profile. ``launches``: of graphs.
    """

    def __init__(
        self,
        *,
        name: str = "Emulated GPU",
        capability: tuple[int, int] = (8, 7),
        driver: int = 12060,
        integrated: bool = False,
        total: int = 8 << 30,
    ) -> None:
        self.name, self.capability, self.driver, self.integrated = (
            name,
            capability,
            driver,
            integrated,
        )
        self.memory = Memory(total)
        self.errors: list[str] = []
        self.copied: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self.executions = self.launches = 0
        self.profiles: Counter[tuple[str, int]] = Counter()
        self.streams: dict[int, EmulatedStream] = {}
        self.graphs: dict[int, list[Work]] = {}
        self.ready_graphs: dict[int, list[Work]] = {}
        self.living: weakref.WeakSet[Any] = weakref.WeakSet()  # TensorRT's objects
        self._handles = 0x1000
        self._failures: dict[str, list[tuple[int, int]]] = {}
        self._thread = threading.local()
        self._lock = threading.RLock()
        self._texts: list[c_char_p] = []

    def fail(self, function: str, code: int, after: int = 0) -> None:
        """Let ``function`` fail with ``code`` once, after ``after`` more calls that succeed."""
        self._failures.setdefault(function, []).append((self.calls[function] + after + 1, code))

    def record(self, error: Misuse, where: str = "") -> None:
        if not error.recorded:
            error.recorded = True
            self.errors.append(f"{where}{error}")

    def take_errors(self) -> list[str]:
        """The recorded errors, which are then forgotten."""
        errors, self.errors = self.errors, []
        return errors

    def leaks(self) -> dict[str, int]:
        """What was not given back, by kind."""
        counts = {
            "blocks": len(self.memory.live),
            "streams": len(self.streams),
            "graphs": len(self.graphs) + len(self.ready_graphs),
        }
        return {kind: count for kind, count in counts.items() if count}

    def library(self, *missing: str) -> Any:
        """The functions as ctypes gives them; those in ``missing`` are not there."""
        names = set(cuda.PROTOTYPES) & set(_FUNCTIONS) - set(missing)
        return type(
            "EmulatedLibrary", (), {name: staticmethod(self._callback(name)) for name in names}
        )()

    def _callback(self, name: str) -> Any:
        # ctypes hands char* to a callback as a copy; a plain pointer, which is the same to the
        # caller, can be written
        types = [c_void_p if kind is c_char_p else kind for kind in cuda.PROTOTYPES[name]]
        return ctypes.CFUNCTYPE(c_int, *types)(lambda *arguments: self._call(name, arguments))

    def _call(self, name: str, arguments: tuple[Any, ...]) -> int:
        try:
            self._admit(name, arguments)
            _FUNCTIONS[name](self, *arguments)
        except Misuse as error:
            self.record(error, f"{name}: ")
            return error.code
        except Refusal as error:
            return error.code
        except BaseException as error:  # an exception cannot leave a callback
            self.errors.append(f"{name}: {error!r}")
            return UNKNOWN
        return 0

    def _admit(self, name: str, arguments: tuple[Any, ...]) -> None:
        with self._lock:
            self.calls[name] += 1
            for when, code in self._failures.get(name, ()):
                if when == self.calls[name]:
                    if (
                        name == "cuStreamEndCapture"
                    ):  # it ends the capture even where there is no graph
                        self.stream(arguments[0]).capture = None
                    raise Refusal(code, "a failure that the test asked for")
        if name not in WITHOUT_CONTEXT and getattr(self._thread, "context", None) != CONTEXT:
            raise Misuse(INVALID_CONTEXT, "this thread has no current context")

    def _handle(self) -> int:
        with self._lock:
            self._handles += 0x10
            return self._handles

    def stream(self, handle: int | None) -> EmulatedStream:
        with self._lock:
            if handle is None or handle not in self.streams:
                raise Misuse(INVALID_HANDLE, f"{handle} is no stream, or one that was destroyed")
            return self.streams[handle]

    def capturing(self, handle: int) -> bool:
        return self.stream(handle).capture is not None

    def enqueue(self, handle: int, work: Work) -> None:
        """Queue ``work``, or record it in the stream's capture.

        Raises Misuse if another stream is at its bytes.
        """
        stream = self.stream(handle)
        if stream.capture is not None:
            stream.capture.append(work)
            return
        with self._lock:
            for other in self.streams.values():
                for pending in list(other.queue) if other is not stream else ():
                    self._check_race(work, pending)
            stream.queue.append(work)

    def _check_race(self, work: Work, pending: Work) -> None:
        both = ((work.writes, pending.writes + pending.reads), (work.reads, pending.writes))
        for mine, theirs in both:
            if any(overlap(one, other) for one in mine for other in theirs):
                raise Misuse(
                    INVALID_VALUE, f"{work.text} races with {pending.text} in another stream"
                )

    def finish(self, stream: EmulatedStream) -> None:
        """Run what is queued. Raises Misuse with the first thing that went wrong."""
        problems = []
        with stream.lock:
            while stream.queue:
                try:
                    stream.queue[0].run()
                except Misuse as error:
                    problems.append(error)
                    self.record(error, f"{stream.queue[0].text}: ")
                finally:
                    with self._lock:
                        stream.queue.popleft()
        if problems:
            raise problems[0]

    def count(self, kind: str, size: int) -> None:
        with self._lock:
            self.copied[kind] += size

    def not_capturing(self, what: str) -> None:
        me = threading.get_ident()
        for stream in list(self.streams.values()):
            if stream.capture is not None and stream.capturing_thread == me:
                raise Misuse(CAPTURE_UNSUPPORTED, f"{what} while capturing")

    # The device and its context

    @_emulates("cuInit")
    def _init(self, flags: int) -> None:
        if flags:
            raise Misuse(INVALID_VALUE, f"flags {flags}")

    @_emulates("cuDriverGetVersion")
    def _driver_get_version(self, version: Any) -> None:
        version[0] = self.driver

    @_emulates("cuGetErrorName")
    def _get_error_name(self, code: int, text: Any) -> None:
        self._describe(code, text, 0)

    @_emulates("cuGetErrorString")
    def _get_error_string(self, code: int, text: Any) -> None:
        self._describe(code, text, 1)

    def _describe(self, code: int, text: Any, which: int) -> None:
        if code not in ERRORS:
            raise Refusal(INVALID_VALUE, f"code {code}")
        self._texts.append(
            c_char_p(ERRORS[code][which].encode())
        )  # the driver's texts live as long as it does
        text[0] = self._texts[-1]

    @_emulates("cuDeviceGet")
    def _device_get(self, device: Any, ordinal: int) -> None:
        if ordinal:
            raise Misuse(INVALID_VALUE, f"device {ordinal}")
        device[0] = 0

    @_emulates("cuDeviceGetName")
    def _device_get_name(self, name: int, size: int, device: int) -> None:
        text = self.name.encode()[: size - 1] + b"\0"
        ctypes.memmove(name, text, len(text))

    @_emulates("cuDeviceGetAttribute")
    def _device_get_attribute(self, value: Any, which: int, device: int) -> None:
        known = {
            18: int(self.integrated),
            75: self.capability[0],
            76: self.capability[1],
            11: MAX_PITCH,
        }
        if which not in known:
            raise Misuse(INVALID_VALUE, f"attribute {which} is not emulated")
        value[0] = known[which]

    @_emulates("cuDevicePrimaryCtxRetain")
    def _device_primary_ctx_retain(self, context: Any, device: int) -> None:
        context[0] = CONTEXT

    @_emulates("cuCtxSetCurrent")
    def _ctx_set_current(self, context: int | None) -> None:
        if context != CONTEXT:
            raise Misuse(INVALID_CONTEXT, f"context {context}")
        self._thread.context = context

    # Memory

    @_emulates("cuMemGetInfo_v2")
    def _mem_get_info(self, free: Any, total: Any) -> None:
        with self._lock:
            free[0], total[0] = self.memory.free_bytes, self.memory.total

    @_emulates("cuMemAlloc_v2")
    def _mem_alloc(self, pointer: Any, size: int) -> None:
        self.not_capturing("an allocation")
        with self._lock:
            pointer[0] = self.memory.allocate(size).address

    @_emulates("cuMemFree_v2")
    def _mem_free(self, address: int) -> None:
        self._free(address, address, pinned=False)

    @_emulates("cuMemHostAlloc")
    def _mem_host_alloc(self, pointer: Any, size: int, flags: int) -> None:
        self.not_capturing("an allocation")
        if flags & ~7:
            raise Misuse(INVALID_VALUE, f"flags {flags}")
        with self._lock:
            pointer[0] = self.memory.allocate(size, pinned=True).host

    @_emulates("cuMemHostGetDevicePointer_v2")
    def _mem_host_get_device_pointer(self, pointer: Any, host: int, flags: int) -> None:
        block = self.memory.pinned_block(host, 1)
        if block is None or not block.live or flags:
            raise Misuse(INVALID_VALUE, f"{host:#x} is not page-locked")
        pointer[0] = block.address + host - block.host

    @_emulates("cuMemFreeHost")
    def _mem_free_host(self, host: int) -> None:
        block = self.memory.pinned_block(host, 0)
        self._free(host, block.address if block else 0, pinned=True)

    def _free(self, pointer: int, address: int, pinned: bool) -> None:
        with self._lock:
            block = next((block for block in self.memory.live if block.address == address), None)
            span = (address, block.size if block else 0)
            self.memory.free(pointer, pinned)
            for stream in self.streams.values():
                for work in list(stream.queue):
                    if any(overlap(span, other) for other in work.reads + work.writes):
                        raise Misuse(
                            INVALID_VALUE,
                            f"{pointer:#x} is freed while {work.text} waits to use it",
                        )

    # Work

    @_emulates("cuMemsetD8Async")
    def _memset(self, address: int, value: int, size: int, handle: int) -> None:
        def run() -> None:
            self.memory.bytes_at(address, size)[:] = value

        self.memory.bytes_at(address, size)
        self.enqueue(handle, Work("a memset", run, writes=((address, size),)))

    @_emulates("cuMemcpyHtoDAsync_v2")
    def _copy_to_device(self, address: int, host: int, size: int, handle: int) -> None:
        source = self._device_address(host, size)
        if source is None:
            raise Misuse(
                INVALID_VALUE, f"an asynchronous copy of {size} bytes from pageable memory"
            )
        self._queue_copy(handle, "HtoD", address, source, size)

    @_emulates("cuMemcpyDtoHAsync_v2")
    def _copy_to_host(self, host: int, address: int, size: int, handle: int) -> None:
        target = self._device_address(host, size)
        if target is not None:
            self._queue_copy(handle, "DtoH", target, address, size)
            return
        stream = self.stream(handle)  # a driver stages this, and returns when it is done
        if stream.capture is not None:
            raise Misuse(CAPTURE_UNSUPPORTED, "a copy to pageable memory while capturing")
        self.finish(stream)
        ctypes.memmove(host, self.memory.bytes_at(address, size).ctypes.data, size)
        self.count("DtoH", size)

    def _device_address(self, host: int, size: int) -> int | None:
        block = self.memory.pinned_block(host, size)
        if block is not None and not block.live:
            raise Misuse(ILLEGAL_ADDRESS, f"page-locked memory at {host:#x} was freed")
        return None if block is None else block.address + host - block.host

    def _queue_copy(self, handle: int, kind: str, target: int, source: int, size: int) -> None:
        def run() -> None:
            self.memory.bytes_at(target, size)[:] = self.memory.bytes_at(source, size)
            self.count(kind, size)

        self.memory.bytes_at(target, size)
        self.memory.bytes_at(source, size)
        self.enqueue(handle, Work(f"a copy {kind}", run, ((source, size),), ((target, size),)))

    @_emulates("cuMemcpy2DAsync_v2")
    def _copy_2d(self, pointer: int, handle: int) -> None:
        copy = Copy2D.from_address(pointer)
        width, height = copy.width, copy.height
        if (copy.src_type, copy.dst_type) != (DEVICE, DEVICE):
            raise Misuse(
                INVALID_VALUE,
                f"a copy from memory type {copy.src_type} to {copy.dst_type} is not emulated",
            )
        source = (copy.src_device + copy.src_y * copy.src_pitch + copy.src_x, copy.src_pitch)
        target = (copy.dst_device + copy.dst_y * copy.dst_pitch + copy.dst_x, copy.dst_pitch)
        if (
            height > 1
            and not width <= min(source[1], target[1]) <= max(source[1], target[1]) <= MAX_PITCH
        ):
            raise Misuse(
                INVALID_VALUE, f"a width of {width} with pitches of {source[1]} and {target[1]}"
            )
        if not width or not height:
            return
        reads, writes = (
            tuple((at + row * pitch, width) for row in range(height))
            for at, pitch in (source, target)
        )
        if any(overlap(one, other) for one in reads for other in writes):
            raise Misuse(INVALID_VALUE, "a copy onto itself")
        self._touch((*reads, *writes))

        def run() -> None:
            for (start, _), (to, _) in zip(reads, writes, strict=True):
                self.memory.bytes_at(to, width)[:] = self.memory.bytes_at(start, width)
            self.count("DtoD", width * height)

        self.enqueue(handle, Work("a copy DtoD", run, reads, writes))

    def _touch(self, spans: tuple[Span, ...]) -> None:
        for address, size in spans:
            self.memory.bytes_at(address, size)

    # Streams and graphs

    @_emulates("cuStreamCreate")
    def _stream_create(self, handle: Any, flags: int) -> None:
        if flags != 1:
            raise Misuse(INVALID_VALUE, "a stream that waits for the legacy stream is not emulated")
        with self._lock:
            stream = EmulatedStream(self._handle())
            self.streams[stream.handle] = stream
            handle[0] = stream.handle

    @_emulates("cuStreamSynchronize")
    def _stream_synchronize(self, handle: int) -> None:
        self.not_capturing("a wait")
        self.finish(self.stream(handle))

    @_emulates("cuStreamDestroy_v2")
    def _stream_destroy(self, handle: int) -> None:
        stream = self.stream(handle)
        unfinished = stream.capture is not None
        with self._lock:
            del self.streams[handle]
        self.finish(stream)  # a driver lets the work end; what the work uses must still be there
        if unfinished:
            raise Misuse(CAPTURE_INVALIDATED, "a stream is destroyed in the middle of a capture")

    @_emulates("cuStreamBeginCapture_v2")
    def _stream_begin_capture(self, handle: int, mode: int) -> None:
        stream = self.stream(handle)
        if stream.capture is not None or mode not in (0, 1, 2):
            raise Misuse(INVALID_VALUE, "a capture inside of a capture")
        stream.capture, stream.capturing_thread = [], threading.get_ident()

    @_emulates("cuStreamEndCapture")
    def _stream_end_capture(self, handle: int, graph: Any) -> None:
        stream = self.stream(handle)
        if stream.capture is None:
            raise Misuse(INVALID_VALUE, "the end of a capture that was not begun")
        with self._lock:
            made = self._handle()
            self.graphs[made], stream.capture = stream.capture, None
        graph[0] = made

    @_emulates("cuGraphInstantiateWithFlags")
    def _graph_instantiate(self, ready: Any, graph: int, flags: int) -> None:
        with self._lock:
            made = self._handle()
            self.ready_graphs[made] = list(self._graph(self.graphs, graph))
        ready[0] = made

    @_emulates("cuGraphLaunch")
    def _graph_launch(self, ready: int, handle: int) -> None:
        work = self._graph(self.ready_graphs, ready)
        with self._lock:
            self.launches += 1
        for each in work:
            self.enqueue(handle, each)

    @_emulates("cuGraphExecDestroy")
    def _graph_exec_destroy(self, ready: int) -> None:
        self._graph(self.ready_graphs, ready)
        del self.ready_graphs[ready]

    @_emulates("cuGraphDestroy")
    def _graph_destroy(self, graph: int) -> None:
        self._graph(self.graphs, graph)
        del self.graphs[graph]

    def _graph(self, graphs: dict[int, list[Work]], handle: int) -> list[Work]:
        if handle not in graphs:
            raise Misuse(INVALID_HANDLE, f"{handle} is no graph, or one that was destroyed")
        return graphs[handle]


def view(driver: Driver, address: int, shape: tuple[int, ...], dtype: Any) -> np.ndarray[Any, Any]:
    """The array at ``address`` as it is now."""
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    return driver.memory.bytes_at(address, size).view(dtype).reshape(shape)
