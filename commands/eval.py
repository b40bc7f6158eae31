"""vpt-eval: how good a bundle is, and whether it agrees with another."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from vpt_edge.commands.bar import Bar
from vpt_edge.commands.console import METRICS, Parser, exit_code, say, say_json, warn
from vpt_edge.commands.pixel_options import add_budget, read_budget

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from vpt_edge.calibration.evaluation import Evaluation
    from vpt_edge.calibration.outcome import Outcome
    from vpt_edge.calibration.samples import Samples
    from vpt_edge.runtime.bundle import Bundle
    from vpt_edge.runtime.options import AskOptions

FAILED = 1  # the exit code for too large a drop


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, 1 for too large a drop, 2 for bad input, 130 after
    Ctrl-C.
    """
    passed = True

    def run() -> None:
        nonlocal passed
        options = _parser().parse_args(arguments)
        evaluation = _evaluate(options)
        # Before anything is printed: a reader that goes away changes no verdict.
        passed = evaluation.passed
        _report(evaluation, options)

    code = exit_code(run)
    if code == 0 and not passed:
        return FAILED
    return code


def _parser() -> Parser:
    parser = Parser(
        "vpt-eval",
        "Ask a bundle many questions; judge it by the true answers or by another bundle.",
    )
    parser.add_argument("bundle", help="folder written by vpt-export, the one that is judged")
    parser.add_argument(
        "--data", required=True, help="folder of pictures, .jsonl, or the authors' dataset .json"
    )
    parser.add_argument(
        "--compare", metavar="OTHER", help="the bundle to hold it against, such as the fp32 one"
    )
    parser.add_argument("--metric", choices=METRICS, default="exact", help="default exact")
    parser.add_argument(
        "--max-drop",
        type=float,
        metavar="X",
        help="end with code 1 when OTHER is more than X points better; without true answers, when "
        "more than X %% of the answers differ",
    )
    parser.add_max_new_tokens()
    add_budget(parser)
    parser.add_first_token_share()
    parser.add_device()
    parser.add_argument(
        "--report", metavar="R.html", help="write a page with plots and the worst twenty samples"
    )
    parser.add_json()
    return parser


def _evaluate(options: argparse.Namespace) -> Evaluation:
    import warnings

    from vpt_edge.calibration.evaluation import Evaluation, compare
    from vpt_edge.calibration.samples import read_samples
    from vpt_edge.runtime.bundle import Bundle
    from vpt_edge.runtime.perception import open_perception
    from vpt_edge.runtime.sessions.ort import silence_log

    silence_log()
    _check(options)
    warnings.showwarning = lambda message, *_: warn(f"hint: {message}")
    bundle = Bundle.open(options.bundle)
    other = None if options.compare is None else Bundle.open(options.compare)
    data = read_samples(options.data, open_perception(bundle.manifest).modes)
    for line in data.unreadable:
        warn(f"left out: {line}")
    budget: AskOptions = {
        **read_budget(options),
        "first_token_share": options.first_token_share,
    }
    outcomes = _outcomes(bundle, data, options, budget)
    others = None
    agreement = None
    if other:
        others = _outcomes(other, data, options, {})
        agreement = compare(outcomes, others)
    name, other_name = _names(options.bundle, options.compare)
    return Evaluation(
        name, options.metric, data, outcomes, other_name, others, agreement, options.max_drop
    )


def _check(options: argparse.Namespace) -> None:
    import math

    from vpt_edge.runtime.errors import VptError
    from vpt_edge.runtime.files import check_file, resolve
    from vpt_edge.runtime.options import Options

    Options(first_token_share=options.first_token_share)  # refuses it before any sample is asked
    compared = options.compare is not None
    if options.max_drop is not None and not (compared and 0 <= options.max_drop < math.inf):
        raise VptError("--max-drop needs --compare OTHER and a number of points, 0 or more")
    if options.report is not None:
        if resolve(options.report) == resolve(options.data):
            problem = f"cannot write {options.report}: it holds the samples"
            raise VptError(problem, "choose another name")
        check_file(options.report)


