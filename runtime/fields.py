"""The kinds of values that a manifest holds, each with its range."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from vpt_edge.runtime.schema import Choice, Pattern, Range

# No file holds more: numbers above would only wait for their turn to fill the memory.
Count: TypeAlias = Annotated[int, Range(1, 1 << 24)]
Pixels: TypeAlias = Annotated[int, Range(1, 1 << 31)]
TokenId: TypeAlias = Annotated[int, Range(0, (1 << 24) - 1)]
Number: TypeAlias = Annotated[float, Range(-1e300, 1e300)]
FileName: TypeAlias = Annotated[
    str, Pattern("a plain file name", r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
]
GraphFile: TypeAlias = Annotated[
    str, Pattern("a plain file name that ends in .onnx", r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}\.onnx")
]
Name: TypeAlias = Annotated[str, Pattern("a name", r"[A-Za-z_][A-Za-z0-9_.]{0,127}")]
Sha256: TypeAlias = Annotated[str, Pattern("a sha256", r"[0-9a-f]{64}")]
DType: TypeAlias = Annotated[
    str, Choice(("float32", "float16", "int8", "int32", "int64", "uint8", "bool"))
]
Side: TypeAlias = Count | Name
Bound: TypeAlias = Annotated[int, Range(0, 1 << 31)]
Section: TypeAlias = Annotated[int, Range(0, 1 << 16)]
