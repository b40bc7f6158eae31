"""The emulated GPU itself: that it does what a GPU does, and finds what must not be done."""

from __future__ import annotations

import threading
from collections import deque
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from emulated import VERSIONS, emulated
from emulated.cuda import Driver, view
from emulated.graphs import DECODER, DOUBLE, WIDTH, save, small_bundle
from emulated.memory import OUT_OF_MEMORY, Misuse
from emulated.tensorrt import OLD_BUILDER_FLAGS
from onnx import helper

from vpt_edge.runtime.errors import SessionError
from vpt_edge.runtime.sessions import cuda
from vpt_edge.runtime.sessions.stream import DeviceArray, Stream
from vpt_edge.runtime.sessions.tensorrt import load_tensorrt, make_logger

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vpt_edge.runtime import Bundle
    from vpt_edge.runtime.manifest import Graph


@pytest.fixture
def driver() -> Iterator[Driver]:
    with emulated() as driver:
        yield driver


@pytest.fixture
def stream(driver: Driver) -> Iterator[Stream]:
    stream = Stream(cuda.Device.open())
    yield stream
    stream.close()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return small_bundle(tmp_path_factory.mktemp("small") / "bundle")


def pinned(stream: Stream, values: list[float]) -> tuple[Any, int]:
    """Floats in page-locked memory, and their address on the device."""
    memory, address = stream.pinned(4 * len(values))
    array = memory.view(np.float32)
    array[:] = values
    return array, address


def fill(stream: Stream, array: DeviceArray, values: Any) -> None:
    """Copy ``values`` to ``array``, and wait."""
    host, _ = stream.pinned(array.nbytes)
    host.view(array.dtype)[:] = np.ravel(values)
    stream.to_device(array.pointer, host.ctypes.data, array.nbytes)
    stream.wait()


# The driver


def test_the_library_has_every_function(driver: Driver) -> None:
    library = driver.library()
    assert all(hasattr(library, name) for name in cuda.PROTOTYPES)
    assert not hasattr(driver.library("cuGraphLaunch"), "cuGraphLaunch")


def test_the_device_is_the_one_asked_for() -> None:
    options: dict[str, Any] = {
        "name": "Orin",
        "capability": (8, 7),
        "driver": 13020,
        "integrated": True,
    }
    with emulated(**options, total=1 << 20):
        device = cuda.Device.open()
        assert (device.name, device.capability, device.driver, device.integrated) == (
            "Orin",
            "8.7",
            "13.2",
            True,
        )
        assert device.memory() == (1 << 20, 1 << 20)


def test_new_memory_is_garbage_until_it_is_set(driver: Driver, stream: Stream) -> None:
    array = stream.zeros((1, 4), np.float32)
    assert np.isnan(view(driver, array.pointer, (4,), np.float32)).all()
    stream.wait()
    assert not view(driver, array.pointer, (4,), np.float32).any()
    assert np.isnan(stream.pinned(16)[0].view(np.float32)).all()


def test_work_waits_for_its_own_stream(driver: Driver, stream: Stream) -> None:
    other = Stream(stream.device)
    array = stream.zeros((1, 4), np.float32)
    other.wait()
    assert np.isnan(view(driver, array.pointer, (4,), np.float32)).all()
    stream.wait()
    other.close()


def test_a_buffer_filled_again_before_the_wait_arrives_as_it_is_then(
    driver: Driver, stream: Stream
) -> None:
    array, (host, _) = stream.zeros((1, 4), np.float32), pinned(stream, [1, 2, 3, 4])
    stream.to_device(array.pointer, host.ctypes.data, 16)
    host[:] = 9
    stream.wait()
    assert np.asarray(array).tolist() == [[9] * 4]
    assert driver.copied == {"HtoD": 16, "DtoH": 16}


def test_a_result_read_before_the_wait_is_garbage(stream: Stream) -> None:
    array, (host, _) = stream.zeros((1, 4), np.float32), pinned(stream, [1, 2, 3, 4])
    stream.to_host(host.ctypes.data, array.pointer, 16)
    assert host.tolist() == [1, 2, 3, 4]
    stream.wait()
    assert host.tolist() == [0, 0, 0, 0]