def _names(bundle: str, other: str | None) -> tuple[str, str]:
    """What the bundles are called, never alike."""
    from pathlib import Path

    name = Path(bundle).name
    if other is None:
        return name or bundle, ""
    other_name = Path(other).name
    if name and other_name and name != other_name:
        return name, other_name
    if other == bundle:
        return bundle, f"{other} again"
    return bundle, other


def _outcomes(
    bundle: Bundle, data: Samples, options: argparse.Namespace, budget: AskOptions
) -> list[Outcome]:
    """``budget``: what questions may cost, where that is not the bundle's own."""
    from vpt_edge.calibration.evaluation import evaluate
    from vpt_edge.calibration.metrics import METRICS
    from vpt_edge.runtime.pipeline import Pipeline

    asked: AskOptions = {
        **budget,
        "max_new_tokens": options.max_new_tokens,
        "keep_logits": options.compare is not None,
    }
    total = len(data.samples)
    with Pipeline(bundle, options.device) as pipeline, Bar() as bar:
        return evaluate(
            pipeline,
            data.samples,
            METRICS[options.metric],
            lambda done: bar.show(bundle.path.name, done / total, f"{done} of {total}"),
            **asked,
        )


def _report(evaluation: Evaluation, options: argparse.Namespace) -> None:
    from vpt_edge.calibration.report import page
    from vpt_edge.runtime.files import write_file

    try:
        if options.json:
            say_json(_summary(evaluation))
        else:
            _print(evaluation)
    finally:  # the page does not depend on who reads what is printed
        if options.report is not None:
            write_file(options.report, page(evaluation).encode("utf-8", "replace"))
    if not any(outcome.looks for outcome in evaluation.outcomes):
        warn(
            "hint: no sample made the model look again; a model that looks when it is asked to "
            'needs "perception": "region" or "reencode" in the .jsonl'
        )
    if not evaluation.passed:
        warn(f"failed: the drop exceeds --max-drop {evaluation.max_drop:g}")


def _print(evaluation: Evaluation) -> None:
    from vpt_edge.calibration.report import agreements, figures, latencies

    names = list(evaluation.runs)
    _print_table([("", *names), *figures(evaluation)])
    _print_table(agreements(evaluation))
    columns = [f"{name} {measure}" for name in names for measure in ("median", "p95")]
    _print_table([("latency, ms", *columns), *latencies(evaluation)])


def _print_table(rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, *cells in rows:
        line = name.ljust(widths[0])
        for cell, width in zip(cells, widths[1:], strict=True):
            line += "   " + cell.rjust(width)
        say(line.rstrip())
    if rows:
        say()


def _summary(evaluation: Evaluation) -> dict[str, Any]:
    """Shares are fractions of 1, drops are in points, times in seconds."""
    from dataclasses import asdict, fields

    from vpt_edge.calibration.evaluation import Agreement

    agreement: dict[str, Any] = dict.fromkeys(field.name for field in fields(Agreement))
    if evaluation.agreement:
        agreement = asdict(evaluation.agreement)
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
        for key, value in _summarize_run(run).items():
            summary[f"{prefix}{key}"] = value
    return summary


def _summarize_run(run: Sequence[Outcome]) -> dict[str, Any]:
    from collections import Counter

    from vpt_edge.calibration.evaluation import accuracy, latency

    mean, interval = accuracy(run) or (None, None)
    looked = sum(bool(outcome.looks) for outcome in run)
    seconds = {stage: figures._asdict() for stage, figures in latency(run).items()}
    return {
        "accuracy": mean,
        "accuracy_interval": interval,
        "looked": looked / len(run),
        "finish_reasons": Counter(outcome.finish_reason for outcome in run),
        "seconds": seconds,
    }


if __name__ == "__main__":
    sys.exit(main())
