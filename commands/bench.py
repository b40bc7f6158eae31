"""vpt-bench: how fast a bundle answers on this machine, and what it takes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from vpt_edge.commands.bar import Bar
from vpt_edge.commands.console import Parser, exit_code, say, say_json
from vpt_edge.commands.pixel_options import add_budget, read_budget

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, 2 for bad input, 130 after Ctrl-C."""
    return exit_code(lambda: _run(_parser().parse_args(arguments)))


def _parser() -> Parser:
    parser = Parser("vpt-bench", "Measure how fast a VPT bundle answers here.")
    parser.add_argument("bundle", help="folder written by vpt-export")
    parser.add_argument(
        "--image", metavar="PATH", help="a picture (default: one of 640x480 that the command draws)"
    )
    parser.add_argument("--question", metavar="TEXT", help="default: What does the picture show?")
    add_budget(parser)
    parser.add_device()
    parser.add_argument("--runs", type=int, metavar="N", help="answers to time (default 10)")
    parser.add_argument(
        "--draft-tokens",
        type=int,
        default=0,
        metavar="K",
        help="tell what drafts of K tokens save: the answers again, with and without them",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--json", action="store_true", help="print one JSON object instead of the tables"
    )
    form.add_argument("--markdown", action="store_true", help="print the tables as Markdown")
    return parser


def _run(options: argparse.Namespace) -> None:
    from vpt_edge.device.bench import QUESTION, RUNS, Prompt, measure
    from vpt_edge.runtime.sessions.ort import silence_log

    silence_log()
    question = QUESTION if options.question is None else options.question
    with Bar() as bar:
        report = measure(
            options.bundle,
            device=options.device,
            prompt=Prompt(question, options.image, read_budget(options), options.draft_tokens),
            runs=RUNS if options.runs is None else options.runs,
            progress=bar.show,
        )
    if options.json:
        say_json(report.to_dict())
    elif options.markdown:
        say(report.markdown(), end="")
    else:
        say(report.text(), end="")


if __name__ == "__main__":
    sys.exit(main())
