"""The report that lies in a bundle: what was made, how large, how close to torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vpt_edge.runtime.bundle import Manifest


def report(manifest: Manifest, folder: Path) -> str:
    """Markdown: the sizes of the files in ``folder`` and the differences from torch."""
    files = [(path.name, path.stat().st_size) for path in sorted(folder.iterdir())]
    rows = [
        f"| {row.graph} | {row.output} | {row.size} | {row.difference:.1e} | {row.tolerance:.0e} |"
        for row in manifest.parity
    ]
    return "\n".join(
        [
            f"# {manifest.source}: {manifest.kind}, {manifest.precision} for {manifest.target}",
            "",
            "| file | bytes |",
            "|---|---:|",
            *(f"| {name} | {size:,} |" for name, size in files),
            f"| **all** | **{sum(size for _, size in files):,}** |",
            "",
            "Each graph against the same weights in eager torch; differences relative to the largest value.",
            "",
            "| graph | output | size | difference | allowed |",
            "|---|---|---|---:|---:|",
            *rows,
            "",
        ]
    )