def test_a_strided_copy(driver: Driver, stream: Stream) -> None:
    slab, new = stream.zeros((2, 5, 3), np.float32), stream.zeros((2, 4, 3), np.float32)
    fill(stream, new, np.arange(24))
    driver.copied.clear()
    slab[:, 1:3] = new[:, :2]
    stream.wait()
    assert driver.copied == {"DtoD": 48}
    expected = np.zeros((2, 5, 3), np.float32)
    expected[:, 1:3] = np.arange(24).reshape(2, 4, 3)[:, :2]
    np.testing.assert_array_equal(np.asarray(slab), expected)


@pytest.mark.parametrize(
    ("size", "start", "found"),
    [
        (17, 0, "end behind their allocation"),
        (16, 16, "in no allocation"),
        (1, -1, "in no allocation"),
    ],
)
def test_an_access_outside_of_a_block_is_found(
    size: int, start: int, found: str, driver: Driver, stream: Stream
) -> None:
    array, (host, _) = stream.zeros((1, 4), np.float32), pinned(stream, [0] * 8)
    with pytest.raises(SessionError, match="illegal memory access"):
        stream.to_host(host.ctypes.data, array.pointer + start, size)
    assert found in driver.take_errors()[0]


def test_a_use_of_freed_memory_is_found(driver: Driver, stream: Stream) -> None:
    other = Stream(stream.device)
    array, (host, address), (mine, _) = (
        other.zeros((1, 4), np.float32),
        pinned(other, [0] * 4),
        pinned(stream, [0] * 4),
    )
    other.close()
    for call in (
        lambda: stream.to_host(mine.ctypes.data, array.pointer, 16),
        lambda: stream.to_device(array.pointer, host.ctypes.data, 16),
        lambda: view(driver, address, (4,), np.float32),
    ):
        with pytest.raises((SessionError, Misuse)):
            call()
    assert all("freed" in error for error in driver.take_errors())
    assert np.isnan(host).all()


def test_memory_freed_before_its_work_is_found(driver: Driver, stream: Stream) -> None:
    array = stream.zeros((1, 4), np.float32)
    with pytest.raises(SessionError):
        stream.device.call("cuMemFree_v2", array.pointer)
    with pytest.raises(SessionError):
        stream.wait()
    assert "waits to use it" in driver.take_errors()[0]
    stream._allocations.clear()


def test_an_address_never_comes_back(driver: Driver) -> None:
    addresses = set()
    for _ in range(5):
        stream = Stream(cuda.Device.open())
        addresses.add(stream.zeros((1000,), np.float32).pointer)
        stream.close()
    assert len(addresses) == 5
    assert all(address % cuda.ALIGNMENT == 0 for address in addresses)


def test_an_asynchronous_copy_from_pageable_memory_is_found(driver: Driver, stream: Stream) -> None:
    array = stream.zeros((1, 4), np.float32)
    with pytest.raises(SessionError, match="invalid argument"):
        stream.to_device(array.pointer, np.zeros(4, np.float32).ctypes.data, 16)
    assert "pageable" in driver.take_errors()[0]


def test_a_copy_to_pageable_memory_waits(stream: Stream) -> None:
    array, host = stream.zeros((1, 4), np.float32), np.ones(4, np.float32)
    stream.to_host(host.ctypes.data, array.pointer, 16)
    assert not host.any()


def test_two_streams_at_the_same_bytes_are_found(driver: Driver, stream: Stream) -> None:
    other, array = Stream(stream.device), stream.zeros((1, 4), np.float32)
    host, _ = pinned(other, [0] * 4)
    with pytest.raises(SessionError):
        other.to_host(host.ctypes.data, array.pointer, 16)
    assert "races" in driver.take_errors()[0]
    stream.wait()
    other.to_host(host.ctypes.data, array.pointer, 16)
    other.close()


