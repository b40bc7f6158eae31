"""Parts of the whole, and an export that never runs back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from golden import TAGS

from vpt_edge.export.exporter import export
from vpt_edge.export.progress import Progress
from vpt_edge.export.quantization.gate import QualityGate
from vpt_edge.export.quantization.options import Calibration


def test_a_part_tells_its_place_in_the_whole() -> None:
    told = list[tuple[str, float]]()
    whole = Progress(lambda stage, share: told.append((stage, share)))
    half = whole.part(0.5, 1.0, "half: ")
    half.part(0.5, 0.75, "part: ").tell("begun", 0.0)
    half.tell("nearly", 0.8)
    half.tell("beyond", 3.0)
    expected = [("half: part: begun", 0.75), ("half: nearly", 0.9), ("half: beyond", 1.0)]
    assert told == expected


@pytest.mark.parametrize("target", ["onnxruntime", "tensorrt"])
def test_an_export_never_runs_back_when_a_candidate_is_refused(
    target: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compare_with_float = QualityGate.compare_with_float
    refused = list[bool]()

    def refuse_the_first(gate: QualityGate, *arguments: Any) -> Any:
        judgement = compare_with_float(gate, *arguments)
        refused.append(not refused)
        if refused[-1]:
            return judgement._replace(gate=replace(judgement.gate, held=False))
        return judgement

    monkeypatch.setattr(QualityGate, "compare_with_float", refuse_the_first)
    told = list[tuple[float, str]]()
    export(
        str(TAGS),
        tmp_path / "bundle",
        precision="int8",
        target=target,
        calibration=Calibration(str(data), max_drop=100, samples=12, answer_tokens=2),
        progress=lambda stage, share: told.append((share, stage)),
    )
    assert refused == [True, False]
    shares = [share for share, _ in told]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)
    candidates = [stage for _, stage in told if stage == "candidate: exporting decoder"]
    assert len(candidates) == 2
