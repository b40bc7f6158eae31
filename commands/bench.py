"""vpt-bench: how fast a bundle answers on this machine, and what it takes."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from vpt_edge.commands.console import exit_code
from vpt_edge.device.bench import QUESTION, RUNS, measure


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, 2 for bad input, 130 after Ctrl-C."""
    return exit_code(lambda: _run(_parser().parse_args(arguments)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vpt-bench", description="Measure how fast a VPT bundle answers here."
    )
    parser.add_argument("bundle", help="folder written by vpt-export")
    parser.add_argument(
        "--image", metavar="PATH", help="a picture (default: one of 640x480 that the command draws)"
    )
    parser.add_argument("--question", default=QUESTION, metavar="TEXT", help=f"default: {QUESTION}")
    parser.add_argument("--device", default="cpu", help="where the graphs run (default cpu)")
    parser.add_argument(
        "--runs", type=int, default=RUNS, metavar="N", help=f"answers to time (default {RUNS})"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--json", action="store_true", help="print one JSON object instead of the tables"
    )
    form.add_argument("--markdown", action="store_true", help="print the tables as Markdown")
    return parser


def _run(options: argparse.Namespace) -> None:
    report = measure(
        options.bundle,
        device=options.device,
        image=options.image,
        question=options.question,
        runs=options.runs,
    )
    if options.json:
        print(json.dumps(report.to_dict(), ensure_ascii=False))
    else:
        print(report.markdown() if options.markdown else report.text(), end="")


if __name__ == "__main__":
    sys.exit(main())