def test_a_graph_repeats_what_was_captured(driver: Driver, stream: Stream) -> None:
    array, (host, _) = stream.zeros((1, 4), np.float32), pinned(stream, [1] * 4)
    stream.wait()
    stream.begin_capture()
    stream.to_device(array.pointer, host.ctypes.data, 16)
    graph = stream.end_capture()
    stream.wait()
    assert not driver.copied
    for value in (2, 3):
        host[:] = value
        stream.launch(graph)
        assert np.asarray(array).tolist() == [[value] * 4]
    assert (driver.launches, driver.copied["HtoD"]) == (2, 32)


def test_a_capture_neither_waits_nor_allocates(driver: Driver, stream: Stream) -> None:
    array = stream.zeros((1, 4), np.float32)
    stream.begin_capture()
    host = np.zeros(4, np.float32)
    for call in (
        stream.wait,
        lambda: stream.zeros((1, 4), np.float32),
        lambda: stream.pinned(4),
        lambda: stream.to_host(host.ctypes.data, array.pointer, 16),
    ):
        with pytest.raises(SessionError, match="stream is capturing"):
            call()
    assert len(driver.take_errors()) == 4
    stream.end_capture()


def test_a_graph_that_was_given_back_is_not_launched(driver: Driver, stream: Stream) -> None:
    stream.begin_capture()
    graph = stream.end_capture()
    stream.forget(graph)
    with pytest.raises(SessionError, match="invalid resource handle"):
        stream.launch(graph)
    assert driver.take_errors()


def test_a_thread_needs_the_context(driver: Driver, stream: Stream) -> None:
    problems = []

    def work(enter: bool) -> None:
        try:
            if enter:
                stream.device.enter()
            stream.zeros((1, 4), np.float32)
        except SessionError as error:
            problems.append(str(error))

    for enter in (True, False):
        thread = threading.Thread(target=work, args=(enter,))
        thread.start()
        thread.join()
    assert len(problems) == 1 and "invalid device context" in problems[0]
    assert driver.take_errors()


def test_memory_runs_out() -> None:
    with emulated(total=10 << 20):
        stream = Stream(cuda.Device.open())
        stream.zeros((4 << 20,), np.uint8)
        with pytest.raises(SessionError, match="out of memory; 6 of 10 MiB are free"):
            stream.zeros((7 << 20,), np.uint8)
        stream.close()


def test_a_call_fails_as_it_is_told(driver: Driver, stream: Stream) -> None:
    driver.fail("cuMemAlloc_v2", OUT_OF_MEMORY, after=1)
    stream.zeros((1, 4), np.float32)
    with pytest.raises(SessionError, match="out of memory"):
        stream.zeros((1, 4), np.float32)
    stream.zeros((1, 4), np.float32)


def test_what_is_not_given_back_is_found() -> None:
    with pytest.raises(AssertionError, match="'blocks': 1, 'streams': 1"), emulated():
        Stream(cuda.Device.open()).zeros((1, 4), np.float32)


# TensorRT


def build(module: ModuleType | Any, path: Path, graph: Graph, flags: int | None = None) -> Any:
    """The plan of a graph, with one profile over its bounds."""
    logger = module.Logger()
    builder = module.Builder(logger)
    network, config = (
        builder.create_network(2 if flags is None else flags),
        builder.create_builder_config(),
    )
    assert module.OnnxParser(network, logger).parse_from_file(str(path))
    profile = builder.create_optimization_profile()
    for tensor in graph.inputs:
        sizes = [
            [graph.bounds[side][i] if isinstance(side, str) else side for side in tensor.shape]
            for i in range(3)
        ]
        profile.set_shape(tensor.name, *sizes)
    assert config.add_optimization_profile(profile) == 0
    return builder.build_serialized_network(network, config)


