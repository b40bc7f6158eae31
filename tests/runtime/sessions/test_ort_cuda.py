"""ONNX Runtime on a GPU, as far as it can be held without one: with stand-ins for what is missing
here.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import pytest

from vpt_edge.runtime.errors import SessionError
from vpt_edge.runtime.manifest import Tensor
from vpt_edge.runtime.sessions import cuda, open_session, ort
from vpt_edge.runtime.sessions.ort import OrtCudaSession, missing_library
from vpt_edge.runtime.sessions.stream import DeviceArray
from vpt_edge.runtime.testing import tiny_bundle

if TYPE_CHECKING:
    from vpt_edge.runtime.bundle import Bundle

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"


class Binding:
    """Takes down what is bound."""

    def __init__(self) -> None:
        self.inputs: list[tuple[Any, ...]] = []
        self.outputs: list[tuple[Any, ...]] = []

    def bind_input(self, *arguments: Any) -> None:
        self.inputs.append(arguments)

    def bind_output(self, *arguments: Any) -> None:
        self.outputs.append(arguments)


class Inference:
    """An InferenceSession whose provider loads, or has fallen back as the real one does: with a
    line in its log.
    """

    loads = True
    left_on_cpu: list[str] = []
    opened: list[Inference] = []

    def __init__(self, path: str, options: Any, providers: list[Any], enable_fallback: int) -> None:
        self.path, self.asked, self.binding, self.runs = path, providers, Binding(), 0
        self.opened.append(self)

    def get_providers(self) -> list[str]:
        return [CUDA, CPU] if self.loads else [CPU]

    def get_inputs(self) -> list[Any]:
        past = SimpleNamespace(name="past", type="tensor(float)", shape=[1])
        return [past, SimpleNamespace(name="ids", type="tensor(int32)", shape=[1])]

    def get_outputs(self) -> list[Any]:
        return [SimpleNamespace(name="present", type="tensor(float)", shape=[1])]

    def io_binding(self) -> Binding:
        return self.binding

    def run_with_iobinding(self, binding: Binding) -> None:
        self.runs += 1

    def __getattr__(self, name: str) -> Any:
        if name == "get_provider_graph_assignment_info":
            nodes = [SimpleNamespace(op_type=operator) for operator in self.left_on_cpu]
            return lambda: [SimpleNamespace(ep_name=CPU, get_nodes=lambda: nodes)]
        raise AttributeError(name)


class Stream:
    """A stream without a driver: what it gives lies nowhere."""

    def __init__(self, device: Any) -> None:
        self.device, self.waits, self.closed = self, 0, False

    def enter(self) -> None:
        """The stream stands for its device too."""

    def zeros(self, shape: tuple[int, ...], dtype: Any) -> Any:
        return DeviceArray(self, 0x7F0000, shape, np.dtype(dtype))  # type: ignore[arg-type]

    def wait(self) -> None:
        self.waits += 1

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """With the inputs and outputs that ``Inference`` has, for every graph."""
    tiny = tiny_bundle(tmp_path)
    past = Tensor("past", "float32", (1,))
    ids = Tensor("ids", "int32", (1,))
    present = Tensor("present", "float32", (1,))
    graphs = {}
    for name, graph in tiny.manifest.graphs.items():
        graphs[name] = replace(graph, inputs=(past, ids), outputs=(present,))
    return replace(tiny, manifest=replace(tiny.manifest, graphs=graphs))


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> type[Inference]:
    """An onnxruntime-gpu on a machine whose driver answers."""
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(onnxruntime, "InferenceSession", Inference)
    monkeypatch.setattr(ort, "Stream", Stream)
    monkeypatch.setattr(cuda.Device, "open", classmethod(lambda cls: None))
    monkeypatch.setattr(Inference, "opened", [])
    monkeypatch.setattr(Inference, "loads", True)
    return Inference


@pytest.mark.skipif(CUDA in onnxruntime.get_available_providers(), reason="this is onnxruntime-gpu")
def test_without_the_provider_it_says_what_to_install(bundle: Bundle) -> None:
    with pytest.raises(SessionError, match=rf"has no {CUDA}.*pip install .*gpu"):
        open_session(bundle, "decoder", "cuda")


def test_a_provider_that_fell_back_is_an_error_that_names_the_library(
    bundle: Bundle, gpu: type[Inference], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    capi = tmp_path / "capi"
    capi.mkdir()
    (capi / "libonnxruntime_providers_cuda.so").write_bytes(b"no library")
    monkeypatch.setattr(onnxruntime, "__file__", str(tmp_path / "__init__.py"))
    monkeypatch.setattr(gpu, "loads", False)
    with pytest.raises(
        SessionError, match=rf"{CUDA} does not load: .*libonnxruntime_providers_cuda.so.*vpt-doctor"
    ):
        open_session(bundle, "decoder", "cuda")


def test_a_package_without_the_provider_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime, "__file__", str(tmp_path / "__init__.py"))
    assert missing_library(onnxruntime) == f"no CUDA provider in {tmp_path / 'capi'}"


def test_graphs_of_the_other_target_are_refused(bundle: Bundle, gpu: type[Inference]) -> None:
    other = replace(bundle, manifest=replace(bundle.manifest, target="tensorrt"))
    with pytest.raises(SessionError, match=r"exported for tensorrt.*--target onnxruntime"):
        open_session(other, "decoder", "cuda")
    assert not gpu.opened


def test_heavy_operators_left_on_the_cpu_are_an_error(
    bundle: Bundle, gpu: type[Inference], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The provider loads, yet has no kernel for some nodes: ONNX Runtime runs them elsewhere
    without a word.
    """
    monkeypatch.setattr(gpu, "left_on_cpu", ["Shape", "QGemm", "GroupQueryAttention"])
    with pytest.raises(
        SessionError, match=r"no kernel for GroupQueryAttention, QGemm of decoder in fp32.*fp16"
    ):
        open_session(bundle, "decoder", "cuda")
    monkeypatch.setattr(gpu, "left_on_cpu", ["Shape"])
    open_session(bundle, "decoder", "cuda").close()


