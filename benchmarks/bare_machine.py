"""What the machine itself can do: the floors of the table."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import onnx
import onnxruntime

from benchmarks.libraries import Timed, nothing

READING = "reading 1 GiB"
READ = 1 << 30
MULTIPLYING = "int8 products"
PRODUCT = (512, 1536, 8960)
WEIGHTS = 16


class BareMachine:
    """What the machine itself can do: read memory, and multiply what an int8 prefill multiplies."""

    def __init__(self, threads: int) -> None:
        pool = ThreadPoolExecutor(threads)
        parts = np.split(np.full(READ // 8, 0.5), threads)
        whole = [part.view(np.int64) for part in parts]
        session: Any = onnxruntime.InferenceSession(
            products_graph(), providers=["CPUExecutionProvider"]
        )
        given = {"a": np.random.default_rng(0).integers(0, 256, PRODUCT[:2], np.uint8)}
        self.runs: dict[str, Timed] = {
            f"{READING}, dot": (nothing, lambda: list(pool.map(np.dot, parts, parts))),
            f"{READING}, or": (nothing, lambda: list(pool.map(np.bitwise_or.reduce, whole))),
            MULTIPLYING: (nothing, lambda: session.run(None, given)),
        }
        self.touched: dict[str, int] = {}

    def close(self) -> None:
        self.runs.clear()


def products_graph() -> bytes:
    """One input times distinct weights."""
    rows, width, columns = PRODUCT
    names = range(WEIGHTS)
    made = ", ".join(f"float[{rows},{columns}] y{name}" for name in names)
    steps = (
        f"y{name} = com.microsoft.MatMulIntegerToFloat(a, b{name}, s, s, half, zero)"
        for name in names
    )
    header = '<ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1]>'
    model = onnx.parser.parse_model(
        f"{header} g (uint8[{rows},{width}] a) => ({made}) {{ {' '.join(steps)} }}"
    )
    weight = np.random.default_rng(0).integers(-127, 128, (width, columns), np.int8)
    stored: dict[str, Any] = {
        "s": np.array(0.01, np.float32),
        "half": np.array(128, np.uint8),
        "zero": np.array(0, np.int8),
    }
    stored |= {f"b{name}": np.roll(weight, name, 0) for name in names}
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(value, name) for name, value in stored.items()
    )
    return model.SerializeToString()
