"""vpt-export: make a bundle of a checkpoint."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from vpt_edge.commands.bar import Bar
from vpt_edge.commands.console import METRICS, Parser, exit_code, say, say_json
from vpt_edge.commands.pixel_options import add_budget, add_limits

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from vpt_edge.export.quantization.options import Calibration
    from vpt_edge.runtime.bundle import Bundle
    from vpt_edge.runtime.manifest import Gate, Manifest

STREAMED = {"auto": None, "exported": False, "streamed": True}  # by --reference


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, 2 for bad input, 130 after Ctrl-C."""
    return exit_code(lambda: run(_parser().parse_args(arguments)))


def _parser() -> Parser:
    parser = Parser("vpt-export", "Split a checkpoint into graphs that vpt-run answers with.")
    add_arguments(parser)
    parser.add_renamed("--observer", "--range-method")
    return parser


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Those of vpt-export, which another command line may have too."""
    parser.add_argument("checkpoint", help="folder, or Hub id such as rp-yu/Qwen2-VL-2b-VPT-CLIP")
    parser.add_argument("-o", "--output", required=True, metavar="BUNDLE", help="folder to write")
    parser.add_argument("--precision", choices=("fp32", "fp16", "int8", "int4"), required=True)
    parser.add_argument(
        "--target",
        choices=("onnxruntime", "tensorrt"),
        default="onnxruntime",
        help="how attention is written: contrib operators, or plain ones that TensorRT parses "
        "(default onnxruntime)",
    )
    parser.add_argument(
        "--cache-tokens",
        type=int,
        default=4096,
        metavar="N",
        help="capacity of the key-value cache (default 4096)",
    )
    parser.add_argument(
        "--perception",
        metavar="WAY",
        help="how a model without Visual Perception Tokens looks again: a description that is "
        "shipped, such as qwen3-vl-zoom, or a file (default none: it does not)",
    )
    add_limits(parser)
    add_budget(parser, "--max-pixels")
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")
    _add_quantization(parser)
    _add_gate(parser)


def _add_quantization(parser: argparse.ArgumentParser) -> None:
    from vpt_edge.export.quantization.recipe import INT4_BLOCK

    group = parser.add_argument_group("int8 and int4")
    group.add_argument(
        "--calibration-data",
        metavar="DATA",
        help="folder of pictures, .jsonl, or the authors' dataset .json",
    )
    group.add_argument(
        "--range-method",
        choices=("minmax", "percentile", "entropy", "mse"),
        default="percentile",
        help="how an activation's range is clipped (default percentile)",
    )
    group.add_argument(
        "--no-smoothing", action="store_true", help="do not fold outliers into the weights"
    )
    group.add_argument(
        "--kv-cache",
        choices=("float", "int8"),
        help="int8: keys and values of a byte each, a quarter of the cache's memory, a slower "
        "prefill (default float; int8 of Qwen3-VL, where the target has it)",
    )
    group.add_argument(
        "--block",
        type=int,
        choices=(32, 64, 128),
        default=INT4_BLOCK,
        help=f"of int4 weights (default {INT4_BLOCK}); matmuls that do not divide by it become "
        "int8",
    )


def _add_gate(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what an int8 or int4 bundle must prove")
    group.add_argument(
        "--max-drop",
        type=float,
        metavar="X",
        help="points of accuracy that may be lost (default 0.5), or percent of changed answers "
        "without labels (1)",
    )
    group.add_argument("--metric", choices=METRICS, default="exact", help="for labelled data")
    group.add_argument(
        "--reference",
        choices=tuple(STREAMED),
        default="auto",
        help="the float model: exported to disk for the time, or read from the checkpoint again "
        "for each token, which is slow and takes no room (default: streamed above 2 GiB of floats)",
    )
    group.add_argument(
        "--samples",
        type=int,
        metavar="N",
        help="ask no more than N samples (default all; 16 of a streamed model)",
    )
    group.add_argument(
        "--answer-tokens",
        type=int,
        metavar="N",
        help="of each answer (default 64; 8 of a streamed model)",
    )


def _calibration(options: argparse.Namespace) -> Calibration | None:
    """The options of a quantized export. One that would be ignored is an error."""
    from vpt_edge.export.quantization.options import Calibration
    from vpt_edge.runtime.errors import ExportError

    calibration = Calibration(
        data=options.calibration_data or "",
        range_method=options.range_method,
        smoothing=not options.no_smoothing,
        max_drop=options.max_drop,
        metric=options.metric,
        block=options.block,
        kv_cache=options.kv_cache,
        streamed=STREAMED[options.reference],
        samples=options.samples,
        answer_tokens=options.answer_tokens,
    )
    limits = (calibration.samples, calibration.answer_tokens)
    if any(limit is not None and limit < 1 for limit in limits):
        raise ExportError("--samples and --answer-tokens take 1 or more")
    if options.precision in ("int8", "int4"):
        if not calibration.data:
            raise ExportError(
                f"{options.precision} needs samples to find its ranges and to prove its answers",
                "--calibration-data with a folder of pictures, a .jsonl or the authors' dataset "
                ".json",
            )
        return calibration
    if calibration != Calibration(data=""):
        raise ExportError(
            f"{options.precision} is not calibrated", "leave out the options of int8 and int4"
        )
    return None


def run(options: argparse.Namespace) -> None:
    """Export what ``options`` say, and print what was made."""
    from vpt_edge.runtime.errors import ExportError
    from vpt_edge.runtime.manifest import Budget
    from vpt_edge.runtime.sessions.ort import silence_log

    began = time.monotonic()
    try:
        from vpt_edge.export.exporter import export
    except ImportError as error:
        raise ExportError(
            f"{error.name} is not installed, but exporting needs it",
            "pip install 'vpt-edge[export]'",
        ) from error
    silence_log()
    notes = list[str]()
    with Bar() as bar:
        bundle = export(
            options.checkpoint,
            options.output,
            precision=options.precision,
            target=options.target,
            cache_tokens=options.cache_tokens,
            perception=options.perception,
            min_pixels=options.min_pixels,
            max_pixels=options.max_pixels,
            budget=Budget(options.first_max_pixels, options.look_max_pixels),
            calibration=_calibration(options),
            progress=bar.show,
            note=notes.append,
        )
    seconds = time.monotonic() - began
    if options.json:
        say_json({**_summary(bundle, seconds), "notes": notes})
    else:
        _print_summary(bundle, seconds, notes)


def _sizes(bundle: Bundle) -> dict[str, int]:
    """Bytes by file."""
    return {path.name: path.stat().st_size for path in sorted(bundle.path.iterdir())}


def _summary(bundle: Bundle, seconds: float) -> dict[str, Any]:
    from dataclasses import asdict

    manifest = bundle.manifest
    sizes = _sizes(bundle)
    worst = _worst(manifest)
    gate = asdict(manifest.gate) if manifest.gate else None
    return {
        "bundle": str(bundle.path),
        "kind": manifest.kind,
        "precision": manifest.precision,
        "target": manifest.target,
        "bytes": sum(sizes.values()),
        "files": sizes,
        "worst_difference": None if worst is None else worst.difference,
        "gate": gate,
        "seconds": round(seconds, 3),
    }


def _worst(manifest: Manifest) -> Any:
    """The graph's output that is furthest from torch by its tolerance; None where none was held
    against it.
    """
    return max(manifest.parity, key=lambda row: row.difference / row.tolerance, default=None)


def _print_summary(bundle: Bundle, seconds: float, notes: Sequence[str]) -> None:
    """What was made, how large, how good, and which command comes next."""
    from vpt_edge.runtime.perception import open_perception

    manifest = bundle.manifest
    sizes = _sizes(bundle)
    result = f"{manifest.source} ({manifest.kind}), {manifest.precision} for {manifest.target}"
    say(f"{bundle.path}: {result}")
    for name, size in sizes.items():
        say(f"  {name:<32}{size:>16,} bytes")
    say(f"  {'all':<32}{sum(sizes.values()):>16,} bytes, {seconds:.1f} s")
    _print_difference(bundle)
    if manifest.gate:
        _print_gate(manifest.gate)
    for note in notes:
        say(f"note: {note}")
    perception = open_perception(manifest)
    if not perception.can_look and manifest.perception["name"] != "none":
        say(
            "this is an alignment checkpoint: it knows no trigger token and answers at the first "
            "look"
        )
    command = f"vpt-run {bundle.path} PICTURE 'QUESTION'"
    if perception.usual_mode != "free":
        command += f" --perception {perception.usual_mode}"
    say(f"next: {command}")


def _print_difference(bundle: Bundle) -> None:
    worst = _worst(bundle.manifest)
    if worst is None:
        return
    say(
        f"largest difference from torch: {worst.difference:.1e} in {worst.graph} "
        f"({worst.output}, {worst.size}), {worst.tolerance:.0e} allowed; "
        f"all in {bundle.path.name}/report.md"
    )


def _print_gate(gate: Gate) -> None:
    say(
        f"against float on {gate.samples} held-out samples: answers equal "
        f"{gate.answers_equal:.1%}, triggers {gate.triggers_equal:.1%}, region cells "
        f"{gate.cells_equal:.1%}; drop {gate.drop:.2f}, {gate.allowed:.2f} allowed"
    )
    if gate.floats:
        say(
            f"{len(gate.floats)} matmuls stayed in float, with their reasons in report.md: "
            f"{', '.join(gate.floats)}"
        )
    for note in gate.notes:
        say(f"note: {note}")
    slower = [f"{stage} ({times:.2f}x)" for stage, times in gate.speed.items() if times < 1]
    if slower:
        say(f"slower than float on this machine: {', '.join(slower)}")


if __name__ == "__main__":
    sys.exit(main())
