"""An emulated ``tensorrt`` module, in the API of the version asked for, on the emulated driver.

What is emulated: builder, ONNX parser, profiles, timing cache, progress; runtime, engine and
contexts with their rules about shapes, profiles, addresses, alignment, scratch memory, capture and
lifetimes. A plan is a small JSON file that names its ONNX file; an execution runs that file on ONNX
Runtime's CPU provider, on the bytes that lie at the input addresses when its stream gets to it, and
writes to the output addresses. Names that a version does not have are not there. Messages go to the
logger, and a refusal is False or None, as in TensorRT.

Stricter than TensorRT: a graph whose context got other shapes, another profile or other scratch
memory since the capture must not be launched (the manual calls that undefined); an output may not
lie on an input.

What is not: kernels, precision (a float16 graph computes as ONNX Runtime does), memory needs, build
time, layers, plugins, refitting, DLA, weight streaming.
"""

from __future__ import annotations

import enum
import functools
import json
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from emulated.cuda import Work, view
from emulated.memory import ALIGNMENT, GARBAGE, INVALID_VALUE, Misuse, overlap

if TYPE_CHECKING:
    from emulated.cuda import Driver

Dims = tuple[int, ...]
SCRATCH = 1 << 16  # bytes that every engine wants
DYNAMIC = -1
NEWER_OPERATORS = {  # the first version that takes an operator
    "Attention": (10, 14),
    "RotaryEmbedding": (10, 15),
    "RMSNormalization": (10, 15),
    "TensorScatter": (10, 15),
}


class PybindEnum(enum.Enum):
    """Like pybind11's: a number only by ``int()``."""

    def __int__(self) -> int:
        return int(self.value)


class Severity(PybindEnum):
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)


class DataType(PybindEnum):
    FLOAT, HALF, INT8, INT32, BOOL, UINT8, FP8, BF16, INT64, INT4 = range(10)


class TensorIOMode(PybindEnum):
    NONE, INPUT, OUTPUT = range(3)


class TensorLocation(PybindEnum):
    DEVICE, HOST = range(2)


class MemoryPoolType(PybindEnum):
    (
        WORKSPACE,
        DLA_MANAGED_SRAM,
        DLA_LOCAL_DRAM,
        DLA_GLOBAL_DRAM,
        TACTIC_DRAM,
        TACTIC_SHARED_MEMORY,
    ) = range(6)


class ExecutionContextAllocationStrategy(PybindEnum):
    STATIC, ON_PROFILE_CHANGE, USER_MANAGED = range(3)


OLD_NETWORK_FLAGS = {"EXPLICIT_BATCH": 0, "STRONGLY_TYPED": 1}
NETWORK_FLAGS = {"STRONGLY_TYPED": 1}
OLD_BUILDER_FLAGS = (
    "FP16",
    "INT8",
    "BF16",
    "FP8",
    "OBEY_PRECISION_CONSTRAINTS",
    "PREFER_PRECISION_CONSTRAINTS",
)
BUILDER_FLAGS = (
    "TF32",
    "DEBUG",
    "SPARSE_WEIGHTS",
    "DISABLE_TIMING_CACHE",
    "EDITABLE_TIMING_CACHE",
    "STRICT_NANS",
)

_NUMPY = {
    DataType.FLOAT: np.float32,
    DataType.HALF: np.float16,
    DataType.INT8: np.int8,
    DataType.INT32: np.int32,
    DataType.INT64: np.int64,
    DataType.BOOL: np.bool_,
    DataType.UINT8: np.uint8,
}
_ONNX: dict[int, DataType] = {
    onnx.TensorProto.FLOAT: DataType.FLOAT,
    onnx.TensorProto.FLOAT16: DataType.HALF,
    onnx.TensorProto.INT8: DataType.INT8,
    onnx.TensorProto.INT32: DataType.INT32,
    onnx.TensorProto.INT64: DataType.INT64,
    onnx.TensorProto.BOOL: DataType.BOOL,
    onnx.TensorProto.UINT8: DataType.UINT8,
}


