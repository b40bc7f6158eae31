"""vpt-eval: how good a bundle is, and whether it agrees with another."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from vpt_edge.calibration.evaluation import (
    Agreement,
    Evaluation,
    Outcome,
    accuracy,
    compare,
    evaluate,
    latency,
)
from vpt_edge.calibration.metrics import METRICS
from vpt_edge.calibration.report import agreements, figures, latencies, page
from vpt_edge.calibration.samples import Samples, read_samples
from vpt_edge.commands.console import exit_code
from vpt_edge.runtime.bundle import Bundle
from vpt_edge.runtime.errors import VptError
from vpt_edge.runtime.files import check_file, write_file
from vpt_edge.runtime.pipeline import Pipeline


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, 1 for too large a drop, 2 for bad input, 130 after
    Ctrl-C."""
    options, passed = _parser().parse_args(arguments), True

    def run() -> None:
        nonlocal passed
        evaluation = _evaluation(options)
        passed = (
            evaluation.passed
        )  # before anything is printed: a reader that goes away changes no verdict
        _tell(evaluation, options)

    return exit_code(run) or int(not passed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vpt-eval",
        description="Ask a bundle many questions; judge it by the true answers or by another bundle.",
    )
    parser.add_argument("bundle", help="folder written by vpt-export, the one that is judged")
    parser.add_argument(
        "--data", required=True, help="folder of pictures, .jsonl, or the authors' dataset .json"
    )
    parser.add_argument(
        "--compare", metavar="OTHER", help="the bundle to hold it against, such as the fp32 one"
    )
    parser.add_argument("--metric", choices=tuple(METRICS), default="exact", help="default exact")
    parser.add_argument(
        "--max-drop",
        type=float,
        metavar="X",
        help="end with code 1 when OTHER is more than X points better; without true answers, when more than X %% of "
        "the answers differ",
    )
    parser.add_argument(
        "--max-new-tokens", type=int, default=1024, metavar="N", help="for each turn (default 1024)"
    )
    parser.add_argument("--device", default="cpu", help="where the graphs run (default cpu)")
    parser.add_argument(
        "--report", metavar="R.html", help="write a page with plots and the worst twenty samples"
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object instead of the text"
    )
    return parser


def _evaluation(options: argparse.Namespace) -> Evaluation:
    if options.max_drop is not None and not (options.compare and 0 <= options.max_drop < math.inf):
        raise VptError("--max-drop needs --compare OTHER and a number of points, 0 or more")
    if options.report:
        check_file(options.report)
    bundle = Bundle.open(options.bundle)
    other = Bundle.open(options.compare) if options.compare else None
    data = read_samples(options.data)
    for line in data.unreadable:
        print(f"left out: {line}", file=sys.stderr)
    outcomes = _outcomes(bundle, data, options)
    others = _outcomes(other, data, options) if other else None
    agreement = compare(outcomes, others) if others else None
    name, other_name = _names(options.bundle, options.compare)
    return Evaluation(
        name, options.metric, data, outcomes, other_name, others, agreement, options.max_drop
    )


def _names(bundle: str, other: str | None) -> tuple[str, str]:
    """What the bundles are called, never alike."""
    if other is None:
        return Path(bundle).name or bundle, ""
    short = Path(bundle).name, Path(other).name
    if all(short) and short[0] != short[1]:
        return short
    return bundle, other if other != bundle else f"{other} again"


def _outcomes(bundle: Bundle, data: Samples, options: argparse.Namespace) -> list[Outcome]:
    with (
        Pipeline(bundle, options.device) as pipeline,
        _progress(bundle.path.name, len(data.samples)) as progress,
    ):
        return evaluate(
            pipeline,
            data.samples,
            METRICS[options.metric],
            progress,
            max_new_tokens=options.max_new_tokens,
            keep_logits=options.compare is not None,
        )


@contextmanager
def _progress(name: str, total: int) -> Iterator[Callable[[int], object]]:
    """A bar on a terminal; nothing elsewhere, or where rich is not installed."""
    try:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )
    except ImportError:
        yield lambda done: None
        return
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description:<24}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns, console=console, disable=not console.is_terminal, transient=True
    ) as bar:
        task = bar.add_task(name, total=total)
        yield lambda done: bar.update(task, completed=done)


def _tell(evaluation: Evaluation, options: argparse.Namespace) -> None:
    if options.json:
        print(json.dumps(_summary(evaluation)))
    else:
        _print(evaluation)
    if options.report:
        write_file(options.report, page(evaluation).encode("utf-8", "replace"))
    if not any(outcome.looks for outcome in evaluation.outcomes):
        print(
            "hint: no sample made the model look again; a model that looks when it is asked to needs "
            '"perception": "region" or "reencode" in the .jsonl',
            file=sys.stderr,
        )
    if not evaluation.passed:
        print(f"failed: the drop exceeds --max-drop {evaluation.max_drop:g}", file=sys.stderr)


def _print(evaluation: Evaluation) -> None:
    names = list(evaluation.runs)
    both = [(name, what) for name in names for what in ("median", "p95")]
    _print_table([("", *names), *figures(evaluation)])
    _print_table(agreements(evaluation))
    _print_table(
        [("latency, ms", *(f"{name} {what}" for name, what in both)), *latencies(evaluation)]
    )


def _print_table(rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, *cells in rows:
        padded = (cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))
        print("   ".join([name.ljust(widths[0]), *padded]).rstrip())
    if rows:
        print()


def _summary(evaluation: Evaluation) -> dict[str, Any]:
    """Shares are fractions of 1, drops are in points, times in seconds."""
    absent = dict.fromkeys(field.name for field in fields(Agreement))
    agreement = asdict(evaluation.agreement) if evaluation.agreement else absent
    summary: dict[str, Any] = {
        **agreement,
        "bundle": evaluation.name,
        "other": evaluation.other_name or None,
        "metric": evaluation.metric,
        "count": len(evaluation.outcomes),
        "labelled": sum(outcome.score is not None for outcome in evaluation.outcomes),
        "max_drop": evaluation.max_drop,
        "passed": evaluation.passed,
        "unreadable": list(evaluation.data.unreadable),
    }
    for prefix, run in zip(("", "other_"), evaluation.runs.values(), strict=False):
        mean, interval = accuracy(run) or (None, None)
        seconds = {stage: found._asdict() for stage, found in latency(run).items()}
        looked = sum(bool(outcome.looks) for outcome in run) / len(run)
        reasons = Counter(outcome.finish_reason for outcome in run)
        found = {
            "accuracy": mean,
            "accuracy_interval": interval,
            "looked": looked,
            "finish_reasons": reasons,
        }
        summary |= {f"{prefix}{key}": value for key, value in {**found, "seconds": seconds}.items()}
    return summary


if __name__ == "__main__":
    sys.exit(main())
