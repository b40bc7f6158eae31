"""The report that lies in a bundle: what was made, how large, how close to torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vpt_edge.runtime.kv_cache import describe_cache

if TYPE_CHECKING:
    from vpt_edge.runtime.manifest import Gate, Manifest


def report(manifest: Manifest, folder: Path, notes: Sequence[str]) -> str:
    """Markdown: the sizes of the files in ``folder`` and the differences from torch; ``notes`` are
    of the checkpoint.
    """
    lines = [
        f"# {manifest.source}: {manifest.kind}, {manifest.precision} for {manifest.target}",
        "",
        f"Key-value cache: {describe_cache(manifest)}.",
        "",
    ]
    lines += _files(folder)
    if manifest.gate:
        lines += _gate(manifest.gate)
    if notes:
        lines += [*(f"- {note}" for note in notes), ""]
    lines += _parity(manifest)
    return "\n".join([*lines, ""])


def _files(folder: Path) -> list[str]:
    lines = ["| file | bytes |", "|---|---:|"]
    total = 0
    for path in sorted(folder.iterdir()):
        size = path.stat().st_size
        total += size
        lines.append(f"| {path.name} | {size:,} |")
    return [*lines, f"| **all** | **{total:,}** |", ""]


def _parity(manifest: Manifest) -> list[str]:
    lines = [
        "Each graph against the same weights in eager torch; "
        "differences relative to the largest value.",
        "",
        "| graph | output | size | difference | allowed |",
        "|---|---|---|---:|---:|",
    ]
    for row in manifest.parity:
        difference = f"{row.difference:.1e} | {row.tolerance:.0e}"
        lines.append(f"| {row.graph} | {row.output} | {row.size} | {difference} |")
    return lines


def _gate(gate: Gate) -> list[str]:
    """What the gate saw, and what stayed in float because of it."""
    lines = [_agreement(gate), ""]
    if gate.speed:  # there is none of a streamed float
        speed = ", ".join(_speed(stage, ratio) for stage, ratio in gate.speed.items())
        lines += [f"Speed against float on the exporting machine: {speed}.", ""]
    if gate.floats:
        lines.append("Left in float:")
        lines += [f"- {name}: {reason}" for name, reason in gate.floats.items()]
    lines += [f"- {note}" for note in gate.notes]
    lines.append(
        "Norms, softmax, rotary embedding, convolutions and the condition's projector compute in "
        "float by design."
    )
    return [*lines, ""]


def _agreement(gate: Gate) -> str:
    parts = [
        f"Against its float self on {gate.samples} held-out samples: "
        f"answers equal {gate.answers_equal:.2%}, triggers {gate.triggers_equal:.2%}, "
        f"region cells {gate.cells_equal:.2%} (IoU {gate.cells_iou:.3f})."
    ]
    if gate.accuracy is not None:
        parts.append(f"Accuracy {gate.accuracy:.2%}, in float {gate.float_accuracy:.2%}.")
    if gate.first_token_kl is not None:
        parts.append(f"First token: KL {gate.first_token_kl:.2e} nats.")
    parts.append(f"Drop {gate.drop:.2f}, allowed {gate.allowed:.2f}.")
    return " ".join(parts)


def _speed(stage: str, ratio: float) -> str:
    return f"{stage} {ratio:.2f}x (slower)" if ratio < 1 else f"{stage} {ratio:.2f}x"