class ILogger:
    """To be derived from; like pybind11's classes it must be initialised by whoever derives."""

    Severity = Severity

    def __init__(self) -> None:
        self._initialised = True

    def log(self, severity: Any, msg: str) -> None:
        raise NotImplementedError


for _severity in Severity:
    setattr(ILogger, _severity.name, _severity)


class Logger(ILogger):
    """TensorRT's own; it writes nothing here."""

    def __init__(self, min_severity: Severity = Severity.WARNING) -> None:
        super().__init__()
        self.min_severity = min_severity

    def log(self, severity: Any, msg: str) -> None:
        pass


class IProgressMonitor:
    def __init__(self) -> None:
        self._initialised = True

    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None: ...

    def step_complete(self, phase_name: str, step: int) -> bool:
        return True

    def phase_finish(self, phase_name: str) -> None: ...


def _checked_logger(logger: Any) -> Any:
    if not isinstance(logger, ILogger) or not getattr(logger, "_initialised", False):
        raise TypeError(f"{logger!r} is no ILogger, or its __init__ did not call ILogger.__init__")
    return logger


@dataclass(frozen=True)
class TensorInfo:
    """An input or output of a graph; a dynamic axis is a name, or None if it has none."""

    name: str
    dtype: DataType
    sides: tuple[int | str | None, ...]

    @property
    def shape(self) -> Dims:
        return tuple(side if isinstance(side, int) else DYNAMIC for side in self.sides)

    @property
    def numpy(self) -> Any:
        return _NUMPY[self.dtype]


@functools.lru_cache(maxsize=64)
def _read_graph(
    path: str, stamp: int
) -> tuple[onnx.ModelProto, tuple[TensorInfo, ...], tuple[TensorInfo, ...]]:
    model = onnx.load(path, load_external_data=False)
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = tuple(_info(value) for value in model.graph.input if value.name not in constants)
    return model, inputs, tuple(_info(value) for value in model.graph.output)


def _info(value: onnx.ValueInfoProto) -> TensorInfo:
    kind = value.type.tensor_type
    sides = tuple(
        side.dim_value if side.HasField("dim_value") else side.dim_param or None
        for side in kind.shape.dim
    )
    return TensorInfo(value.name, _ONNX[kind.elem_type], sides)