class Double:
    """The graph "double" loaded with a context, and everything bound for ``count`` rows."""

    def __init__(self, bundle: Bundle, count: int = 3, managed: bool = True) -> None:
        self.trt = load_tensorrt("tensorrt")
        self.stream = Stream(cuda.Device.open())
        self.messages = deque[str](maxlen=9)
        self.runtime: Any = self.trt.Runtime(make_logger(self.trt, self.messages))
        plan = build(self.trt, bundle.file(DOUBLE.file), DOUBLE)
        self.engine: Any = self.runtime.deserialize_cuda_engine(np.frombuffer(plan, np.uint8))
        strategy = self.trt.ExecutionContextAllocationStrategy
        self.context: Any = self.engine.create_execution_context(
            strategy.USER_MANAGED if managed else strategy.STATIC
        )
        self.scratch = self.stream.zeros((self.engine.device_memory_size_v2,), np.uint8)
        self.x = self.stream.zeros((1, 64, WIDTH), np.float32)
        self.twice = self.stream.zeros((1, 64, WIDTH), np.float32)
        self.total = self.stream.zeros((1, WIDTH), np.float32)
        self.stream.wait()
        if managed:
            self.context.set_device_memory(self.scratch.pointer, self.scratch.nbytes)
        assert self.context.set_input_shape("x", (1, count, WIDTH))
        for name in ("x", "twice", "total"):
            assert self.context.set_tensor_address(name, getattr(self, name).pointer)

    def execute(self) -> bool:
        return bool(self.context.execute_async_v3(self.stream.handle))

    def close(self) -> None:
        self.context = self.engine = self.runtime = None
        self.stream.close()


@pytest.fixture
def double(driver: Driver, small: Bundle) -> Iterator[Double]:
    double = Double(small)
    yield double
    double.close()


def test_an_execution_runs_on_the_bytes_of_its_moment(driver: Driver, double: Double) -> None:
    values = np.arange(64 * WIDTH, dtype=np.float32).reshape(1, 64, WIDTH)
    assert double.execute()
    assert driver.executions == 0
    host, _ = double.stream.pinned(values.nbytes)
    host.view(np.float32)[:] = values.ravel()
    fill(double.stream, double.x, 0)
    assert driver.executions == 1
    double.stream.to_device(double.x.pointer, host.ctypes.data, values.nbytes)
    assert double.execute()
    double.stream.wait()
    np.testing.assert_array_equal(np.asarray(double.twice)[:, :3], 2 * values[:, :3])
    np.testing.assert_array_equal(np.asarray(double.total), values[:, :3].sum(1))
    assert not np.asarray(double.twice)[:, 3:].any()


def test_the_address_of_an_execution_is_that_of_its_call(double: Double) -> None:
    fill(double.stream, double.x, 1)
    elsewhere = double.stream.zeros((1, WIDTH), np.float32)
    assert double.execute()
    assert double.context.set_tensor_address("total", elsewhere.pointer)
    assert np.asarray(double.total).tolist() == [[3] * WIDTH]
    assert not np.asarray(elsewhere).any()


def test_shapes_must_lie_within_the_active_profile(double: Double) -> None:
    for shape in ((1, 65, WIDTH), (1, 0, WIDTH), (1, 3), (1, 3, WIDTH + 1)):
        assert not double.context.set_input_shape("x", shape)
        assert "not within profile 0" in double.messages[-1]
    assert double.context.get_tensor_shape("x") == (1, 3, WIDTH)
    assert double.context.get_tensor_shape("twice") == (1, 3, WIDTH)
    assert not double.context.set_input_shape("twice", (1, 3, WIDTH))
    assert not double.context.set_optimization_profile_async(1, double.stream.handle)


def test_an_execution_needs_shapes_addresses_and_memory(
    driver: Driver, small: Bundle, double: Double
) -> None:
    context = double.engine.create_execution_context(
        double.trt.ExecutionContextAllocationStrategy.USER_MANAGED
    )
    for ready, missing in (
        (lambda: True, "no optimization profile"),
        (lambda: context.set_optimization_profile_async(0, double.stream.handle), "shape of x"),
        (lambda: context.set_input_shape("x", (1, 2, WIDTH)), "address of x"),
        (lambda: context.set_tensor_address("x", double.x.pointer), "address of twice"),
        (lambda: context.set_tensor_address("twice", double.twice.pointer), "address of total"),
        (lambda: context.set_tensor_address("total", double.total.pointer), "no device memory"),
    ):
        assert ready()
        assert not context.execute_async_v3(double.stream.handle)
        assert missing in double.messages[-1]
    context.set_device_memory(double.scratch.pointer, double.scratch.nbytes)
    assert context.infer_shapes() == []
    assert context.execute_async_v3(double.stream.handle)
    double.stream.wait()


