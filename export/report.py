"""The report that lies in a bundle: what was made, how large, how close to torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vpt_edge.runtime.bundle import Gate, Manifest


def report(manifest: Manifest, folder: Path) -> str:
    """Markdown: the sizes of the files in ``folder`` and the differences from torch."""
    files = [(path.name, path.stat().st_size) for path in sorted(folder.iterdir())]
    judged = _gate(manifest.gate) if manifest.gate else []
    rows = [
        f"| {row.graph} | {row.output} | {row.size} | {row.difference:.1e} | {row.tolerance:.0e} |"
        for row in manifest.parity
    ]
    return "\n".join(
        [
            f"# {manifest.source}: {manifest.kind}, {manifest.precision} for {manifest.target}",
            "",
            f"Key-value cache: {manifest.cache.capacity:,} tokens of {manifest.cache.dtype}.",
            "",
            "| file | bytes |",
            "|---|---:|",
            *(f"| {name} | {size:,} |" for name, size in files),
            f"| **all** | **{sum(size for _, size in files):,}** |",
            "",
            *judged,
            *_tokenizer(folder),
            "Each graph against the same weights in eager torch; differences relative to the largest value.",
            "",
            "| graph | output | size | difference | allowed |",
            "|---|---|---|---:|---:|",
            *rows,
            "",
        ]
    )


def tokenizer_note(bundle: Path) -> str | None:
    """Which settings of the tokenizer.json in ``bundle`` the runtime ignores, or nothing."""
    data = json.loads((bundle / "tokenizer.json").read_text("utf-8"))
    names = [name for name in ("truncation", "padding") if data.get(name) is not None]
    if not names:
        return None
    return f"the checkpoint's tokenizer.json carries {' and '.join(names)}: ignored, as transformers does"


def _tokenizer(bundle: Path) -> list[str]:
    note = tokenizer_note(bundle)
    return [f"- {note}", ""] if note else []


def _gate(gate: Gate) -> list[str]:
    """What the gate saw, and what stayed in float because of it."""
    accuracy = (
        ""
        if gate.accuracy is None
        else f" Accuracy {gate.accuracy:.2%}, in float {gate.float_accuracy:.2%}."
    )
    divergence = (
        "" if gate.first_token_kl is None else f" First token: KL {gate.first_token_kl:.2e} nats."
    )
    speed = ", ".join(
        f"{stage} {ratio:.2f}x" + (" (slower)" if ratio < 1 else "")
        for stage, ratio in gate.speed.items()
    )
    return [
        f"Against its float self on {gate.samples} held-out samples: answers equal {gate.answers_equal:.2%}, triggers "
        f"{gate.triggers_equal:.2%}, region cells {gate.cells_equal:.2%} (IoU {gate.cells_iou:.3f})."
        f"{accuracy}{divergence} Drop {gate.drop:.2f}, allowed {gate.allowed:.2f}.",
        "",
        *(
            [f"Speed against float on the exporting machine: {speed}.", ""] if speed else []
        ),  # not of a streamed float
        *(
            ["Left in float:", *(f"- {name}: {why}" for name, why in gate.floats.items())]
            if gate.floats
            else []
        ),
        *(f"- {note}" for note in gate.notes),
        "Norms, softmax, rotary embedding, convolutions and the condition's projector compute in float by design.",
        "",
    ]