@functools.lru_cache(maxsize=64)
def _open_graph(path: str, stamp: int) -> Any:
    """ONNX Runtime's session of an ONNX file, shared by all engines of it."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


@functools.lru_cache(maxsize=512)
def _infer_output_shapes(
    path: str, stamp: int, shapes: tuple[tuple[str, Dims], ...]
) -> dict[str, Dims]:
    """Shapes of the outputs for inputs of ``shapes``: by the names of the axes, else by ONNX's
    shape inference.
    """
    source, inputs, outputs = _read_graph(path, stamp)
    given = dict(shapes)
    axes = {
        side: size
        for info in inputs
        for side, size in zip(info.sides, given[info.name], strict=True)
    }
    named = {info.name: tuple(axes.get(side, side) for side in info.sides) for info in outputs}
    if not all(isinstance(side, int) for sides in named.values() for side in sides):
        model = onnx.ModelProto()
        model.CopyFrom(source)
        for value in model.graph.input:
            for side, size in zip(
                value.type.tensor_type.shape.dim, given.get(value.name, ()), strict=False
            ):
                side.dim_value = size
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
        named |= {info.name: info.shape for info in map(_info, inferred.graph.output)}
    return {
        name: tuple(side if isinstance(side, int) else DYNAMIC for side in sides)
        for name, sides in named.items()
    }


def _stamp(path: str) -> int:
    return Path(path).stat().st_mtime_ns


# Building


class ParserError:
    def __init__(self, text: str) -> None:
        self._text = text

    def desc(self) -> str:
        return self._text

    def code(self) -> int:
        return 6

    def __str__(self) -> str:
        return self._text


class ITensor:
    def __init__(self, info: TensorInfo) -> None:
        self.name, self.dtype, self.shape = info.name, info.dtype, info.shape
        self.is_shape_tensor = False


class INetworkDefinition:
    def __init__(self, library: Library, flags: int) -> None:
        self._library, self.flags = library, flags
        self.path = ""
        self.inputs: tuple[TensorInfo, ...] = ()
        self.outputs: tuple[TensorInfo, ...] = ()
        self.num_layers = 0

    @property
    def num_inputs(self) -> int:
        return len(self.inputs)

    @property
    def num_outputs(self) -> int:
        return len(self.outputs)

    def get_input(self, index: int) -> ITensor:
        return ITensor(self.inputs[index])

    def get_output(self, index: int) -> ITensor:
        return ITensor(self.outputs[index])

    def get_flag(self, flag: PybindEnum) -> bool:
        return bool(self.flags >> int(flag) & 1)

    @property
    def strongly_typed(self) -> bool:
        return not self._library.old or bool(self.flags >> 1 & 1)


class OnnxParser:
    _library: Library

    def __init__(self, network: INetworkDefinition, logger: Any) -> None:
        self._network, self._logger = network, _checked_logger(logger)
        self._errors: list[ParserError] = []

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, index: int) -> ParserError:
        return self._errors[index]

    def clear_errors(self) -> None:
        self._errors.clear()

    def parse_from_file(self, model: str) -> bool:
        if not isinstance(model, str):
            raise TypeError(f"parse_from_file takes a str, not {type(model).__name__}")
        try:
            graph, inputs, outputs = _read_graph(model, _stamp(model))
        except Exception as error:
            return self._refuse(f"Could not read {model}: {error}")
        refused = [node.op_type for node in graph.graph.node if not self._takes(node)]
        refused += [
            f"weights of {file}"
            for file in _weight_files(graph)
            if not (Path(model).parent / file).is_file()
        ]
        if refused:
            return self._refuse(f"No importer registered for op: {refused[0]}")
        network = self._network
        network.path, network.inputs, network.outputs = model, inputs, outputs
        network.num_layers = len(graph.graph.node)
        return True

    def _takes(self, node: onnx.NodeProto) -> bool:
        return (
            node.domain in ("", "ai.onnx")
            and NEWER_OPERATORS.get(node.op_type, (0,)) <= self._library.numbers
        )

    def _refuse(self, text: str) -> bool:
        self._errors.append(ParserError(text))
        self._logger.log(Severity.ERROR, text)
        return False


class OldOnnxParser(OnnxParser):
    def supports_model(self, model: bytes) -> tuple[bool, list[Any]]:
        return True, []


def _weight_files(model: onnx.ModelProto) -> set[str]:
    entries = (entry for tensor in model.graph.initializer for entry in tensor.external_data)
    return {entry.value for entry in entries if entry.key == "location"}


class IOptimizationProfile:
    def __init__(self) -> None:
        self.shapes: dict[str, tuple[Dims, Dims, Dims]] = {}

    # The names of the parameters are TensorRT's
    def set_shape(
        self,
        input: str,  # noqa: A002
        min: Sequence[int],  # noqa: A002
        opt: Sequence[int],
        max: Sequence[int],  # noqa: A002
    ) -> None:
        shapes = tuple(min), tuple(opt), tuple(max)
        if len({len(shape) for shape in shapes}) != 1 or not all(
            0 <= a <= b <= c for a, b, c in zip(*shapes, strict=True)
        ):
            raise ValueError(f"{input}: {shapes}")
        self.shapes[input] = shapes

    def get_shape(self, input: str) -> list[Dims]:  # noqa: A002
        return list(self.shapes[input])


class ITimingCache:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def serialize(self) -> HostMemory:
        return HostMemory(self.data or b"a timing cache")

    def combine(self, input_cache: ITimingCache, ignore_mismatch: bool) -> bool:
        return True

    def reset(self) -> bool:
        self.data = b""
        return True


class HostMemory(bytes):
    """IHostMemory: a buffer, and its size."""

    @property
    def nbytes(self) -> int:
        return len(self)


class IBuilderConfig:
    def __init__(self) -> None:
        self.progress_monitor: Any = None
        self.builder_optimization_level = 3
        self.profiles: list[IOptimizationProfile] = []
        self.pools: dict[MemoryPoolType, int] = {}
        self._flags: set[PybindEnum] = set()
        self._timing_cache: ITimingCache | None = None

    @property
    def num_optimization_profiles(self) -> int:
        return len(self.profiles)

    @property
    def flags(self) -> int:
        return sum(1 << int(flag) for flag in self._flags)

    def add_optimization_profile(self, profile: IOptimizationProfile) -> int:
        self.profiles.append(profile)
        return len(self.profiles) - 1

    def set_memory_pool_limit(self, pool: MemoryPoolType, pool_size: int) -> None:
        self.pools[MemoryPoolType(pool)] = int(pool_size)

    def get_memory_pool_limit(self, pool: MemoryPoolType) -> int:
        return self.pools.get(pool, 0)

    def set_flag(self, flag: PybindEnum) -> None:
        self._flags.add(flag)

    def get_flag(self, flag: PybindEnum) -> bool:
        return flag in self._flags

    def clear_flag(self, flag: PybindEnum) -> None:
        self._flags.discard(flag)

    def names_of_flags(self) -> set[str]:
        return {flag.name for flag in self._flags}

    def create_timing_cache(self, serialized_timing_cache: Any) -> ITimingCache:
        return ITimingCache(bytes(serialized_timing_cache))

    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
        self._timing_cache = cache
        return True

    def get_timing_cache(self) -> ITimingCache | None:
        return self._timing_cache


class Builder:
    _library: Library

    def __init__(self, logger: Any) -> None:
        self.logger = _checked_logger(logger)

    def create_network(self, flags: int = 0) -> INetworkDefinition:
        return INetworkDefinition(self._library, int(flags))

    def create_builder_config(self) -> IBuilderConfig:
        return IBuilderConfig()

    def create_optimization_profile(self) -> IOptimizationProfile:
        return IOptimizationProfile()

    def build_serialized_network(
        self, network: INetworkDefinition, config: IBuilderConfig
    ) -> HostMemory | None:
        problem = self._problem(network, config)
        if problem:
            self.logger.log(Severity.ERROR, problem)
            return None
        if not self._report(config.progress_monitor, max(network.num_layers, 1)):
            self.logger.log(Severity.ERROR, "The build was cancelled by its progress monitor")
            return None
        plan = {
            "plan": self._library.signature,
            "graph": str(Path(network.path).resolve()),
            "profiles": [profile.shapes for profile in config.profiles],
            "strongly_typed": network.strongly_typed,
            "workspace": config.get_memory_pool_limit(MemoryPoolType.WORKSPACE),
        }
        return HostMemory(json.dumps(plan).encode())

    def _problem(self, network: INetworkDefinition, config: IBuilderConfig) -> str:
        if not network.path:
            return "Network must have at least one output"
        if network.strongly_typed and config.names_of_flags() & set(OLD_BUILDER_FLAGS):
            return "Precision flags cannot be set for a strongly typed network"
        dynamic = {info.name: info.shape for info in network.inputs if DYNAMIC in info.shape}
        if dynamic and not config.profiles:
            return (
                "Network has dynamic or shape inputs, but no optimization profile has been defined"
            )
        for index, profile in enumerate(config.profiles):
            for name in dynamic:
                if name not in profile.shapes:
                    return f"Profile {index} has no shape for {name}"
            for info in network.inputs:
                for shape in profile.shapes.get(info.name, ()):
                    if len(shape) != len(info.shape) or any(
                        side not in (DYNAMIC, size)
                        for side, size in zip(info.shape, shape, strict=True)
                    ):
                        return (
                            f"Profile {index} has {shape} for {info.name}, the network {info.shape}"
                        )
        return ""

    def _report(self, monitor: Any, layers: int) -> bool:
        if monitor is None:
            return True
        monitor.phase_start("Building Engine", None, 1)
        monitor.phase_start("Tactics", "Building Engine", layers)
        going = all(monitor.step_complete("Tactics", step) for step in range(layers))
        monitor.phase_finish("Tactics")
        if going:
            going = monitor.step_complete("Building Engine", 0)
        monitor.phase_finish("Building Engine")
        return bool(going)


class OldBuilder(Builder):
    platform_has_fast_fp16 = True
    platform_has_fast_int8 = True


# Running


class Runtime:
    _library: Library

    def __init__(self, logger: Any) -> None:
        self.logger = _checked_logger(logger)
        self._library.driver.living.add(self)

    def deserialize_cuda_engine(self, serialized_engine: Any) -> ICudaEngine | None:
        data = bytes(memoryview(serialized_engine))
        try:
            plan = json.loads(data)
            signature = plan["plan"]
        except (ValueError, KeyError, TypeError):
            self.logger.log(
                Severity.ERROR, "Serialization assertion magicTagRead == kMAGIC_TAG failed."
            )
            return None
        if signature != self._library.signature:
            self.logger.log(
                Severity.ERROR, f"Version tag does not match: the plan is for {signature}"
            )
            return None
        return self._library.engine(self, plan)


class ICudaEngine:
    def __init__(self, runtime: Runtime, library: Library, plan: dict[str, Any]) -> None:
        self._runtime = weakref.ref(
            runtime
        )  # weak: who destroys the runtime first has an engine of no use
        self.library, self._logger = library, runtime.logger
        self.path, self.stamp = plan["graph"], _stamp(plan["graph"])
        _, self.inputs, self.outputs = _read_graph(self.path, self.stamp)
        self.tensors = {info.name: info for info in (*self.inputs, *self.outputs)}
        self.profiles = [
            {name: tuple(tuple(shape) for shape in shapes) for name, shapes in profile.items()}
            for profile in plan["profiles"]
        ]
        self.contexts_made = 0
        library.driver.living.add(self)

    @property
    def num_io_tensors(self) -> int:
        return len(self.tensors)

    @property
    def num_optimization_profiles(self) -> int:
        return max(len(self.profiles), 1)

    @property
    def device_memory_size_v2(self) -> int:
        return SCRATCH

    def get_device_memory_size_for_profile_v2(self, profile_index: int) -> int:
        return SCRATCH

    def get_tensor_name(self, index: int) -> str:
        return [*self.tensors][index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        if name not in self.tensors:
            return TensorIOMode.NONE
        return TensorIOMode.INPUT if self.tensors[name] in self.inputs else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> DataType:
        return self.tensors[name].dtype

    def get_tensor_shape(self, name: str) -> Dims:
        return self.tensors[name].shape

    def get_tensor_location(self, name: str) -> TensorLocation:
        return TensorLocation.DEVICE

    def is_shape_inference_io(self, name: str) -> bool:
        return False

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[Dims]:
        shape = self.tensors[name].shape
        return list(self.profiles[profile_index].get(name, (shape, shape, shape)))

    def create_execution_context(
        self,
        strategy: ExecutionContextAllocationStrategy = ExecutionContextAllocationStrategy.STATIC,
    ) -> IExecutionContext | None:
        self.alive()
        kind = IExecutionContext if self.library.name == "tensorrt" else RtxContext
        context = kind(self, self._logger, ExecutionContextAllocationStrategy(strategy))
        self.contexts_made += 1
        return context

    def alive(self) -> None:
        if self._runtime() is None:
            raise self.library.misuse("an engine is used after its runtime was destroyed")


class OldEngine(ICudaEngine):
    @property
    def device_memory_size(self) -> int:
        return SCRATCH


class IExecutionContext:
    def __init__(
        self, engine: ICudaEngine, logger: Any, strategy: ExecutionContextAllocationStrategy
    ) -> None:
        self._engine = weakref.ref(engine)  # weak, see ICudaEngine
        self._logger, self._library, self._driver = logger, engine.library, engine.library.driver
        self._managed = strategy == ExecutionContextAllocationStrategy.USER_MANAGED
        self._scratch = (0, 0)
        self.active_optimization_profile = 0 if engine.contexts_made == 0 else -1
        self._shapes = {
            info.name: info.shape for info in engine.inputs if DYNAMIC not in info.shape
        }
        self._addresses: dict[str, int] = {}
        self._deferred = (
            True  # the next execution updates what depends on shapes, and cannot be captured
        )
        self.generation = 0  # what a captured graph depends on
        self._driver.living.add(self)

    def _say(self, text: str) -> bool:
        self._logger.log(Severity.ERROR, f"IExecutionContext: {text}")
        return False

    @property
    def engine(self) -> ICudaEngine:
        engine = self._engine()
        if engine is None:
            raise self._library.misuse("a context is used after its engine was destroyed")
        engine.alive()
        return engine

    def _changed(self) -> None:
        self._deferred = True
        self.generation += 1

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        if self._driver.capturing(stream_handle):
            return self._say("the profile cannot change during a capture")
        if not 0 <= profile_index < self.engine.num_optimization_profiles:
            return self._say(
                f"profile {profile_index} is not in [0, {self.engine.num_optimization_profiles})"
            )
        if profile_index != self.active_optimization_profile:
            self.active_optimization_profile = profile_index
            self._shapes = {
                info.name: info.shape for info in self.engine.inputs if DYNAMIC not in info.shape
            }
            self._changed()
        return True

    def set_input_shape(self, name: str, shape: Sequence[int]) -> bool:
        engine, shape = self.engine, tuple(int(size) for size in shape)
        info = next((info for info in engine.inputs if info.name == name), None)
        if info is None:
            return self._say(f"{name} is no input")
        if self.active_optimization_profile < 0:
            return self._say("no optimization profile is set")
        least = most = info.shape
        if engine.profiles:
            profile = engine.profiles[self.active_optimization_profile]
            least, _, most = profile.get(name, (info.shape,) * 3)
        if len(shape) != len(least) or not all(
            a <= b <= c for a, b, c in zip(least, shape, most, strict=True)
        ):
            return self._say(
                f"setInputShape: {name} of {shape} is not within profile "
                f"{self.active_optimization_profile}, {least} to {most}"
            )
        if self._shapes.get(name) != shape:
            self._shapes[name] = shape
            self._changed()
        return True

    def set_tensor_address(self, name: str, memory: int) -> bool:
        if name not in self.engine.tensors:
            return self._say(f"{name} is no input or output")
        if not memory or memory % ALIGNMENT:
            return self._say(
                f"setTensorAddress: {name} at {memory:#x} is not aligned to {ALIGNMENT} bytes"
            )
        self._addresses[name] = memory
        return True

    def get_tensor_address(self, name: str) -> int:
        return self._addresses.get(name, 0)

    def set_device_memory(self, memory: int, size: int) -> None:
        if not self._managed:
            raise self._library.misuse("device memory for a context that has its own")
        if memory % ALIGNMENT or size < SCRATCH:
            raise self._library.misuse(
                f"device memory of {size} bytes at {memory:#x}, needed: {SCRATCH}, aligned"
            )
        self._driver.memory.bytes_at(memory, size)
        self._scratch = (memory, size)
        self._changed()

    def get_tensor_shape(self, name: str) -> Dims:
        engine = self.engine
        info = engine.tensors[name]
        if info in engine.inputs:
            return self._shapes.get(name, info.shape)
        if self.infer_shapes():
            return info.shape
        return _infer_output_shapes(engine.path, engine.stamp, self._given(engine))[name]

    def _given(self, engine: ICudaEngine) -> tuple[tuple[str, Dims], ...]:
        return tuple((info.name, self._shapes[info.name]) for info in engine.inputs)

    def infer_shapes(self) -> list[str]:
        return [info.name for info in self.engine.inputs if info.name not in self._shapes]

    @property
    def all_binding_shapes_specified(self) -> bool:
        return not self.infer_shapes()

    def execute_async_v3(self, stream_handle: int) -> bool:
        try:
            problem = self._unready(self.engine, stream_handle)
            if problem:
                return self._say(f"enqueueV3: {problem}")
            self._driver.enqueue(stream_handle, self._execution(self.engine))
        except Misuse as error:
            self._driver.record(error)
            return self._say(str(error))
        if not self._driver.capturing(stream_handle):
            self._deferred = False
        return True

    def _unready(self, engine: ICudaEngine, stream_handle: int) -> str:
        if self.active_optimization_profile < 0:
            return "no optimization profile is set"
        if self.infer_shapes():
            return f"the shape of {self.infer_shapes()[0]} is not set"
        without = [name for name in engine.tensors if name not in self._addresses]
        if without:
            return f"the address of {without[0]} is not set"
        if self._managed and not self._scratch[0]:
            return "no device memory is set"
        if self._driver.capturing(stream_handle) and self._deferred:
            return "shapes or profile changed since the last execution, which cannot be captured"
        return ""

    def _execution(self, engine: ICudaEngine) -> Work:
        """The execution with the shapes and addresses of this moment."""
        given, addresses = self._given(engine), dict(self._addresses)
        shapes = {**dict(given), **_infer_output_shapes(engine.path, engine.stamp, given)}
        spans = {
            name: (addresses[name], _size(engine.tensors[name], shapes[name]))
            for name in engine.tensors
        }
        reads = tuple(spans[info.name] for info in engine.inputs)
        writes = tuple(spans[info.name] for info in engine.outputs)
        places = [*writes, *([self._scratch] if self._managed else [])]
        for index, one in enumerate(places):
            for other in (*reads, *places[index + 1 :]):
                if overlap(one, other) and one[1] and other[1]:
                    raise Misuse(
                        INVALID_VALUE,
                        "an output lies on an input, on another output or on the scratch memory",
                    )
        run = functools.partial(
            _execute, weakref.ref(self), self.generation, self._library, given, addresses
        )
        return Work(f"an execution of {Path(engine.path).name}", run, reads, tuple(places))

    def run(
        self, generation: int, given: tuple[tuple[str, Dims], ...], addresses: dict[str, int]
    ) -> None:
        engine, driver = self.engine, self._driver
        if generation != self.generation:
            raise Misuse(
                INVALID_VALUE,
                "a captured execution is launched although its context was given other shapes "
                "since",
            )
        if self._managed:
            driver.memory.bytes_at(*self._scratch)[:] = GARBAGE
        feeds = {
            name: view(driver, addresses[name], shape, engine.tensors[name].numpy)
            for name, shape in given
        }
        outputs = _open_graph(engine.path, engine.stamp).run(
            [info.name for info in engine.outputs], feeds
        )
        for info, array in zip(engine.outputs, outputs, strict=True):
            view(driver, addresses[info.name], array.shape, array.dtype)[...] = array
        driver.executions += 1
        driver.profiles[Path(engine.path).stem, self.active_optimization_profile] += 1


class RtxContext(IExecutionContext):
    def is_stream_capturable(self, stream: int) -> bool:
        return not self._unready(self.engine, stream) and not self._deferred


def _size(info: TensorInfo, shape: Dims) -> int:
    return abs(int(np.prod(shape, dtype=np.int64))) * np.dtype(info.numpy).itemsize


def _execute(
    reference: Callable[[], IExecutionContext | None],
    generation: int,
    library: Library,
    given: tuple[tuple[str, Dims], ...],
    addresses: dict[str, int],
) -> None:
    context = reference()
    if context is None:
        raise Misuse(INVALID_VALUE, "the context of an execution was destroyed before it ran")
    context.run(generation, given, addresses)


@dataclass
class Library:
    """What the classes of one emulated module share."""

    version: str
    name: str
    driver: Driver

    @property
    def numbers(self) -> tuple[int, ...]:
        return tuple(int(part) for part in self.version.split("."))

    @property
    def old(self) -> bool:
        """Of TensorRT 10: what 11 and TensorRT-RTX do without is still there."""
        return self.name == "tensorrt" and self.numbers < (11,)

    @property
    def signature(self) -> list[Any]:
        """What a plan must have in common with the one who loads it; RTX's plans fit every GPU."""
        gpu = ["any"] if self.name != "tensorrt" else [self.driver.name, *self.driver.capability]
        return [self.name, self.version, *gpu]

    def engine(self, runtime: Runtime, plan: dict[str, Any]) -> ICudaEngine:
        return (OldEngine if self.old else ICudaEngine)(runtime, self, plan)

    def misuse(self, text: str) -> Misuse:
        """``text`` as an error, recorded."""
        error = Misuse(INVALID_VALUE, text)
        self.driver.record(error)
        return error


