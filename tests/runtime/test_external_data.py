"""Every place outside of a graph's file is found, wherever a tensor may stand, or the file is
refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest
from google.protobuf import text_format  # type: ignore[import-untyped]
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto

from vpt_edge.runtime.external_data import (
    MESSAGES,
    SINGLE,
    ExternalData,
    find_external_data,
    read_external_data,
)

Put = Callable[[ModelProto], TensorProto]
PLACE = ExternalData("weights.bin", 4, 8)

# Where a model may have a tensor: each way is a list of fields from the model on.
WAYS: dict[str, Put] = {
    "initializer": lambda model: model.graph.initializer.add(),
    "constant": lambda model: model.graph.node.add().attribute.add().t,
    "list of constants": lambda model: model.graph.node.add().attribute.add().tensors.add(),
    "sparse initializer": lambda model: model.graph.sparse_initializer.add().values,
    "indices": lambda model: model.graph.sparse_initializer.add().indices,
    "sparse constant": lambda model: model.graph.node.add().attribute.add().sparse_tensor.values,
    "sparse constants": lambda model: (
        model.graph.node.add().attribute.add().sparse_tensors.add().indices
    ),
    "subgraph": lambda model: model.graph.node.add().attribute.add().g.initializer.add(),
    "subgraphs": lambda model: (
        model.graph.node.add().attribute.add().graphs.add().node.add().attribute.add().t
    ),
    "function": lambda model: model.functions.add().node.add().attribute.add().t,
    "default of a function": lambda model: model.functions.add().attribute_proto.add().t,
    "training": lambda model: model.training_info.add().algorithm.initializer.add(),
    "training's start": lambda model: model.training_info.add().initialization.initializer.add(),
}


def point(tensor: TensorProto, **entries: Any) -> None:
    """Let ``tensor`` point outside; an entry of None is left out."""
    tensor.data_location = TensorProto.EXTERNAL
    values = {"location": "weights.bin", "offset": 4, "length": 8, **entries}
    for key, value in values.items():
        if value is not None:
            tensor.external_data.add(key=key, value=str(value))


def find(data: bytes) -> set[ExternalData]:
    return set(find_external_data(data))


@pytest.mark.parametrize("way", WAYS)
def test_a_place_is_found_wherever_a_tensor_may_stand(way: str, tmp_path: Path) -> None:
    model = ModelProto(ir_version=9)
    point(WAYS[way](model))
    (tmp_path / "graph.onnx").write_bytes(model.SerializeToString())
    assert read_external_data(tmp_path / "graph.onnx") == {PLACE}


def test_messages_are_those_of_onnx() -> None:
    """A message that leads to a tensor in this version of ONNX and is not walked would hide it."""
    names = {
        "Model": "ModelProto",
        "TrainingInfo": "TrainingInfoProto",
        "Function": "FunctionProto",
        "Graph": "GraphProto",
        "Node": "NodeProto",
        "Attribute": "AttributeProto",
        "SparseTensor": "SparseTensorProto",
        "Tensor": "TensorProto",
    }
    short = {name: key for key, name in names.items()}
    reach = {"TensorProto"}
    types = dict[str, Any]()
    for value in vars(onnx).values():
        if hasattr(value, "DESCRIPTOR") and hasattr(value, "FromString"):
            types[value.DESCRIPTOR.name] = value.DESCRIPTOR
    for _ in types:
        reach |= {name for name, descriptor in types.items() if inner(descriptor, reach)}
    waiting = ["ModelProto"]
    walked = set[str]()
    while waiting:
        walked.add(name := waiting.pop())
        fields = inner(types[name], reach - walked)
        waiting += [each.message_type.name for each in fields]
    assert walked == set(names.values())
    for name in walked - {"TensorProto"}:
        fields = inner(types[name], reach)
        expected = {each.number: short[each.message_type.name] for each in fields}
        assert MESSAGES[short[name]] == expected
        tensors = [each for each in fields if "Tensor" in expected[each.number]]
        single = {each.number for each in tensors if not each.is_repeated}
        assert SINGLE.get(short[name], set()) == single


def inner(descriptor: Any, names: set[str]) -> list[Any]:
    """The fields of a message that hold one of ``names``."""
    messages = [each for each in descriptor.fields if each.message_type is not None]
    return [each for each in messages if each.message_type.name in names]


def test_deep_graphs_do_not_grow_the_stack() -> None:
    """Deeper than any parser follows: written by hand, from the inside out."""
    model = ModelProto()
    point(model.graph.initializer.add())
    data = model.graph.SerializeToString()
    for _ in range(20_000):  # Graph.node -> Node.attribute -> Attribute.g
        for tag in (6 << 3 | 2, 5 << 3 | 2, 1 << 3 | 2):
            data = bytes([tag]) + varint(len(data)) + data
    assert find(bytes([7 << 3 | 2]) + varint(len(data)) + data) == {PLACE}


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def test_weights_are_not_read(tmp_path: Path) -> None:
    """A file of a gigabyte of zeros behind a tensor's header takes no memory and no time."""
    raw = bytes([9 << 3 | 2]) + varint(1 << 30)
    size = len(raw) + (1 << 30)
    tensor = bytes([5 << 3 | 2]) + varint(size)
    graph = bytes([7 << 3 | 2]) + varint(len(tensor) + size)
    with (tmp_path / "graph.onnx").open("wb") as file:
        file.write(graph + tensor + raw)
        file.truncate(len(graph) + len(tensor) + size)
    assert read_external_data(tmp_path / "graph.onnx") == set()


