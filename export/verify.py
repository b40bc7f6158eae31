"""Parity of every graph with eager torch, at several sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from vpt_edge.export.layers import PlainAttention
from vpt_edge.runtime.bundle import Bundle, Parity
from vpt_edge.runtime.errors import ExportError
from vpt_edge.runtime.kv_cache import KVCache
from vpt_edge.runtime.pipeline import Pipeline
from vpt_edge.runtime.positions import mrope, vision_rope

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from torch import nn

    from vpt_edge.export.spec import Spec
    from vpt_edge.runtime.bundle import Manifest
    from vpt_edge.runtime.sessions import Session

    Arrays = dict[str, np.ndarray[Any, Any]]
    Case = tuple[str, Arrays, Arrays]

VISION_GRIDS = ((2, 2), (4, 10), (16, 12))
PROJECTOR_TOKENS = (1, 40)
DECODER_RUNS = (1, 7, 1, 40, 1)  # tokens a run, one behind the other on one cache
PROBE_SIDE = 56  # pixels
PROBE_QUESTION = "What is this?"
PROBE_TOKENS = 2  # a prefill and a step


def verify(
    bundle: Bundle, spec: Spec, dtype: str, tolerance: float, load: Callable[[str], torch.Tensor]
) -> list[Parity]:
    """Compare the graph of ``spec`` with torch. Raises ExportError where it is out of tolerance."""
    from vpt_edge.runtime.sessions.ort import OrtSession

    module = _module(spec, dtype, load)
    name = spec.name
    cases = {"vision_encoder": _vision, "decoder": _decoder}.get(name, _stateless)
    session = OrtSession(bundle, name)
    try:
        with torch.inference_mode():
            rows = [
                Parity(name, size, output, _difference(got[output], want[output]), tolerance)
                for size, got, want in cases(bundle, name, module, session)
                for output in want
            ]
    finally:
        session.close()
    worst = max(rows, key=lambda row: row.difference)
    if not worst.difference <= worst.tolerance:
        raise ExportError(
            f"{spec.graph.file} differs from torch by {worst.difference:.1e} of its largest value in {worst.output} at "
            f"{worst.size}; {worst.tolerance:.1e} is allowed. No bundle was written; please report config.json"
        )
    return rows


def _module(spec: Spec, dtype: str, load: Callable[[str], torch.Tensor]) -> nn.Module:
    """The torch module with its weights, in the precision of the graph."""
    with torch.device("meta"):
        module = spec.build(PlainAttention())
    module = module.to(getattr(torch, dtype)).eval()
    module.load_state_dict({name: load(name) for name in module.state_dict()}, assign=True)
    return module


def _difference(got: np.ndarray[Any, Any], want: np.ndarray[Any, Any]) -> float:
    """The largest absolute difference over the largest absolute value; infinite where a number is
    not finite."""
    got, want = got.astype(np.float64), want.astype(np.float64)
    scale = float(np.abs(want).max())
    difference = float(np.abs(got - want).max()) / (scale or 1.0)
    return difference if np.isfinite(difference) else float("inf")


def _random(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def _vision(bundle: Bundle, name: str, module: nn.Module, session: Session) -> Iterator[Case]:
    spec, head_dim = bundle.graph(name), bundle.manifest.image.vision_head_dim
    width, hidden = spec.inputs[0].shape[2], spec.outputs[0].shape[2]
    assert isinstance(width, int) and isinstance(hidden, int)
    for grid in VISION_GRIDS:
        count = grid[0] * grid[1]
        cos, sin = vision_rope(grid, head_dim)
        got = {"features": np.empty((1, count // 4, hidden), np.float32)}
        inputs = {"patches": _random(1, count, width), "cos": cos, "sin": sin}
        session.run(inputs, got)
        want = module(*(torch.from_numpy(array) for array in inputs.values()))
        yield f"{grid[0]}x{grid[1]} patches", got, {"features": want.numpy()}


def _stateless(bundle: Bundle, name: str, module: nn.Module, session: Session) -> Iterator[Case]:
    graph = bundle.graph(name)
    dynamic = any(isinstance(size, str) for size in graph.inputs[0].shape)
    for tokens in PROJECTOR_TOKENS if dynamic else (0,):
        shapes = [
            [tokens if isinstance(size, str) else size for size in tensor.shape]
            for tensor in graph.inputs
        ]
        inputs = {
            tensor.name: _random(*shape) for tensor, shape in zip(graph.inputs, shapes, strict=True)
        }
        output = graph.outputs[0]
        got = {
            output.name: np.empty(
                [tokens if isinstance(size, str) else size for size in output.shape], np.float32
            )
        }
        session.run(inputs, got)
        want = module(*(torch.from_numpy(array) for array in inputs.values()))
        yield f"{tokens} tokens" if dynamic else "its one size", got, {output.name: want.numpy()}


def _decoder(bundle: Bundle, name: str, module: nn.Module, session: Session) -> Iterator[Case]:
    """Runs of several lengths on one cache: logits, hidden state and the last layer's new keys each
    time."""
    text, cache = bundle.manifest.text, KVCache(bundle.manifest)
    embeddings = bundle.embeddings()
    past: list[tuple[torch.Tensor, torch.Tensor]] = []
    for count in DECODER_RUNS:
        ids = np.random.default_rng(count).integers(0, text.vocab_size, count)
        positions = np.tile(np.arange(cache.length, cache.length + count), (3, 1))
        cos, sin = mrope(positions, text.head_dim, text.rope_theta, text.mrope_section)
        inputs = {"embeds": embeddings.rows(ids)[None], "cos": cos, "sin": sin}
        got: Arrays = {
            "logits": np.empty((1, text.vocab_size), np.float32),
            "hidden": np.empty((1, text.hidden_size), np.float32),
        }
        if "token" in (tensor.name for tensor in bundle.graph(name).outputs):
            got["token"] = np.empty(1, np.int64)
        cache_inputs, cache_outputs = cache.bindings(count)
        session.run(
            {**inputs, **cache.rotations(cos, sin), **cache_inputs}, {**got, **cache_outputs}
        )
        logits, hidden, *_, new = module(
            *(torch.from_numpy(array) for array in inputs.values()), past
        )
        size = f"{count} tokens behind {cache.length}"
        cache.append(count)
        past = (
            [
                (torch.cat((k, a), 1), torch.cat((v, b), 1))
                for (k, v), (a, b) in zip(past, new, strict=True)
            ]
            if past
            else new
        )
        want = {"logits": logits.numpy(), "hidden": hidden.numpy(), "keys": past[-1][0][0].numpy()}
        if "token" in got:
            want["token"] = got["logits"].argmax(-1)
        yield size, {**got, "keys": cache.read(text.layers - 1, "key")}, want


def try_bundle(folder: Path) -> Manifest:
    """Open the finished bundle in ``folder`` as its users will, and ask it one short question.

    Graphs for TensorRT run on the device alone: such a bundle is read and its files are checked.
    Raises ExportError for whatever fails, so that an older bundle is not given up for one that does
    not answer."""
    try:
        bundle = Bundle.open(folder)
        if bundle.manifest.target == "onnxruntime":
            picture = np.full((PROBE_SIDE, PROBE_SIDE, 3), 128, np.uint8)
            with Pipeline(bundle) as pipeline:
                pipeline.ask(picture, PROBE_QUESTION, perception="off", max_new_tokens=PROBE_TOKENS)
    except Exception as error:  # of whichever library
        raise ExportError(
            f"the exported bundle does not answer ({type(error).__name__}: {error}) and was not kept; check the "
            "checkpoint's config files"
        ) from error
    return bundle.manifest
