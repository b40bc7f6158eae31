"""What the parts of a manifest must have in common: each graph's inputs and outputs, the geometry
of text and cache, ids, and the table's size.

Nothing here makes a list before it is known that the manifest itself has as many entries.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from vpt_edge.runtime.errors import BundleError
from vpt_edge.runtime.manifest import MANIFEST, Tensor
from vpt_edge.runtime.schema import EXPORT_AGAIN, brief, labels

if TYPE_CHECKING:
    from vpt_edge.runtime.manifest import CacheConfig, Graph, Manifest, TextConfig

LAYOUTS = {"onnxruntime": "shared", "tensorrt": "appended"}  # by target
INTEGERS = "int8"  # of an embedding table that has scales
# An appended cache's past is bound in whole blocks: few shapes, each captured once on a GPU.
BLOCK = 256
MOST_LAST = 64  # positions that a pass of the decoder reads out


def expect(condition: bool, problem: str) -> None:
    """Raise BundleError with ``problem`` unless ``condition`` holds."""
    if not condition:
        raise BundleError(f"{MANIFEST}: {problem}", EXPORT_AGAIN)


def check_manifest(manifest: Manifest) -> None:
    """Raise BundleError where parts of ``manifest`` contradict each other.

    What the blocks of model and perception say is checked by those whom they name.
    """
    _check_text(manifest.text)
    layout = LAYOUTS[manifest.target]
    found = manifest.cache.layout
    expect(found == layout, f"cache: layout is {found}, expected {layout} for {manifest.target}")
    image = manifest.image
    limits = f"min_pixels {image.min_pixels} and max_pixels {image.max_pixels}"
    expect(image.min_pixels <= image.max_pixels, f"image: {limits} leave no size")
    check_ids("tokens", [manifest.tokens.image_pad, *manifest.tokens.end], manifest)
    expect(bool(manifest.tokens.end), "tokens: end is empty, expected an id at least")
    for name, graph in manifest.graphs.items():
        _check_bounds(name, graph)
    _check_decoder(manifest)


def check_ids(block: str, ids: Iterable[int], manifest: Manifest) -> None:
    """Raise BundleError where one of ``ids``, which the ``block`` names, is not in the
    vocabulary.
    """
    size = manifest.text.vocab_size
    outside = [number for number in ids if number >= size]
    problem = f"{block}: the ids {brief(outside)} are not below vocab_size {size}"
    expect(not outside, problem)


def check_graph(
    manifest: Manifest, name: str, inputs: Sequence[Tensor], outputs: Sequence[Tensor]
) -> None:
    """Raise BundleError unless the graph ``name`` has these inputs and outputs, in any order."""
    graph = find_graph(manifest, name)
    _check_tensors(f"graphs.{name}: inputs", graph.inputs, inputs)
    _check_tensors(f"graphs.{name}: outputs", graph.outputs, outputs)


def find_graph(manifest: Manifest, name: str) -> Graph:
    """The graph ``name``. Raises BundleError where there is none."""
    expect(name in manifest.graphs, f"graphs: there is no {name}")
    return manifest.graphs[name]


def floats(name: str, *shape: int | str) -> Tensor:
    """A float32 input or output of a graph."""
    return Tensor(name, "float32", shape)


def whole_blocks(tokens: int) -> int:
    """``tokens`` rounded up to whole blocks, at least one."""
    return max(-(-tokens // BLOCK), 1) * BLOCK


def table_size(text: TextConfig) -> int:
    """Bytes of the embedding table."""
    return text.vocab_size * text.hidden_size * np.dtype(text.embeddings_dtype).itemsize


def scales_size(text: TextConfig) -> int:
    """Bytes of the embedding table's scales."""
    return text.vocab_size * np.dtype(np.float32).itemsize


