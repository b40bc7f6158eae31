"""The float model straight out of the checkpoint: the reference of a quantized export that needs no
float copy.

Its graphs run in torch. Every weight of a matmul stays in the checkpoint's file and is
brought to float32 a few rows at a time, each time it is used: a token costs a pass over the file,
and memory for one weight.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import torch
from onnx import TensorProto, ValueInfoProto, helper
from torch import Tensor, nn
from torch.nn import functional

from vpt_edge.calibration.cpu_session import open_cpu_session
from vpt_edge.export.attention import PlainAttention
from vpt_edge.export.quantization.recipe import RECIPES
from vpt_edge.export.spec import OPSET
from vpt_edge.export.tracing import nest
from vpt_edge.export.verify import flatten
from vpt_edge.runtime.embeddings import Embeddings
from vpt_edge.runtime.files import sha256

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from vpt_edge.calibration.recorder import ActivationRecorder
    from vpt_edge.export.writer import BundleWriter
    from vpt_edge.runtime.manifest import Manifest
    from vpt_edge.runtime.sessions import Arrays, Session

IR_VERSION = 9  # the last before opset 20
# Of a weight in float32 at a time: they stay in the processor's cache until they are used.
NUMBERS = 1 << 21

_threads = threading.local()


@dataclass(frozen=True)
class StreamedModel:
    """The float model whose graphs and embeddings are the checkpoint's own files; ``writer``
    describes them, for plain operators, which torch runs too.
    """

    writer: BundleWriter
    manifest: Manifest

    @property
    def tokenizer_file(self) -> Path:
        return self.writer.checkpoint.tokenizer_file

    def embeddings(self) -> Embeddings:
        checkpoint = self.writer.checkpoint
        table = checkpoint.read(checkpoint.embeddings_tensor)
        if table.dtype == torch.bfloat16:
            return Embeddings(table.view(torch.uint16).numpy().view(ml_dtypes.bfloat16), None)
        return Embeddings(table.numpy(), None)

    def open_session(self, name: str, recorder: ActivationRecorder | None = None) -> Session:
        return StreamedSession(self.writer, name, recorder)


def stream_checkpoint(writer: BundleWriter) -> StreamedModel:
    """The checkpoint of ``writer`` as a float model.

    The hashes in its manifest are those of all files in its folder.
    """
    plain = replace(writer, recipe=RECIPES["fp32"], target="tensorrt", plan=None)
    files = {}
    for path in sorted(writer.checkpoint.path.iterdir()):
        if path.is_file():
            files[path.name] = sha256(path)
    return StreamedModel(plain, replace(plain.manifest(), files=files))


class StreamedSession:
    """One graph in torch, its matmuls' weights read as they are needed; ``recorder`` is told what
    flows into them.
    """

    def __init__(
        self, writer: BundleWriter, name: str, recorder: ActivationRecorder | None
    ) -> None:
        self._spec = writer.specs[name]
        self._recorder = recorder
        load = writer.loader(self._spec)
        with torch.device("meta"):
            module = self._spec.build(_FusedAttention)
        for path, part in list(module.named_modules()):
            if isinstance(part, nn.Linear):
                weight = f"{path}.weight"
                read = partial(self._spec.read, weight, writer.checkpoint.read)
                bias = None if part.bias is None else load(f"{path}.bias")
                watch = _watcher(recorder, name, weight)
                module.set_submodule(path, StreamedLinear(read, bias, watch))
        module.load_state_dict({name: load(name) for name in module.state_dict()}, assign=True)
        self._module = module.eval()

    def run(self, inputs: Arrays, outputs: Arrays) -> None:
        arguments = []
        for item in self._spec.graph.inputs:
            array = np.require(inputs[item.name], requirements="W")
            arguments.append(torch.from_numpy(array))
        with _one_thread(), torch.inference_mode():
            results = flatten(self._module(*nest(self._spec, arguments)))
        for item, result in zip(self._spec.graph.outputs, results, strict=True):
            if item.name in outputs:
                outputs[item.name][...] = result.numpy()
        if self._recorder:
            self._recorder.record_run(self._spec.name, inputs, outputs)

    def zeros(self, shape: tuple[int, ...], dtype: Any, /) -> NDArray[Any]:
        return np.zeros(shape, dtype)

    def close(self) -> None:
        self._module = nn.Identity()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Torch's own threads stay out of the way of those that compute the matmuls."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class _FusedAttention(PlainAttention):
    def product(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return functional.scaled_dot_product_attention(q, k, v)


def _watcher(
    recorder: ActivationRecorder | None, graph: str, weight: str
) -> Callable[[Tensor], None]:
    if recorder is None:
        return lambda x: None
    return lambda x: recorder.record((graph, weight), x.numpy())


@cache
def _matmul_session() -> Any:
    """``x W^T`` in ONNX Runtime, whose float32 matmul is twice as fast as torch's on AMD."""
    x = _value("x", "rows", "inputs")
    weight = _value("weight", "outputs", "inputs")
    y = _value("y", "rows", "outputs")
    gemm = helper.make_node("Gemm", ["x", "weight"], ["y"], transB=1)
    graph = helper.make_graph([gemm], "matmul", [x, weight], [y])
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION)
    return open_cpu_session(
        model.SerializeToString(), enable_cpu_mem_arena=False, intra_op_num_threads=1
    )


def _value(name: str, *shape: str) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _matmul(x: Tensor, weight: Tensor) -> Tensor:
    (y,) = _matmul_session().run(None, {"x": x.numpy(), "weight": weight.numpy()})
    return torch.from_numpy(y)


def _to_float(weight: Tensor) -> Tensor:
    """``weight`` in float32, where the thread keeps such parts: fresh memory for each of them costs
    more than a token's matmuls.
    """
    if weight.dtype == torch.float32:
        return weight
    kept: Tensor | None = getattr(_threads, "part", None)
    if kept is None or kept.numel() < weight.numel():
        kept = torch.empty(weight.numel())
        _threads.part = kept
    return kept[: weight.numel()].view(weight.shape).copy_(weight)


@cache
def _workers() -> ThreadPoolExecutor:
    """Each computes parts of a matmul by itself: threads that wait for each other crawl on a busy
    machine.
    """
    return ThreadPoolExecutor(os.cpu_count(), initializer=torch.set_num_threads, initargs=(1,))


class StreamedLinear(nn.Module):
    """``y = x W^T + b`` in float32; ``read`` gives W in whatever dtype the checkpoint has,
    ``watch`` is told x.
    """

    def __init__(
        self, read: Callable[[], Tensor], bias: Tensor | None, watch: Callable[[Tensor], None]
    ) -> None:
        super().__init__()
        self._read = read
        self._bias = bias
        self._watch = watch

    def forward(self, x: Tensor) -> Tensor:
        weight = self._read()
        rows = x.reshape(-1, x.shape[-1])
        step = max(1, NUMBERS // weight.shape[1])
        out = torch.empty(len(rows), len(weight))

        @torch.inference_mode()  # a mode of each thread
        def multiply(start: int) -> None:
            part = slice(start, start + step)
            out[:, part] = _matmul(rows, _to_float(weight[part]))

        watched = _workers().submit(self._watch, x)
        for _ in _workers().map(multiply, range(0, len(weight), step)):
            pass
        watched.result()
        if self._bias is not None:
            out += self._bias
        return out.reshape(*x.shape[:-1], -1)