def test_an_empty_file_has_no_place(tmp_path: Path) -> None:
    (tmp_path / "graph.onnx").touch()
    assert read_external_data(tmp_path / "graph.onnx") == set()


@pytest.mark.parametrize(
    ("entries", "problem"),
    [
        ({"location": None}, "without a location"),
        ({"offset": "-1"}, "offset '-1', expected a whole number"),
        ({"offset": "0x10"}, "offset '0x10'"),
        ({"offset": ""}, "offset ''"),
        ({"offset": "²"}, "offset '²'"),
        ({"offset": "9" * 19}, "offset '999"),
        ({"length": None}, "length ''"),
        ({"length": "0"}, "of no length"),
        ({"length": " 8"}, "length ' 8'"),
        ({"length": "8\n"}, "length '8"),
        ({"basepath": "/etc"}, "'basepath', unknown"),
        ({"prepacked_0": "x|0;9;1"}, "'prepacked_0', unknown"),
    ],
)
def test_a_place_is_complete(entries: dict[str, Any], problem: str) -> None:
    model = ModelProto()
    point(model.graph.initializer.add(), **entries)
    with pytest.raises(ValueError, match=problem):
        find(model.SerializeToString())


def test_a_place_of_which_a_parser_takes_the_last_is_refused() -> None:
    model = ModelProto()
    tensor = model.graph.initializer.add()
    point(tensor)
    tensor.external_data.add(key="location", value="/etc/passwd")
    with pytest.raises(ValueError, match="'location', unknown or a second time"):
        find(model.SerializeToString())


@pytest.mark.parametrize("way", ["constant", "sparse initializer", "indices", "sparse constant"])
def test_a_tensor_in_two_halves_is_refused(way: str) -> None:
    """A parser puts them together: the location of the one, the rest of the other."""
    half = ModelProto()
    WAYS[way](half).data_location = TensorProto.EXTERNAL
    model = ModelProto()
    WAYS[way](model).external_data.add(key="location", value="/etc/passwd")
    with pytest.raises(ValueError, match="stands there twice"):
        find(wrapped(way, innermost(half) + innermost(model)))


def innermost(model: ModelProto) -> bytes:
    """The bytes of the attribute or sparse tensor in ``model``."""
    if model.graph.node:
        return model.graph.node[0].attribute[0].SerializePartialToString()
    return model.graph.sparse_initializer[0].SerializePartialToString()


def wrapped(way: str, data: bytes) -> bytes:
    tags = [5 << 3 | 2, 1 << 3 | 2, 7 << 3 | 2] if "constant" in way else [15 << 3 | 2, 7 << 3 | 2]
    for tag in tags:
        data = bytes([tag]) + varint(len(data)) + data
    return data


