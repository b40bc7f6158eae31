"""The report says what the gate saw, and what the runtime ignores."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from vpt_edge.export.report import report
from vpt_edge.runtime.manifest import Gate
from vpt_edge.runtime.testing import tiny_bundle

if TYPE_CHECKING:
    from vpt_edge.runtime.bundle import Bundle

GATE = Gate(
    samples=40,
    labelled=True,
    accuracy=0.9,
    float_accuracy=0.925,
    answers_equal=0.95,
    triggers_equal=1.0,
    cells_equal=0.98,
    cells_iou=0.991,
    first_token_kl=0.0012,
    drop=2.5,
    allowed=3.0,
    held=True,
    speed={"vision": 1.5, "step": 0.9},
    floats={"decoder/layers.0.mlp.down_proj.weight": "rounding changes its output by 9%"},
    notes=("40 of 80 samples are asked (--samples)",),
)


def written(bundle: Bundle, gate: Gate) -> list[str]:
    return report(replace(bundle.manifest, gate=gate), bundle.path, ()).splitlines()


def test_the_gate_is_told_in_full(tmp_path: Path) -> None:
    lines = written(tiny_bundle(tmp_path), GATE)
    agreement = (
        "Against its float self on 40 held-out samples: answers equal 95.00%, triggers 100.00%, "
        "region cells 98.00% (IoU 0.991). Accuracy 90.00%, in float 92.50%. "
        "First token: KL 1.20e-03 nats. Drop 2.50, allowed 3.00."
    )
    assert agreement in lines
    assert (
        "Speed against float on the exporting machine: vision 1.50x, step 0.90x (slower)." in lines
    )
    start = lines.index("Left in float:")
    assert lines[start + 1 : start + 3] == [
        "- decoder/layers.0.mlp.down_proj.weight: rounding changes its output by 9%",
        "- 40 of 80 samples are asked (--samples)",
    ]


def test_what_was_not_measured_is_left_out(tmp_path: Path) -> None:
    gate = replace(GATE, accuracy=None, first_token_kl=None, speed={}, floats={})
    text = "\n".join(written(tiny_bundle(tmp_path), gate))
    for absent in ("Accuracy", "KL", "Speed", "Left in float"):
        assert absent not in text


def test_every_file_is_listed_and_summed(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path)
    lines = written(bundle, GATE)
    sizes = {path.name: path.stat().st_size for path in bundle.path.iterdir()}
    for name, size in sizes.items():
        assert f"| {name} | {size:,} |" in lines
    assert f"| **all** | **{sum(sizes.values()):,}** |" in lines


def test_notes_of_the_checkpoint_are_told(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path)
    notes = ("tokenizer.json carries padding: ignored", "another")
    lines = report(bundle.manifest, bundle.path, notes).splitlines()
    start = lines.index(f"- {notes[0]}")
    assert lines[start : start + 3] == [f"- {notes[0]}", f"- {notes[1]}", ""]
