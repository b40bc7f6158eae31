"""Parity of every graph with eager torch, at several sizes, and a first question to the bundle."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import nn

from vpt_edge.export.attention import PlainAttention, join_cache
from vpt_edge.runtime.bundle import Bundle
from vpt_edge.runtime.errors import ExportError
from vpt_edge.runtime.image import Patches
from vpt_edge.runtime.interface import has_last, most_last
from vpt_edge.runtime.kv_cache import KVCache
from vpt_edge.runtime.manifest import Parity
from vpt_edge.runtime.models import open_tower
from vpt_edge.runtime.pipeline import Pipeline
from vpt_edge.runtime.sessions.ort import OrtSession

if TYPE_CHECKING:
    from vpt_edge.export.attention import LayerCache
    from vpt_edge.export.spec import Spec
    from vpt_edge.runtime.manifest import Graph, Manifest
    from vpt_edge.runtime.sessions import Session

Array = np.ndarray[Any, Any]
Arrays = dict[str, Array]

VISION_GRIDS = ((2, 2), (4, 10), (16, 12))
PROJECTOR_TOKENS = (1, 40)
DECODER_RUNS = (1, 7, 1, 40, 1)  # tokens a run, one behind the other on one cache
PROBE_SIDE = 56  # pixels
PROBE_QUESTION = "What is this?"
PROBE_TOKENS = 2  # a prefill and a step


class Case(NamedTuple):
    """One run of a graph: at which size, its outputs, and those of torch."""

    size: str
    outputs: Arrays
    expected: Arrays


def verify(
    bundle: Bundle, spec: Spec, dtype: str, tolerance: float, load: Callable[[str], torch.Tensor]
) -> list[Parity]:
    """Compare the graph of ``spec`` with torch. Raises ExportError where it is out of tolerance."""
    name = spec.name
    module = build_module(spec, dtype, load)
    cases = {"vision_encoder": _vision, "decoder": _decoder}.get(name, _stateless)
    session = OrtSession(bundle, name)
    rows = []
    try:
        with torch.inference_mode():
            for case in cases(bundle, name, module, session):
                for output, expected in case.expected.items():
                    difference = _difference(case.outputs[output], expected)
                    rows.append(Parity(name, case.size, output, difference, tolerance))
    finally:
        session.close()
    worst = max(rows, key=lambda row: row.difference)
    if not worst.difference <= worst.tolerance:
        raise ExportError(
            f"{spec.graph.file} differs from torch by {worst.difference:.1e} of its largest value "
            f"in {worst.output} at {worst.size}; {worst.tolerance:.1e} is allowed. "
            "No bundle was written",
            "please report config.json",
        )
    return rows


def build_module(spec: Spec, dtype: str, load: Callable[[str], torch.Tensor]) -> nn.Module:
    """The torch module with its weights, in the precision of the graph."""
    with torch.device("meta"):
        module = spec.build(PlainAttention)
    module = module.to(getattr(torch, dtype)).eval()
    module.load_state_dict({name: load(name) for name in module.state_dict()}, assign=True)
    return module


def _difference(output: Array, expected: Array) -> float:
    """The largest absolute difference over the largest absolute value; infinite where a number is
    not finite.
    """
    output = output.astype(np.float64)
    expected = expected.astype(np.float64)
    scale = float(np.abs(expected).max())
    difference = float(np.abs(output - expected).max()) / (scale or 1.0)
    return difference if np.isfinite(difference) else float("inf")


def _random(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def tensors(inputs: Arrays) -> list[torch.Tensor]:
    return [torch.from_numpy(array) for array in inputs.values()]


def flatten(result: Any) -> list[torch.Tensor]:
    """The tensors in what a module gives, one behind the other."""
    if isinstance(result, torch.Tensor):
        return [result]
    parts = []
    for part in result:
        parts += flatten(part)
    return parts


def _join(past: list[LayerCache], new: list[LayerCache]) -> list[LayerCache]:
    """All keys and values, layer by layer."""
    if not past:
        return new
    return [join_cache(old, k, v) for old, (k, v) in zip(past, new, strict=True)]


def _vision(bundle: Bundle, name: str, module: nn.Module, session: Session) -> Iterator[Case]:
    graph = bundle.graph(name)
    width = graph.inputs[0].shape[2]
    names = [tensor.name for tensor in graph.outputs]
    tower = open_tower(bundle.manifest)
    assert isinstance(width, int)
    for grid in VISION_GRIDS:
        count = grid[0] * grid[1]
        patches = Patches(_random(count, width), (1, *grid))
        inputs = dict(tower.inputs(patches))
        outputs = {}
        for tensor in graph.outputs:
            outputs[tensor.name] = np.empty(_fixed(tensor.shape, count // 4), np.float32)
        session.run(inputs, outputs)
        expected = {}
        for output, values in zip(names, flatten(module(*tensors(inputs))), strict=True):
            expected[output] = values.numpy()
        yield Case(f"{grid[0]}x{grid[1]} patches", outputs, expected)


def _stateless(bundle: Bundle, name: str, module: nn.Module, session: Session) -> Iterator[Case]:
    """Graphs of one output whose sizes are fixed, but for the number of tokens."""
    graph = bundle.graph(name)
    output = graph.outputs[0]
    is_dynamic = any(isinstance(size, str) for size in graph.inputs[0].shape)
    for tokens in PROJECTOR_TOKENS if is_dynamic else (0,):
        inputs = {}
        for tensor in graph.inputs:
            inputs[tensor.name] = _random(*_fixed(tensor.shape, tokens))
        outputs = {output.name: np.empty(_fixed(output.shape, tokens), np.float32)}
        session.run(inputs, outputs)
        expected = module(*tensors(inputs))
        size = f"{tokens} tokens" if is_dynamic else "its one size"
        yield Case(size, outputs, {output.name: expected.numpy()})


def _fixed(shape: tuple[int | str, ...], tokens: int) -> list[int]:
    sizes = []
    for size in shape:
        sizes.append(tokens if isinstance(size, str) else size)
    return sizes


def _decoder(bundle: Bundle, name: str, module: nn.Module, session: Session) -> Iterator[Case]:
    """Runs of several lengths on one cache: logits, hidden state and the last layer's new keys each
    time.
    """
    text = bundle.manifest.text
    tower = open_tower(bundle.manifest)
    cache = KVCache(bundle.manifest)
    embeddings = bundle.embeddings()
    names = [tensor.name for tensor in bundle.graph(name).outputs]
    past: list[LayerCache] = []
    for count in DECODER_RUNS:
        ids = np.random.default_rng(count).integers(0, text.vocab_size, count)
        positions = np.tile(np.arange(cache.length, cache.length + count), (3, 1))
        cos, sin = tower.rotations(positions)
        inputs = {"embeds": embeddings.rows(ids)[None], "cos": cos, "sin": sin}
        if tower.levels:
            inputs["deep"] = _random(tower.levels, count, text.hidden_size)
        lengths = _lengths(bundle.graph(name), count, cache.length)
        rows = len(lengths[-1]) if lengths else 1
        outputs: Arrays = {
            "logits": np.empty((rows, text.vocab_size), np.float32),
            "hidden": np.empty((rows, text.hidden_size), np.float32),
        }
        if "token" in names:
            outputs["token"] = np.empty(1, np.int64)
        cache_inputs, cache_outputs = cache.bindings(count)
        rotations = cache.rotations(cos, sin)
        graph_inputs = {**inputs, **rotations, **cache_inputs}
        if lengths:
            graph_inputs["last"] = lengths[-1].numpy()
        session.run(graph_inputs, {**outputs, **cache_outputs})
        logits, hidden, *_, new = module(*tensors(inputs), past, lengths)
        size = f"{count} tokens behind {cache.length}"
        cache.append(count)
        past = _join(past, new)
        expected = {"logits": logits.numpy(), "hidden": hidden.numpy()}
        expected["keys"] = past[-1][0][0].numpy()
        if "token" in outputs:
            expected["token"] = outputs["logits"].argmax(-1)
        outputs["keys"] = cache.read(text.layers - 1, "key")
        yield Case(size, outputs, expected)


def _lengths(graph: Graph, count: int, past: int) -> tuple[torch.Tensor, ...]:
    """What a module takes that reads out as many of ``count`` tokens as the ``graph`` can; nothing
    where that is the last alone.
    """
    if not has_last(graph):
        return ()
    filled = torch.tensor(past)
    return filled, filled + count, torch.arange(max(count - most_last(graph), 0), count)


def try_bundle(folder: Path) -> Manifest:
    """Open the finished bundle in ``folder`` as its users will, and ask it one short question.

    Graphs for TensorRT run on the device alone: such a bundle is read and its files are checked.
    Raises ExportError for whatever fails, so that an older bundle is not given up for one that does
    not answer.
    """
    try:
        bundle = Bundle.open(folder)
        if bundle.manifest.target == "onnxruntime":
            picture = np.full((PROBE_SIDE, PROBE_SIDE, 3), 128, np.uint8)
            with warnings.catch_warnings(), Pipeline(bundle) as pipeline:
                warnings.simplefilter("ignore")  # hints are for who asks
                pipeline.ask(picture, PROBE_QUESTION, perception="off", max_new_tokens=PROBE_TOKENS)
    except Exception as error:  # of whichever library
        raise ExportError(
            f"the exported bundle does not answer ({type(error).__name__}: {error}) "
            "and was not kept",
            "check the checkpoint's config files",
        ) from error
    return bundle.manifest
