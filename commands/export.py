"""vpt-export: make a bundle of a checkpoint."""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from vpt_edge.commands.console import exit_code
from vpt_edge.export.quantization.recipe import INT4_BLOCK
from vpt_edge.export.report import tokenizer_note
from vpt_edge.runtime.errors import ExportError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vpt_edge.export.quantization.options import Calibration
    from vpt_edge.runtime.bundle import Bundle, Gate


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, 2 for bad input, 130 after Ctrl-C."""
    return exit_code(lambda: _run(_parser().parse_args(arguments)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vpt-export",
        description="Split a VPT checkpoint into graphs that vpt-run answers with.",
    )
    parser.add_argument("checkpoint", help="folder, or Hub id such as rp-yu/Qwen2-VL-2b-VPT-CLIP")
    parser.add_argument("-o", "--output", required=True, metavar="BUNDLE", help="folder to write")
    parser.add_argument("--precision", choices=("fp32", "fp16", "int8", "int4"), required=True)
    parser.add_argument(
        "--target",
        choices=("onnxruntime", "tensorrt"),
        default="onnxruntime",
        help="how attention is written: contrib operators, or plain ones that TensorRT parses (default onnxruntime)",
    )
    parser.add_argument(
        "--cache-tokens",
        type=int,
        default=4096,
        metavar="N",
        help="capacity of the key-value cache (default 4096)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")
    quantized = parser.add_argument_group("int8 and int4")
    quantized.add_argument(
        "--calibration-data",
        metavar="DATA",
        help="folder of pictures, .jsonl, or the authors' dataset .json",
    )
    quantized.add_argument(
        "--observer",
        choices=("minmax", "percentile", "entropy", "mse"),
        default="percentile",
        help="how an activation's range is clipped (default percentile)",
    )
    quantized.add_argument(
        "--no-smoothing", action="store_true", help="do not fold outliers into the weights"
    )
    quantized.add_argument(
        "--kv-cache",
        choices=("float", "int8"),
        default="float",
        help="int8: keys and values of a byte each, a quarter of the cache's memory, a slower prefill (default float)",
    )
    quantized.add_argument(
        "--block",
        type=int,
        choices=(32, 64, 128),
        default=INT4_BLOCK,
        help=f"of int4 weights (default {INT4_BLOCK}); products that do not divide by it become int8",
    )
    quantized.add_argument(
        "--max-drop",
        type=float,
        metavar="X",
        help="points of accuracy that may be lost (default 0.5), or percent of changed answers without labels (1)",
    )
    quantized.add_argument(
        "--metric",
        choices=("exact", "vqa", "anls", "yesno", "contains"),
        default="exact",
        help="for labelled data",
    )
    quantized.add_argument(
        "--reference",
        choices=("auto", "exported", "streamed"),
        default="auto",
        help="the float model: exported to disk for the time, or read from the checkpoint again for each token, which "
        "is slow and takes no room (default: streamed above 2 GiB of floats)",
    )
    quantized.add_argument(
        "--samples",
        type=int,
        metavar="N",
        help="ask no more than N samples (default all; 16 of a streamed model)",
    )
    quantized.add_argument(
        "--answer-tokens",
        type=int,
        metavar="N",
        help="of each answer (default 64; 8 of a streamed model)",
    )
    return parser


def _calibration(options: argparse.Namespace) -> Calibration | None:
    """The options of a quantized export. One that would be ignored is an error."""
    from vpt_edge.export.quantization.options import Calibration

    given = Calibration(
        data=options.calibration_data or "",
        range_method=options.observer,
        smoothing=not options.no_smoothing,
        max_drop=options.max_drop,
        metric=options.metric,
        block=options.block,
        kv_cache=options.kv_cache,
        streamed={"auto": None, "exported": False, "streamed": True}[options.reference],
        samples=options.samples,
        answer_tokens=options.answer_tokens,
    )
    if any(limit is not None and limit < 1 for limit in (given.samples, given.answer_tokens)):
        raise ExportError("--samples and --answer-tokens take 1 or more")
    if options.precision in ("int8", "int4"):
        if not given.data:
            raise ExportError(
                f"{options.precision} needs samples to find its ranges and to prove its answers: "
                "--calibration-data with a folder of pictures, a .jsonl or the authors' dataset .json"
            )
        return given
    if given != Calibration(data=""):
        raise ExportError(
            f"{options.precision} is not calibrated; leave out the options of int8 and int4"
        )
    return None


def _run(options: argparse.Namespace) -> None:
    try:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        from vpt_edge.export.exporter import export
    except ImportError as error:
        raise ExportError(
            f"{error.name} is not installed, but exporting needs it: pip install 'vpt-edge[export]'"
        ) from error
    console = Console(stderr=True)
    began = time.monotonic()
    columns = (
        TextColumn("{task.description:<36}"),
        BarColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns, console=console, disable=not console.is_terminal, transient=True
    ) as bar:
        task = bar.add_task("", total=1.0)
        bundle = export(
            options.checkpoint,
            options.output,
            precision=options.precision,
            target=options.target,
            cache_tokens=options.cache_tokens,
            calibration=_calibration(options),
            progress=lambda stage, done: bar.update(task, description=stage, completed=done),
        )
    _print_summary(bundle, time.monotonic() - began, as_json=options.json)


def _print_summary(bundle: Bundle, seconds: float, as_json: bool) -> None:
    """What was made, how large, how good, and which command comes next."""
    manifest = bundle.manifest
    sizes = {path.name: path.stat().st_size for path in sorted(bundle.path.iterdir())}
    gate, worst = (
        manifest.gate,
        max(manifest.parity, key=lambda row: row.difference / row.tolerance, default=None),
    )
    if as_json:
        summary = {
            "bundle": str(bundle.path),
            "kind": manifest.kind,
            "precision": manifest.precision,
            "target": manifest.target,
            "bytes": sum(sizes.values()),
            "files": sizes,
            "worst_difference": worst.difference if worst else None,
            "gate": asdict(gate) if gate else None,
            "seconds": round(seconds, 3),
        }
        print(json.dumps(summary))
        return
    print(
        f"{bundle.path}: {manifest.source} ({manifest.kind}), {manifest.precision} for {manifest.target}"
    )
    for name, size in sizes.items():
        print(f"  {name:<32}{size:>16,} bytes")
    print(f"  {'all':<32}{sum(sizes.values()):>16,} bytes, {seconds:.1f} s")
    if worst:
        print(
            f"largest difference from torch: {worst.difference:.1e} in {worst.graph} ({worst.output}, {worst.size}), "
            f"{worst.tolerance:.0e} allowed; all in {Path(bundle.path.name) / 'report.md'}"
        )
    if gate:
        _print_gate(gate)
    note = tokenizer_note(bundle.path)
    if note:
        print(f"note: {note}")
    if not manifest.tokens.triggers:
        print(
            "this is an alignment checkpoint: it knows no trigger token and answers at the first look"
        )
    print(
        f"next: vpt-run {bundle.path} PICTURE 'QUESTION'"
        + (" --perception region" if manifest.prompt_triggered else "")
    )


def _print_gate(gate: Gate) -> None:
    print(
        f"against float on {gate.samples} held-out samples: answers equal {gate.answers_equal:.1%}, triggers "
        f"{gate.triggers_equal:.1%}, region cells {gate.cells_equal:.1%}; "
        f"drop {gate.drop:.2f}, {gate.allowed:.2f} allowed"
    )
    if gate.floats:
        print(
            f"{len(gate.floats)} products stayed in float, with their reasons in report.md: {', '.join(gate.floats)}"
        )
    for note in gate.notes:
        print(f"note: {note}")
    slower = [f"{stage} ({times:.2f}x)" for stage, times in gate.speed.items() if times < 1]
    if slower:
        print(f"slower than float on this machine: {', '.join(slower)}")


if __name__ == "__main__":
    sys.exit(main())
