"""Options of a quantized export are checked before any work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnxruntime
import pytest
from golden import TAGS

from vpt_edge.export.exporter import export
from vpt_edge.export.quantization.options import Calibration
from vpt_edge.runtime.errors import ExportError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("range_method", "max", "'max' is unknown, expected one of: minmax, percentile"),
        ("metric", "bleu", "'bleu' is unknown, expected one of: exact, vqa"),
        ("kv_cache", "fp8", "'fp8' is unknown, expected one of: float, int8"),
        ("samples", 0, "is 0, expected 1 or more"),
        ("answer_tokens", -1, "is -1, expected 1 or more"),
    ],
)
def test_an_unknown_value_is_refused(name: str, value: Any, expected: str) -> None:
    with pytest.raises(ExportError, match=f"{name} {expected}"):
        Calibration("data", **{name: value})


def test_an_int8_cache_is_for_onnxruntime(data: Path, tmp_path: Path) -> None:
    calibration = Calibration(str(data), kv_cache="int8")
    expected = "graphs for tensorrt keep keys and values in float; --kv-cache float"
    with pytest.raises(ExportError, match=expected):
        export(
            str(TAGS),
            tmp_path / "bundle",
            precision="int8",
            target="tensorrt",
            calibration=calibration,
        )


def test_an_int8_cache_needs_a_new_onnxruntime(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Said before the calibration, behind which its graph would not open."""
    monkeypatch.setattr(onnxruntime, "__version__", "1.23.2")
    calibration = Calibration(str(data), kv_cache="int8")
    with pytest.raises(ExportError, match=r"ONNX Runtime 1\.23\.2 has no attention.*>=1\.31"):
        export(str(TAGS), tmp_path / "bundle", precision="int8", calibration=calibration)
