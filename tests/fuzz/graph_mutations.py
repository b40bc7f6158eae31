"""What damages a graph: bytes of its file, or fields of what they mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import onnx
from hypothesis import strategies as st

from fuzz import mutations
from fuzz.mutations import Draw

SIZES = (0, 1, -1, 2, 7, 127, 2**31 - 1, 2**31, 2**40, 2**62, -(2**63))
TYPES = tuple(range(-1, 25))  # of TensorProto, and some that are none
TEXTS = ("", "0", "-1", "1", "4096", "999999", str(2**40), "../manifest.json", "embeddings.bin")
OPERATORS = (
    *("MatMul", "Gemm", "Gather", "Slice", "Reshape", "Concat", "Split", "Expand", "Tile", "Pad"),
    *("Conv", "ConstantOfShape", "Range", "ScatterND", "GatherND", "Loop", "If", "Scan", "Resize"),
    *("GroupQueryAttention", "MultiHeadAttention", "RotaryEmbedding", "MatMulNBits", "Identity"),
    *("SkipLayerNormalization", "QGemm", "DequantizeLinear", "ArgMax", "TopK", "Einsum", "Nope"),
)


@st.composite
def graphs(draw: Draw, seeds: Sequence[bytes]) -> bytes:
    """One of ``seeds``, behind a byte that says which, damaged at one to three places."""
    index = draw(st.integers(0, len(seeds) - 1))
    if draw(st.integers(0, 3)) == 0:
        return bytes([index]) + draw(mutations.files([seeds[index]]))
    model = onnx.load_model_from_string(seeds[index])
    for _ in range(draw(st.integers(1, 3))):
        change = draw(st.sampled_from(CHANGES))
        change(draw, model.graph)
    return bytes([index]) + model.SerializeToString()


def _one(draw: Draw, items: Sequence[Any]) -> Any:
    return items[draw(st.integers(0, len(items) - 1))]


def _change_size(draw: Draw, graph: Any) -> None:
    dims = _one(draw, graph.initializer).dims
    place = draw(st.integers(0, len(dims)))
    size = draw(st.sampled_from(SIZES))
    if place == len(dims):
        dims.append(size)
    else:
        dims[place] = size


def _change_type(draw: Draw, graph: Any) -> None:
    _one(draw, graph.initializer).data_type = draw(st.sampled_from(TYPES))


def _change_place(draw: Draw, graph: Any) -> None:
    """Where a tensor's weights lie outside of the file, or none any more."""
    outside = [tensor for tensor in graph.initializer if tensor.external_data]
    if not outside:
        return
    entries = _one(draw, outside).external_data
    entry = _one(draw, entries)
    if draw(st.booleans()):
        entry.value = draw(st.sampled_from(TEXTS))
    elif entry.value.isdigit():
        entry.value = str(max(0, int(entry.value) + draw(st.integers(-4096, 4096))))
    else:
        entries.remove(entry)


def _change_operator(draw: Draw, graph: Any) -> None:
    node = _one(draw, graph.node)
    node.op_type = draw(st.sampled_from(OPERATORS))
    node.domain = draw(st.sampled_from(("", "com.microsoft")))


def _change_edge(draw: Draw, graph: Any) -> None:
    node = _one(draw, graph.node)
    names = draw(st.sampled_from((node.input, node.output)))
    others = [name for other in graph.node for name in (*other.input, *other.output)]
    if not names:
        return
    place = draw(st.integers(0, len(names) - 1))
    if draw(st.booleans()):
        names[place] = _one(draw, [*others, "", "nothing"])
    else:
        del names[place]


def _change_attribute(draw: Draw, graph: Any) -> None:
    nodes = [node for node in graph.node if node.attribute]
    node = _one(draw, nodes)
    attribute = _one(draw, node.attribute)
    change = draw(st.sampled_from(("number", "remove", "list", "type")))
    if change == "remove":
        node.attribute.remove(attribute)
    elif change == "number":
        attribute.i = draw(st.sampled_from(SIZES))
    elif change == "type":
        attribute.type = draw(st.integers(0, 14))
    else:
        attribute.ints.append(draw(st.sampled_from(SIZES)))
        attribute.t.dims.append(draw(st.sampled_from(SIZES)))


def _change_interface(draw: Draw, graph: Any) -> None:
    values = draw(st.sampled_from((graph.input, graph.output, graph.value_info)))
    if not values:
        return
    tensor = _one(draw, values).type.tensor_type
    if draw(st.booleans()):
        tensor.elem_type = draw(st.sampled_from(TYPES))
    elif tensor.shape.dim:
        _one(draw, tensor.shape.dim).dim_value = draw(st.sampled_from(SIZES))


def _change_order(draw: Draw, graph: Any) -> None:
    """A node is taken away, doubled or moved to the end."""
    node = _one(draw, graph.node)
    change = draw(st.sampled_from(("take away", "double", "move")))
    if change != "take away":
        graph.node.append(node)
    if change != "double":
        graph.node.remove(node)


def _change_numbers(draw: Draw, graph: Any) -> None:
    """The numbers of a constant or a small initializer."""
    tensors = [tensor for tensor in graph.initializer if tensor.raw_data]
    for node in graph.node:
        tensors += [attribute.t for attribute in node.attribute if attribute.t.raw_data]
    if not tensors:
        return
    tensor = _one(draw, tensors)
    size = draw(st.sampled_from(SIZES))
    data = size.to_bytes(8, "little", signed=True) if size < 2**63 else b""
    tensor.raw_data = draw(st.sampled_from((b"", data, data + tensor.raw_data[8:])))


Change = Callable[[Draw, Any], None]
CHANGES: tuple[Change, ...] = (
    _change_size,
    _change_type,
    _change_place,
    _change_operator,
    _change_edge,
    _change_attribute,
    _change_interface,
    _change_order,
    _change_numbers,
)
