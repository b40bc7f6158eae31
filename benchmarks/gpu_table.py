"""The results of `make gpu` as Markdown, for README.md beside this file."""

from __future__ import annotations

from typing import Any


def table(results: dict[str, Any]) -> str:
    """All stages; ``results`` is what results.json holds."""
    facts = [
        f"{found['check']} {found['found']}"
        for found in results["machine"]
        if found["check"] in results["facts"]
    ]
    lines = [f"## {results['date']}, {'; '.join(facts)}", "", f"Python {results['python']}.", ""]
    for stage in ("tags", "golden"):
        for name, found in results.get(stage, {}).items():
            text = found.get("error") or f"{found['right']} of {found['of']} right"
            lines.append("; ".join([f"- {stage}, {name}: {text}", *found.get("wrong", ())]))
            for graph, kinds in found.get("on the CPU", {}).items():
                counts = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
                if counts:
                    lines.append(f"  - {graph} on the CPU: {counts}")
    for name, found in results.get("build", {}).items():
        text = found.get("error") or f"{len(found['plans'])} plans in {found['seconds']:.0f} s"
        lines.append(f"- build, {name}: {text}")
    for stage in ("speed", "compile"):
        if stage in results:
            lines += speed_table(stage, results[stage])
    return "\n".join(lines) + "\n"


def speed_table(stage: str, found: dict[str, Any]) -> list[str]:
    if "error" in found:
        return [f"- {stage}: {found['error']}"]
    copied = f"{found['bandwidth'] / 1e9:,.0f} GB/s"
    lines = [
        "",
        f"Copy within the GPU's memory: {copied}; medians of {found['rounds']} rounds.",
    ]
    lines += [f"- {name}: {text}" for name, text in found["errors"].items()]
    whats = list(next(iter(found["seconds"].values()), {}))
    lines += ["", "| | " + " | ".join(whats) + " |", "|---|" + "---:|" * len(whats)]
    floors = {f"floor {name}": floor for name, floor in found["floors"].items()}
    for name, row in {**found["seconds"], **floors}.items():
        cells = [speed_cell(what, taken) for what, taken in row.items()]
        cells += ["-"] * (len(whats) - len(cells))
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def speed_cell(what: str, seconds: float) -> str:
    if what.startswith("decode"):
        return f"{1 / seconds:,.1f} tok/s"
    return f"{1000 * seconds:.2f} ms"
