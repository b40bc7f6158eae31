"""What ONNX Runtime makes of the towers: few operators where a large picture passes through."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from families import CONFIGS
from operators import operators_of

from vpt_edge.export.attention import TARGETS
from vpt_edge.export.models import Model
from vpt_edge.export.spec import GraphOptions

if TYPE_CHECKING:
    from vpt_edge.export.spec import Spec

OPTIONS = GraphOptions(TARGETS["onnxruntime"], "float32", 64, 64)


def tower(model_type: str) -> Spec:
    model = Model.read({**CONFIGS[model_type], "model_type": model_type}, Path("checkpoint"))
    return model.tower.specs(OPTIONS, "")["vision_encoder"]


def test_patches_go_into_windows_and_out_in_one_operator_each(tmp_path: Path) -> None:
    operators = operators_of(tower("qwen2_5_vl"), tmp_path)
    assert (operators["Erf"], operators["GatherND"], operators["Transpose"]) == (0, 0, 0)
    assert operators["Gather"] == 2 * 4  # queries, keys, values and the result, in two layers