def test_only_cuda_is_asked_for_and_its_arena_grows_by_what_is_needed(
    bundle: Bundle, gpu: type[Inference]
) -> None:
    session = open_session(bundle, "decoder", "cuda")
    (inference,) = gpu.opened
    assert inference.path == str(bundle.file("decoder.onnx"))
    ((provider, options),) = inference.asked
    assert provider == CUDA
    assert options["arena_extend_strategy"] == "kSameAsRequested"
    session.close()


def test_device_arrays_are_bound_where_they_lie(bundle: Bundle, gpu: type[Inference]) -> None:
    session = OrtCudaSession(bundle, "decoder")
    cache, ids = session.zeros((2, 3), np.float16), np.zeros((1, 4), np.float32)
    session.run({"past": cache[1:2], "ids": ids}, {"present": cache[1:2]})
    binding = gpu.opened[0].binding
    address = 0x7F0000 + 3 * 2  # behind the first row of three float16
    assert binding.inputs == [
        ("past", "cuda", 0, np.float16, (1, 3), address),
        ("ids", "cpu", 0, np.float32, (1, 4), ids.ctypes.data),
    ]
    assert binding.outputs == [("present", "cuda", 0, np.float16, (1, 3), address)]
    session.close()


def test_what_is_bound_stays_bound(bundle: Bundle, gpu: type[Inference]) -> None:
    session = OrtCudaSession(bundle, "decoder")
    cache, first, second = (
        session.zeros((2, 3), np.float16),
        np.zeros(1, np.float32),
        np.zeros(1, np.float32),
    )
    for ids in (first, first, second):
        session.run({"past": cache, "ids": ids}, {})
    inference = gpu.opened[0]
    assert [name for name, *_ in inference.binding.inputs] == ["past", "ids", "ids"]
    assert inference.runs == 3
    session.close()


def test_zeros_are_there_before_another_stream_reads_them(
    bundle: Bundle, gpu: type[Inference]
) -> None:
    session = OrtCudaSession(bundle, "decoder")
    stream: Any = session._stream
    session.zeros((2, 3), np.float16)
    assert stream.waits == 1
    session.close()
    assert stream.closed


def test_a_closed_session_says_so(bundle: Bundle, gpu: type[Inference]) -> None:
    session = OrtCudaSession(bundle, "decoder")
    session.close()
    with pytest.raises(SessionError, match="the session of decoder is closed"):
        session.run({}, {})