TAG = {"graph": 7 << 3 | 2, "name": 2 << 3 | 2}


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (bytes([TAG["graph"], 5]), "ends behind its message"),
        (bytes([TAG["graph"], 0xFF, 0xFF]), "cut off or too long"),
        (bytes([TAG["graph"]]), "cut off or too long"),
        (bytes([TAG["graph"], *[0x80] * 10, 1]), "cut off or too long"),
        (bytes([1 << 3, *[0xFF] * 9, 0x02]), "cut off or too long"),  # above 64 bits
        (bytes([*[0x80 | TAG["graph"]], 0x80, 0x80, 0x80, 0x10, 0]), "of the number"),  # 32 bits
        (bytes([0x02, 0]), "of the number 0"),
        (bytes([7 << 3 | 3]), "the wire type 3"),  # a group
        (bytes([7 << 3 | 4]), "the wire type 4"),
        (bytes([7 << 3 | 6]), "the wire type 6"),
        (bytes([1 << 3 | 5, 0, 0]), "ends behind its message"),
        (bytes([1 << 3 | 1, *[0] * 7]), "ends behind its message"),
        (bytes([TAG["graph"], 2, TAG["name"], 3]), "ends behind its message"),  # an inner one
    ],
)
def test_what_is_not_well_formed_is_refused(data: bytes, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        find(data)


@pytest.mark.parametrize(
    "start", ["", " ", "\n", "\t", "\r\n", "# ", "opset_import { version: 19 } ", "[a.b]: 1 "]
)
def test_text_is_not_taken_for_bytes(start: str) -> None:
    """Some parsers, such as TensorRT's, take a model as text as well."""
    model = ModelProto(ir_version=9)
    point(model.graph.initializer.add())
    for name in ("ir_version", "graph"):
        text = text_format.MessageToString(model, as_one_line=True)
        text = start + text[text.index(name) :]
        with pytest.raises(ValueError, match=r"of the model|wire type|number"):
            find(text.encode())


def test_a_longer_way_to_write_a_number_hides_nothing() -> None:
    """Parsers take numbers with zeros behind them."""
    model = ModelProto()
    point(model.graph.initializer.add())
    graph = model.graph.SerializeToString()
    size = varint(len(graph))
    data = bytes([TAG["graph"] | 0x80, 0x00]) + size[:-1] + bytes([size[-1] | 0x80, 0x00]) + graph
    assert ModelProto.FromString(data) == model
    assert find(data) == {PLACE}


# Any model, and any bytes near to one


def tensors(message: Any) -> Iterator[TensorProto]:
    """Every tensor in ``message``, by the descriptors of onnx."""
    if isinstance(message, TensorProto):
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            values = value if field.is_repeated else [value]
            for each in values:
                yield from tensors(each)


def places(model: ModelProto) -> set[str]:
    """What onnx's own parser takes for the location of a tensor."""
    names = set[str]()
    for tensor in tensors(model):
        names.update(entry.value for entry in tensor.external_data if entry.key == "location")
    return names


LOCATIONS = st.sampled_from(["weights.bin", "/etc/passwd", "../x", "*/_ORT_MEM_ADDR_/*", "a"])
NUMBERS = st.integers(0, 1 << 40)


@st.composite
def models(draw: st.DrawFn) -> ModelProto:
    """A model with tensors in any of the ways, some of which point outside."""
    model = ModelProto(ir_version=9)
    for way in draw(st.lists(st.sampled_from(sorted(WAYS)), max_size=6)):
        tensor = WAYS[way](model)
        tensor.raw_data = draw(st.binary(max_size=20))
        tensor.name = draw(st.text(max_size=5))
        if draw(st.booleans()):
            length = draw(st.integers(1, 1 << 40))
            point(tensor, location=draw(LOCATIONS), offset=draw(NUMBERS), length=length)
    return model


@settings(max_examples=100, deadline=None)
@given(models())
def test_every_place_of_any_model_is_found(model: ModelProto) -> None:
    expected = set[ExternalData]()
    for tensor in tensors(model):
        entries = {entry.key: entry.value for entry in tensor.external_data}
        if entries:
            offset = int(entries["offset"])
            length = int(entries["length"])
            expected.add(ExternalData(entries["location"], offset, length))
    assert find(model.SerializeToString()) == expected


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_bytes_hide_a_place_from_us_that_a_parser_sees(data: st.DataObject) -> None:
    model = bytearray(data.draw(models()).SerializeToString())
    for _ in range(data.draw(st.integers(0, 4))):
        place = data.draw(st.integers(0, max(len(model) - 1, 0)))
        model[place : place + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))
    try:
        found = {place.location for place in find(bytes(model))}
    except ValueError:
        return
    try:
        parsed = ModelProto.FromString(bytes(model))
    except DecodeError:
        return
    assert places(parsed) <= found


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_end_in_places_or_one_kind_of_error(data: bytes) -> None:
    try:
        find(data)
    except ValueError:
        return
