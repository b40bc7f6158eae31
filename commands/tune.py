"""vpt-tune: the cheapest setting of a bundle whose answers hold on the user's own data."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from vpt_edge.commands.bar import Bar
from vpt_edge.commands.console import METRICS, Parser, exit_code, say, say_json, warn

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from pathlib import Path

    from vpt_edge.tuning.search import Task
    from vpt_edge.tuning.tuning import Tuning


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, 2 for bad input, 130 after Ctrl-C."""
    return exit_code(lambda: _run(_parser().parse_args(arguments)))


def _parser() -> Parser:
    parser = Parser(
        "vpt-tune",
        "Find the cheapest setting of a bundle whose answers hold on your own data.",
    )
    parser.add_argument(
        "bundle",
        nargs="+",
        help="folder written by vpt-export, the default; further ones, of another precision or "
        "cache, are tried beside it",
    )
    parser.add_argument(
        "--data", required=True, help="folder of pictures, .jsonl, or the authors' dataset .json"
    )
    parser.add_argument(
        "--max-drop",
        type=float,
        default=0.5,
        metavar="X",
        help="points of accuracy that may be lost, or without true answers percent of the answers "
        "that may differ (default 0.5)",
    )
    parser.add_argument("--metric", choices=METRICS, default="exact", help="default exact")
    parser.add_max_new_tokens()
    parser.add_device()
    parser.add_argument(
        "--report",
        metavar="R.html",
        help="the page with plot and table (default BUNDLE.tune.html); answers wait beside it, in "
        "R.jsonl, for the next run",
    )
    parser.add_argument(
        "--write", action="store_true", help="put the choice into its bundle, with its proof"
    )
    parser.add_json()
    return parser


def _run(options: argparse.Namespace) -> None:
    from vpt_edge.runtime.files import write_file
    from vpt_edge.runtime.sessions.ort import silence_log
    from vpt_edge.tuning.page import page
    from vpt_edge.tuning.proof import check_writable
    from vpt_edge.tuning.tuning import tune

    silence_log()
    report = _check(options)
    task = _read_task(options)
    if options.write:
        for bundle in task.bundles:
            check_writable(bundle.path)
    with Bar() as bar:
        tuning = tune(task, report.with_suffix(".jsonl"), _Stages(bar).show)
    title = f"{task.names[0]} tuned"
    text = page(title, tuning.rows, tuning.chosen, task.max_drop)
    write_file(report, text.encode("utf-8", "replace"))
    written = options.write and tuning.is_worth_writing
    if written:
        tuning.write()
    if options.json:
        say_json(_summary(tuning, report, written))
    else:
        _print(tuning, report, written)
    if options.write and not written:
        warn("hint: nothing was written: no bundle's own setting is better than as exported")


class _Stages:
    """The bar of one stage after the other, each with its own time."""

    def __init__(self, bar: Bar) -> None:
        self._bar = bar
        self._stage = ""

    def show(self, stage: str, done: float, detail: str) -> None:
        if stage != self._stage:
            self._stage = stage
            self._bar.begin()
        self._bar.show(stage, done, detail)


def _check(options: argparse.Namespace) -> Path:
    """Where the report goes. Raises VptError for what cannot be done."""
    from pathlib import Path

    from vpt_edge.runtime.errors import VptError
    from vpt_edge.runtime.files import check_file, resolve

    if not 0 <= options.max_drop < 100:
        problem = f"--max-drop is {options.max_drop:g}, expected a number from 0 to below 100"
        raise VptError(problem, "--max-drop 0.5 is the default")
    folders = [resolve(path) for path in options.bundle]
    if len(set(folders)) < len(folders):
        raise VptError("a bundle was given twice", "name each once")
    report = options.report
    if report is None:
        report = f"{str(options.bundle[0]).rstrip('/')}.tune.html"
    path = Path(report)
    if path.suffix.lower() not in (".html", ".htm"):
        raise VptError(f"--report is {report}, expected a name that ends in .html")
    if resolve(path.with_suffix(".jsonl")) == resolve(options.data):
        raise VptError(
            f"the answers would go to {options.data}: it holds the samples",
            "choose another name with --report",
        )
    check_file(path)
    return path


def _read_task(options: argparse.Namespace) -> Task:
    from vpt_edge.calibration.samples import read_samples
    from vpt_edge.runtime.perception import open_perception
    from vpt_edge.tuning.search import Task
    from vpt_edge.tuning.untuned import open_untuned

    bundles = [open_untuned(path) for path in options.bundle]
    data = read_samples(options.data, open_perception(bundles[0].manifest).modes)
    for line in data.unreadable:
        warn(f"left out: {line}")
    names = [bundle.path.name for bundle in bundles]
    if len(set(names)) < len(names) or not all(names):
        names = list(options.bundle)
    return Task(
        bundles=tuple(bundles),
        names=tuple(names),
        samples=data.samples,
        metric=options.metric,
        max_drop=options.max_drop,
        device=options.device,
        max_new_tokens=options.max_new_tokens,
    )


def _print(tuning: Tuning, report: Path, written: bool) -> None:
    from vpt_edge.tuning.table import HEADER, describe_choice, stopped_texts, texts

    _print_table([HEADER, *texts(tuning.rows)])
    tried = [row for row in tuning.rows if row.count]
    for name, count, reason in stopped_texts(tried):
        say(f"given up after {count}: {name}: {reason}")
    if len(tried) < len(tuning.rows):
        say(f"not tried, for a cheaper one held: {len(tuning.rows) - len(tried)}")
    say(describe_choice(tuning.chosen, tuning.rows[0]))
    if tuning.cores:
        say(f"so many threads: taskset -c {tuning.cores} vpt-run ...")
    if written:
        say(f"written into {tuning.bundle.path}")
    say(f"report: {report}")


def _print_table(rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, *cells in rows:
        line = name.ljust(widths[0])
        for cell, width in zip(cells, widths[1:], strict=True):
            line += "   " + cell.rjust(width)
        say(line.rstrip())
    say()


def _summary(tuning: Tuning, report: Path, written: bool) -> dict[str, Any]:
    """Shares are fractions of 1, drops are in points, times in seconds."""
    return {
        "metric": tuning.task.metric,
        "max_drop": tuning.task.max_drop,
        "data": tuning.data,
        "chosen": tuning.rows.index(tuning.chosen),
        "cores": tuning.cores or None,
        "rows": [row.to_dict() for row in tuning.rows],
        "report": str(report),
        "written": written,
    }


if __name__ == "__main__":
    sys.exit(main())