def _check_text(text: TextConfig) -> None:
    half = text.head_dim // 2
    expect(text.head_dim == 2 * half, f"text: head_dim is {text.head_dim}, expected an even one")
    section = text.mrope_section
    expect(sum(section) == half, f"text: mrope_section is {section}, expected a sum of {half}")
    has_scales = text.embedding_scales is not None
    problem = f"text: an embedding table of {text.embeddings_dtype} with scales: {has_scales}"
    expect(has_scales == (text.embeddings_dtype == INTEGERS), problem)


def _check_bounds(name: str, graph: Graph) -> None:
    for axis, (least, usual, largest) in graph.bounds.items():
        problem = f"graphs.{name}: bounds.{axis} are not in order: {least}, {usual}, {largest}"
        expect(least <= usual <= largest and largest > 0, problem)
    axes = set[str]()
    for tensor in (*graph.inputs, *graph.outputs):
        axes.update(side for side in tensor.shape if isinstance(side, str))
    missing = axes - set(graph.bounds)
    expect(not missing, f"graphs.{name}: there are no bounds of {labels(missing)}")


def _check_decoder(manifest: Manifest) -> None:
    """The decoder's inputs and outputs against text and cache."""
    text = manifest.text
    cache = manifest.cache
    graph = find_graph(manifest, "decoder")
    count = sum(tensor.name.startswith("past.") for tensor in graph.inputs)
    problem = f"text: layers is {text.layers}, the decoder has {count} inputs of a past"
    expect(count == 2 * text.layers, f"{problem}, expected two of each layer")
    inputs, outputs = decoder_tensors(
        text, cache, _rope_axis(graph), deep_levels(graph), drafted=has_last(graph)
    )
    check_graph(manifest, "decoder", inputs, outputs)
    most = graph.bounds["sequence"][2]
    last = most_last(graph)
    problem = f"graphs.decoder: reads out {last} of {most} tokens, expected at most {MOST_LAST}"
    expect(last <= min(most, MOST_LAST), problem)
    drafted = manifest.budget.draft_tokens or 0
    expect(drafted < last, f"budget: draft_tokens is {drafted}, the decoder takes {last - 1}")
    problem = f"graphs.decoder: a sequence of {most} tokens, the cache takes {cache.capacity}"
    expect(most <= cache.capacity, problem)
    if cache.layout == "shared":
        rows = graph.bounds["capacity"][2]
        expected = cache.capacity
    else:
        rows = graph.bounds["past"][2]
        expected = whole_blocks(cache.capacity)
    problem = f"cache: capacity is {cache.capacity}, the decoder takes a past of {rows} tokens"
    expect(rows == expected, problem)


def decoder_tensors(
    text: TextConfig, cache: CacheConfig, rope_axis: str, levels: int = 0, drafted: bool = False
) -> tuple[list[Tensor], list[Tensor]]:
    """Inputs and outputs of the graph ``decoder``.

    ``rope_axis``: the first axis of cos and sin, "sequence", or "capacity" where attention rotates;
    ``levels``: behind how many layers deep features are added; ``drafted``: it reads out several
    positions, which its input ``last`` names, and not the last one alone.
    """
    half = text.head_dim // 2
    inputs = [floats("embeds", 1, "sequence", text.hidden_size)]
    inputs += [floats("cos", rope_axis, half), floats("sin", rope_axis, half)]
    if levels:
        inputs.append(floats("deep", levels, "sequence", text.hidden_size))
    last: int | str = "last" if drafted else 1
    outputs = [floats("logits", last, text.vocab_size), floats("hidden", last, text.hidden_size)]
    if drafted:
        inputs.append(Tensor("last", "int64", ("last",)))
    past: tuple[int | str, ...]
    present: tuple[int | str, ...]
    if cache.layout == "shared":
        past = (1, text.kv_heads, "capacity", text.head_dim)
        present = past
        inputs.append(Tensor("seqlens_k", "int32", (1,)))
        inputs.append(Tensor("total_sequence_length", "int32", ()))
    else:
        width = text.kv_heads * text.head_dim
        past = (1, "past", width)
        present = (1, "sequence", width)
        inputs.append(Tensor("filled", "int32", ()))
        outputs.append(Tensor("token", "int64", (1,)))
    for layer in range(text.layers):
        for part in ("key", "value"):
            inputs.append(Tensor(f"past.{layer}.{part}", cache.dtype, past))
            outputs.append(Tensor(f"present.{layer}.{part}", cache.dtype, present))
    return inputs, outputs