def test_addresses_are_aligned(double: Double) -> None:
    assert not double.context.set_tensor_address("x", double.x.pointer + 128)
    assert not double.context.set_tensor_address("x", 0)
    assert not double.context.set_tensor_address("y", double.x.pointer)
    assert double.context.set_tensor_address("x", double.x.pointer + 256)


def test_scratch_memory_must_be_large_enough(driver: Driver, double: Double) -> None:
    with pytest.raises(Misuse):
        double.context.set_device_memory(double.scratch.pointer, double.scratch.nbytes - 1)
    with pytest.raises(Misuse):
        double.context.set_device_memory(double.x.pointer, double.scratch.nbytes)
    assert driver.take_errors()


def test_a_plan_of_another_tensorrt_is_refused(small: Bundle) -> None:
    with emulated("10.3.0"):
        plan = build(load_tensorrt("tensorrt"), small.file(DOUBLE.file), DOUBLE)
    with emulated("10.16.2"):
        trt, messages = load_tensorrt("tensorrt"), deque[str]()
        runtime = trt.Runtime(make_logger(trt, messages))
        assert runtime.deserialize_cuda_engine(plan) is None
        assert runtime.deserialize_cuda_engine(memoryview(b"rubbish")) is None
        assert "Version tag" in messages[0] and "magic" in messages[1]


def test_the_first_execution_with_other_shapes_cannot_be_captured(double: Double) -> None:
    double.stream.begin_capture()
    assert not double.execute()
    double.stream.forget(double.stream.end_capture())
    assert "cannot be captured" in double.messages[-1]


def test_a_captured_execution(driver: Driver, double: Double) -> None:
    fill(double.stream, double.x, 1)
    assert double.execute()
    double.stream.begin_capture()
    assert double.execute()
    graph = double.stream.end_capture()
    fill(double.stream, double.x, 5)
    double.stream.launch(graph)
    assert np.asarray(double.total).tolist() == [[15] * WIDTH]
    assert (driver.executions, driver.launches) == (2, 1)
    assert double.context.set_input_shape("x", (1, 4, WIDTH))
    double.stream.launch(graph)
    with pytest.raises(SessionError):
        double.stream.wait()
    assert "given other shapes since" in driver.take_errors()[0]


@pytest.mark.parametrize("order", ["runtime", "engine"])
def test_what_an_execution_needs_must_live(order: str, driver: Driver, double: Double) -> None:
    setattr(double, order, None)
    assert not double.execute()
    assert f"after its {order} was destroyed" in driver.take_errors()[0]


def test_a_context_destroyed_before_its_work_is_found(driver: Driver, double: Double) -> None:
    assert double.execute()
    double.context = None
    with pytest.raises(SessionError):
        double.stream.wait()
    assert "destroyed before it ran" in driver.take_errors()[0]


def test_one_scratch_memory_for_two_streams_is_found(
    driver: Driver, small: Bundle, double: Double
) -> None:
    other = Double(small)
    other.context.set_device_memory(double.scratch.pointer, double.scratch.nbytes)
    assert double.execute()
    assert not other.execute()
    assert "races" in driver.take_errors()[0]
    double.stream.wait()
    assert other.execute()
    other.stream.wait()
    other.close()


def test_an_output_on_an_input_is_found(driver: Driver, double: Double) -> None:
    assert double.context.set_tensor_address("twice", double.x.pointer)
    assert not double.execute()
    assert "lies on an input" in driver.take_errors()[0]


def test_an_output_behind_its_memory_is_found(driver: Driver, double: Double) -> None:
    assert double.context.set_input_shape("x", (1, 20, WIDTH))
    assert double.context.set_tensor_address("twice", double.total.pointer)
    assert double.context.set_tensor_address("total", double.twice.pointer)
    assert double.execute()
    with pytest.raises(SessionError):
        double.stream.wait()
    assert "end behind their allocation" in driver.take_errors()[0]