def _make_enum(name: str, members: dict[str, int]) -> Any:
    functional: Any = PybindEnum
    return functional(name, members)


def make(version: str, driver: Driver, name: str = "tensorrt") -> ModuleType:
    """The module ``name`` (tensorrt or tensorrt_rtx) of ``version`` on ``driver``."""
    module, library = ModuleType(name), Library(version, name, driver)
    old, new = library.old, not library.old
    flags = OLD_NETWORK_FLAGS if old else NETWORK_FLAGS
    builder_flags = (*(OLD_BUILDER_FLAGS if old else ()), *BUILDER_FLAGS)
    shared = {"_library": library}
    contents: dict[str, Any] = {
        "__version__": version,
        "NetworkDefinitionCreationFlag": _make_enum("NetworkDefinitionCreationFlag", flags),
        "BuilderFlag": _make_enum(
            "BuilderFlag", {flag: number for number, flag in enumerate(builder_flags)}
        ),
        "Builder": type("Builder", (OldBuilder if old else Builder,), shared),
        "OnnxParser": type("OnnxParser", (OldOnnxParser if old else OnnxParser,), shared),
        "Runtime": type("Runtime", (Runtime,), shared),
        "ICudaEngine": ICudaEngine if new else OldEngine,
        "IHostMemory": HostMemory,
        "Dims": tuple,
        "nptype": lambda dtype: _NUMPY[dtype],
        "volume": lambda shape: int(np.prod(shape, dtype=np.int64)),
        **{
            each.__name__: each
            for each in (
                ILogger,
                Logger,
                IProgressMonitor,
                DataType,
                TensorIOMode,
                TensorLocation,
                MemoryPoolType,
            )
        },
        **{
            each.__name__: each
            for each in (
                ExecutionContextAllocationStrategy,
                IExecutionContext,
                IBuilderConfig,
                IOptimizationProfile,
            )
        },
        **{each.__name__: each for each in (INetworkDefinition, ITimingCache, ParserError)},
    }
    if old:
        contents["IInt8EntropyCalibrator2"] = type("IInt8EntropyCalibrator2", (), {})
    module.__spec__ = ModuleSpec(
        name, None
    )  # who looks whether there is a TensorRT (torch does) wants to see one
    for key, value in contents.items():
        setattr(module, key, value)
    return module
