"""What keys and values are kept in where nobody says it, and what that takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
import pytest
from families import CONFIGS
from golden import needs_ort_131

if TYPE_CHECKING:
    from collections.abc import Callable

    from vpt_edge.runtime import Bundle

    FamilyBundle = Callable[[str, str, str], Bundle]


@needs_ort_131
@pytest.mark.parametrize("precision", ["int8", "int4"])
@pytest.mark.parametrize("family", CONFIGS)
def test_it_is_int8_of_qwen3_vl_alone(
    family: str, precision: str, family_bundle: FamilyBundle
) -> None:
    bundle = family_bundle(family, precision, "onnxruntime")
    expected = "int8" if family == "qwen3_vl" else "float32"
    assert bundle.manifest.cache.dtype == expected
    report = (bundle.path / "report.md").read_text("utf-8")
    assert f"Key-value cache: 4,096 tokens of {expected}, " in report


def test_for_tensorrt_it_is_float(family_bundle: FamilyBundle) -> None:
    bundle = family_bundle("qwen3_vl", "int4", "tensorrt")
    assert bundle.manifest.cache.dtype == "float16"
    report = (bundle.path / "report.md").read_text("utf-8")
    # 3 layers, keys and values of 2 heads of 32
    assert "4,096 tokens of float16, 3.0 MiB (768 bytes a token)." in report


@needs_ort_131
@pytest.mark.parametrize(
    ("precision", "matmul"), [("int8", "MatMulIntegerToFloat"), ("int4", "MatMulNBits")]
)
@pytest.mark.parametrize("family", CONFIGS)
def test_a_layer_has_five_matmuls(
    family: str, precision: str, matmul: str, family_bundle: FamilyBundle
) -> None:
    """Queries, keys and values come from one, though norms of Qwen3-VL stand behind it."""
    bundle = family_bundle(family, precision, "onnxruntime")
    file = bundle.file(bundle.graph("decoder").file)
    model = onnx.load(str(file), load_external_data=False)
    operators = [node.op_type for node in model.graph.node]
    assert operators.count(matmul) == 5 * bundle.manifest.text.layers