@pytest.mark.parametrize("version", VERSIONS)
def test_what_a_version_does_not_have(version: str, small: Bundle) -> None:
    with emulated(version):
        double = Double(small, managed=version != "10.3.0")
        old = version < "11"
        assert hasattr(double.trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH") == old
        assert hasattr(double.trt.BuilderFlag, "FP16") == old
        assert not any(
            hasattr(double.trt.BuilderFlag, flag) and not old for flag in OLD_BUILDER_FLAGS
        )
        assert hasattr(double.trt.OnnxParser, "supports_model") == old
        assert hasattr(double.engine, "device_memory_size") == old
        assert double.engine.device_memory_size_v2 > 0
        assert double.execute()
        double.stream.wait()
        double.close()


def test_an_engine_tells_of_itself(double: Double, driver: Driver) -> None:
    engine, trt = double.engine, double.trt
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    assert names == ["x", "twice", "total"]
    modes = [engine.get_tensor_mode(name) for name in names]
    assert modes == [trt.TensorIOMode.INPUT, trt.TensorIOMode.OUTPUT, trt.TensorIOMode.OUTPUT]
    assert trt.nptype(engine.get_tensor_dtype("x")) == np.float32
    assert engine.get_tensor_shape("x") == (1, -1, WIDTH)
    assert engine.get_tensor_profile_shape("x", 0) == [(1, 1, WIDTH), (1, 4, WIDTH), (1, 64, WIDTH)]
    assert engine.num_optimization_profiles == 1


def test_what_a_build_refuses(small: Bundle, driver: Driver) -> None:
    trt, messages = load_tensorrt("tensorrt"), deque[str]()
    builder = trt.Builder(make_logger(trt, messages))
    network, config = builder.create_network(2), builder.create_builder_config()
    assert trt.OnnxParser(network, trt.Logger()).parse_from_file(str(small.file(DECODER.file)))
    assert builder.build_serialized_network(network, config) is None
    assert "no optimization profile" in messages[-1]
    config.add_optimization_profile(builder.create_optimization_profile())
    assert builder.build_serialized_network(network, config) is None
    assert "has no shape for" in messages[-1]
    config.set_flag(trt.BuilderFlag.FP16)
    assert builder.build_serialized_network(network, config) is None
    assert "strongly typed" in messages[-1]


@pytest.mark.parametrize(
    ("version", "taken"), [("10.3.0", False), ("10.16.2", True), ("11.4.1", True)]
)
def test_newer_operators_are_refused_by_older_versions(
    version: str, taken: bool, tmp_path: Path
) -> None:
    norm = helper.make_node("RMSNormalization", ["x", "two"], ["twice"])
    save(tmp_path / "norm.onnx", DOUBLE, [norm], opset=23)
    with emulated(version):
        trt = load_tensorrt("tensorrt")
        network = trt.Builder(trt.Logger()).create_network(2)
        parser = trt.OnnxParser(network, trt.Logger())
        assert parser.parse_from_file(str(tmp_path / "norm.onnx")) == taken
        assert parser.num_errors == (0 if taken else 1)
        assert taken or "RMSNormalization" in str(parser.get_error(0))


def test_a_build_reports_and_can_be_stopped(small: Bundle, driver: Driver) -> None:
    trt: Any = load_tensorrt("tensorrt")
    steps = []

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def step_complete(self, phase_name: str, step: int) -> bool:
            steps.append((phase_name, step))
            return len(steps) < 2

    builder = trt.Builder(trt.Logger())
    network, config = builder.create_network(2), builder.create_builder_config()
    assert trt.OnnxParser(network, trt.Logger()).parse_from_file(str(small.file(DOUBLE.file)))
    profile = builder.create_optimization_profile()
    profile.set_shape("x", (1, 1, WIDTH), (1, 2, WIDTH), (1, 3, WIDTH))
    config.add_optimization_profile(profile)
    config.progress_monitor = Monitor()
    assert builder.build_serialized_network(network, config) is None
    assert steps == [("Tactics", 0), ("Tactics", 1)]


def test_a_logger_must_be_initialised(driver: Driver) -> None:
    trt: Any = load_tensorrt("tensorrt")

    class Careless(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            pass

    with pytest.raises(TypeError, match="__init__"):
        trt.Builder(Careless())