def _rope_axis(decoder: Graph) -> str:
    for tensor in decoder.inputs:
        if tensor.name == "cos" and tensor.shape[:1] == ("capacity",):
            return "capacity"
    return "sequence"


def deep_levels(decoder: Graph) -> int:
    """Behind how many layers the graph ``decoder`` adds deep features."""
    for tensor in decoder.inputs:
        if tensor.name == "deep" and tensor.shape and isinstance(tensor.shape[0], int):
            return tensor.shape[0]
    return 0


def has_last(decoder: Graph) -> bool:
    """Whether the graph ``decoder`` reads out the positions that its input ``last`` names."""
    return any(tensor.name == "last" for tensor in decoder.inputs)


def most_last(decoder: Graph) -> int:
    """How many positions the graph ``decoder`` reads out at most."""
    return decoder.bounds["last"][2] if has_last(decoder) else 1


def check_levels(manifest: Manifest, levels: int) -> None:
    """Raise BundleError unless the decoder takes deep features of as many ``levels`` as the vision
    encoder gives.
    """
    given = deep_levels(find_graph(manifest, "decoder"))
    problem = f"graphs.decoder: takes deep features of {given} levels, expected {levels} as model"
    expect(given == levels, problem)


def projector_tensors(text: TextConfig) -> tuple[list[Tensor], list[Tensor]]:
    """Inputs and outputs of the graph ``reencoder_projector``."""
    size = text.hidden_size
    inputs = [floats("features", 1, "tokens", size), floats("condition", 1, size)]
    return inputs, [floats("projected", 1, "tokens", size)]


def check_reencoder(manifest: Manifest, has_encoder: bool, has_action: bool) -> None:
    """Raise BundleError unless the graphs are there that a re-encode runs.

    ``has_encoder``: the perception has an encoder of its own; ``has_action``: it re-encodes.
    """
    if has_action:
        inputs, outputs = projector_tensors(manifest.text)
        check_graph(manifest, "reencoder_projector", inputs, outputs)
    if not has_encoder:
        return
    graph = find_graph(manifest, "reencoder_features")
    tokens = [tensor.shape[1] for tensor in graph.outputs if len(tensor.shape) == 3]
    sides = [tensor.shape[2] for tensor in graph.inputs if len(tensor.shape) == 4]
    problem = "graphs.reencoder_features: expected the one input pixels and the output features"
    expect(len(tokens) == 1 and len(sides) == 1, problem)
    count = tokens[0]
    side = sides[0]
    is_fixed = isinstance(count, int) and isinstance(side, int)
    expect(is_fixed, "graphs.reencoder_features: expected sizes that are numbers")
    pixels = floats("pixels", 1, 3, side, side)
    features = floats("features", 1, count, manifest.text.hidden_size)
    check_graph(manifest, "reencoder_features", [pixels], [features])


def _check_tensors(where: str, found: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
    by_name = {tensor.name: tensor for tensor in found}
    names = {tensor.name for tensor in expected}
    expect(len(by_name) == len(found), f"{where}: a name stands there twice")
    missing = names - set(by_name)
    expect(not missing, f"{where}: {labels(missing)} missing")
    unknown = set(by_name) - names
    expect(not unknown, f"{where}: {labels(unknown)} unknown")
    for tensor in expected:
        given = by_name[tensor.name]
        shown = f"{given.dtype} {given.shape}, expected {tensor.dtype} {tensor.shape}"
        expect(given == tensor, f"{where}: {tensor.name} is {shown}")
