"""Where an ONNX graph's weights lie outside of its file, read from the bytes as they are stored.

The file is walked without the onnx package, and none of the weights that it holds is read.
https://protobuf.dev/programming-guides/encoding has the encoding,
https://github.com/onnx/onnx/blob/main/onnx/onnx.proto the fields. What a parser might take in two
ways is refused.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

Bytes: TypeAlias = bytes | mmap.mmap
Field: TypeAlias = tuple[int, int, int, int]  # number, wire type, where its value begins and ends

# Of each message, by field, the messages in it that lead to a tensor.
MESSAGES: dict[str, dict[int, str]] = {
    "Model": {7: "Graph", 20: "TrainingInfo", 25: "Function"},
    "TrainingInfo": {1: "Graph", 2: "Graph"},
    "Function": {7: "Node", 11: "Attribute"},
    "Graph": {1: "Node", 5: "Tensor", 15: "SparseTensor"},
    "Node": {5: "Attribute"},
    "Attribute": {
        5: "Tensor",
        6: "Graph",
        10: "Tensor",
        11: "Graph",
        22: "SparseTensor",
        23: "SparseTensor",
    },
    "SparseTensor": {1: "Tensor", 2: "Tensor"},
}
# Fields that hold one tensor: a parser merges a second one, half of a place, into the first.
SINGLE = {"Attribute": {5, 22}, "SparseTensor": {1, 2}}
# Nothing else may stand in a model: some parsers take text as well, which may look like bytes.
MODEL_FIELDS = {1: 0, 2: 2, 3: 2, 4: 2, 5: 0, 6: 2, 7: 2, 8: 2, 14: 2, 20: 2, 25: 2, 26: 2}
EXTERNAL_DATA = 13  # of a tensor
DATA_LOCATION = 14  # of a tensor
EXTERNAL = 1
KEYS = {"location", "offset", "length", "checksum"}  # of the entries in external_data
MOST_DIGITS = 18  # of an offset or a length

VARINT = 0
DELIMITED = 2
FIXED_SIZES = {1: 8, 5: 4}
MOST_TAG = 1 << 32  # parsers cut off what is above
MOST_VALUE = 1 << 64


@dataclass(frozen=True)
class ExternalData:
    """``length`` bytes from ``offset`` on, of the file ``location`` beside the graph's."""

    location: str
    offset: int
    length: int


def read_external_data(path: Path) -> set[ExternalData]:
    """Every place outside of the ONNX file ``path`` that a tensor in it names.

    Raises ValueError for a file that is not well-formed, or a place that is not complete; OSError.
    """
    with path.open("rb") as file:
        if not file.seek(0, os.SEEK_END):
            return set()  # cannot be mapped
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return set(find_external_data(data))


def find_external_data(data: Bytes) -> Iterator[ExternalData]:
    """``read_external_data`` of a file's bytes. Raises ValueError.

    Messages in messages wait in a list: however deep they lie, the stack does not grow.
    """
    waiting = [("Model", 0, len(data))]
    while waiting:
        kind, start, end = waiting.pop()
        if kind == "Tensor":
            yield from _read_tensor(data, start, end)
            continue
        inner = MESSAGES[kind]
        single = SINGLE.get(kind, set())
        numbers = set[int]()
        for number, wire_type, first, last in _fields(data, start, end):
            if kind == "Model" and MODEL_FIELDS.get(number) != wire_type:
                raise ValueError(f"field {number} of the wire type {wire_type} of the model")
            if number not in inner or wire_type != DELIMITED:
                continue
            if number in single and number in numbers:
                raise ValueError(f"field {number} of a message {kind} stands there twice")
            numbers.add(number)
            waiting.append((inner[number], first, last))


def _read_tensor(data: Bytes, start: int, end: int) -> list[ExternalData]:
    """The place of a tensor, if it names one."""
    entries = dict[str, str]()
    external = False
    for number, wire_type, first, last in _fields(data, start, end):
        if number == EXTERNAL_DATA and wire_type == DELIMITED:
            key, value = _read_entry(data, first, last)
            if key in entries or key not in KEYS:
                raise ValueError(f"external data with {key[:40]!r}, unknown or a second time")
            entries[key] = value
        elif number == DATA_LOCATION and wire_type == VARINT:
            value_of, _ = _read_varint(data, first, last)
            external = external or value_of & 0xFFFFFFFF == EXTERNAL
    if not entries and not external:
        return []
    if "location" not in entries:
        raise ValueError("external data without a location")
    offset = _read_count("offset", entries.get("offset", "0"))
    length = _read_count("length", entries.get("length", ""))
    if not length:
        raise ValueError("external data of no length")  # to some parsers: as much as there is
    return [ExternalData(entries["location"], offset, length)]


def _read_entry(data: Bytes, start: int, end: int) -> tuple[str, str]:
    """Key and value of one entry of external data."""
    texts = dict[int, str]()
    for number, wire_type, first, last in _fields(data, start, end):
        if number not in (1, 2) or wire_type != DELIMITED or number in texts:
            raise ValueError("an entry of external data is not a key and a value")
        texts[number] = bytes(data[first:last]).decode("utf-8")
    return texts.get(1, ""), texts.get(2, "")


def _read_count(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS):
        raise ValueError(f"external data with {name} {text[:40]!r}, expected a whole number")
    return int(text)


def _fields(data: Bytes, start: int, end: int) -> Iterator[Field]:
    """The fields of the message in ``data`` from ``start`` to ``end``."""
    place = start
    while place < end:
        tag = data[place]
        first = place + 1
        if tag > 0x7F:
            tag, first = _read_varint(data, place, end)
        number = tag >> 3
        wire_type = tag & 7
        if tag >= MOST_TAG or not number:
            raise ValueError(f"byte {place} begins a field of the number {number}")
        if wire_type == DELIMITED:
            size, first = _read_varint(data, first, end)
            last = first + size
        elif wire_type == VARINT:
            _, last = _read_varint(data, first, end)
        elif wire_type in FIXED_SIZES:
            last = first + FIXED_SIZES[wire_type]
        else:
            raise ValueError(f"byte {place} begins a field of the wire type {wire_type}")
        if last > end:
            raise ValueError(f"the field at byte {place} ends behind its message")
        yield number, wire_type, first, last
        place = last


def _read_varint(data: Bytes, place: int, end: int) -> tuple[int, int]:
    """The number at ``place``, and where it ends."""
    value = 0
    shift = 0
    while place < end:
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >= MOST_VALUE:
                break
            return value, place
        shift += 7
        if shift > 63:
            break
    raise ValueError(f"the number that ends at byte {place} is cut off or too long")
