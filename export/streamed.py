"""The float model straight out of the checkpoint: the reference of a quantized export that needs no
float copy.

Its graphs run in torch. Every weight of a matrix product stays in the checkpoint's file and is
brought to float32 a few rows at a time, each time it is used: a token costs a pass over the file,
and memory for one weight."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn
from torch.nn import functional

from vpt_edge.export.layers import PlainAttention
from vpt_edge.export.quantization.recipe import RECIPES
from vpt_edge.export.spec import OPSET
from vpt_edge.export.tracing import nested
from vpt_edge.runtime.bundle import Bundle, Embeddings, sha256

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vpt_edge.calibration.recorder import Observer
    from vpt_edge.export.writer import BundleWriter
    from vpt_edge.runtime.sessions import Arrays, Session

IR_VERSION = 9  # the last before opset 20
NUMBERS = (
    1 << 21
)  # of a weight in float32 at a time: they stay in the processor's cache until they are used


@dataclass(frozen=True)
class StreamedBundle(Bundle):
    """A float bundle whose graphs and embeddings are the checkpoint's own files; ``job`` describes
    them."""

    job: BundleWriter

    def embeddings(self) -> Embeddings:
        table = self.job.checkpoint.read(self.job.checkpoint.embeddings_tensor)
        if table.dtype == torch.bfloat16:
            return Embeddings(table.view(torch.uint16).numpy().view(ml_dtypes.bfloat16), None)
        return Embeddings(table.numpy(), None)


def streamed_bundle(job: BundleWriter) -> StreamedBundle:
    """The checkpoint of ``job`` as a float bundle.

    The hashes are those of all files in its folder.
    """
    plain = replace(
        job, recipe=RECIPES["fp32"], target="tensorrt", plan=None
    )  # plain operators: torch runs them too
    files = {
        path.name: sha256(path) for path in sorted(job.checkpoint.path.iterdir()) if path.is_file()
    }
    return StreamedBundle(job.checkpoint.path, replace(plain.manifest(), files=files), plain)


def open_streamed(bundle: Bundle, name: str, observer: Observer | None = None, /) -> Session:
    """The graph ``name`` of a streamed bundle; ``observer`` is told what flows into its products."""
    assert isinstance(bundle, StreamedBundle)
    return StreamedSession(bundle.job, name, observer)


class StreamedSession:
    """One graph in torch, its products' weights read as they are needed."""

    def __init__(self, job: BundleWriter, name: str, observer: Observer | None) -> None:
        self._spec, self._observer = job.specs[name], observer
        spec = self._spec
        with torch.device("meta"):
            module = spec.build(_FusedAttention())
        assert isinstance(module.derived, dict)
        load = job.loader(spec)
        for path, part in list(module.named_modules()):
            weight = f"{path}.weight"
            if isinstance(part, nn.Linear):
                derive = module.derived.get(weight, lambda tensor: tensor)
                read = _reader(job, spec.tensor_name(weight), derive)
                watch = _watcher(observer, name, weight)
                bias = None if part.bias is None else load(f"{path}.bias")
                parent, _, last = path.rpartition(".")
                setattr(module.get_submodule(parent), last, StreamedLinear(read, bias, watch))
        module.load_state_dict({name: load(name) for name in module.state_dict()}, assign=True)
        self._module = module.eval()

    def run(self, inputs: Arrays, outputs: Arrays) -> None:
        arguments = [
            torch.from_numpy(np.require(inputs[item.name], requirements="W"))
            for item in self._spec.graph.inputs
        ]
        with _one_thread(), torch.inference_mode():
            results = _flat(self._module(*nested(self._spec, arguments)))
        for item, result in zip(self._spec.graph.outputs, results, strict=True):
            if item.name in outputs:
                outputs[item.name][...] = result.numpy()
        if self._observer and self._spec.name == "decoder":
            self._observer.remember(inputs, outputs)

    def zeros(self, shape: tuple[int, ...], dtype: Any, /) -> NDArray[Any]:
        return np.zeros(shape, dtype)

    def close(self) -> None:
        self._module = nn.Identity()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Torch's own threads stay out of the way of those that compute the products."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class _FusedAttention(PlainAttention):
    def full(self, q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
        q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k, v))
        return functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def _reader(
    job: BundleWriter, name: str, derive: Callable[[Tensor], Tensor]
) -> Callable[[], Tensor]:
    return lambda: derive(job.checkpoint.read(name))


def _watcher(observer: Observer | None, graph: str, weight: str) -> Callable[[Tensor], None]:
    if observer is None:
        return lambda x: None
    return lambda x: observer.watch((graph, weight), x.numpy())


def _flat(result: Any) -> list[Tensor]:
    if isinstance(result, Tensor):
        return [result]
    return [tensor for part in result for tensor in _flat(part)]


@cache
def _product_session() -> Any:
    """``x W^T`` in ONNX Runtime, whose float32 product is twice as fast as torch's on AMD."""
    import onnxruntime

    shapes = {"x": ["rows", "inputs"], "weight": ["outputs", "inputs"], "y": ["rows", "outputs"]}
    x, weight, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in shapes.items()
    )
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "weight"], ["y"], transB=1)], "product", [x, weight], [y]
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
    )
    options = onnxruntime.SessionOptions()
    options.enable_cpu_mem_arena = False
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def _product(x: Tensor, weight: Tensor) -> Tensor:
    (y,) = _product_session().run(None, {"x": x.numpy(), "weight": weight.numpy()})
    return torch.from_numpy(y)


@cache
def _workers() -> ThreadPoolExecutor:
    """Each computes parts of a product by itself: threads that wait for each other crawl on a busy
    machine."""
    return ThreadPoolExecutor(os.cpu_count(), initializer=torch.set_num_threads, initargs=(1,))


class StreamedLinear(nn.Module):
    """``y = x W^T + b`` in float32; ``read`` gives W in whatever dtype the checkpoint has,
    ``watch`` is told x."""

    def __init__(
        self, read: Callable[[], Tensor], bias: Tensor | None, watch: Callable[[Tensor], None]
    ) -> None:
        super().__init__()
        self._read, self._bias, self._watch = read, bias, watch

    def forward(self, x: Tensor) -> Tensor:
        weight, rows = self._read(), x.reshape(-1, x.shape[-1])
        step, out = max(1, NUMBERS // weight.shape[1]), torch.empty(len(rows), len(weight))

        @torch.inference_mode()  # a mode of each thread
        def multiply(start: int) -> None:
            part = slice(start, start + step)
            out[:, part] = _product(rows, weight[part].float())

        watched = _workers().submit(self._watch, x)
        for _ in _workers().map(multiply, range(0, len(weight), step)):
            pass
        watched.result()
        if self._bias is not None:
            out += self._bias
        return out.reshape(*x.shape[:-1], -1)
