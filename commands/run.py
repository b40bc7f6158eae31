"""vpt-run: ask a bundle about a picture."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from vpt_edge.commands.console import Parser, exit_code, say, say_json, warn

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from vpt_edge.runtime.result import Answer, Event

PLOT_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}  # Pillow's names


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, 2 for bad input, 130 after Ctrl-C."""
    return exit_code(lambda: _run(_parser().parse_args(arguments)))


def _parser() -> Parser:
    parser = Parser("vpt-run", "Ask a VPT bundle a question about a picture.")
    parser.add_argument("bundle", help="folder written by vpt-export")
    parser.add_argument("image", help="PNG, JPEG, WebP, TIFF, GIF, BMP or PPM")
    parser.add_argument("question")
    parser.add_argument(
        "--perception",
        choices=("free", "region", "reencode", "off"),
        default="free",
        help="region and reencode ask the model to look again; free lets it decide; "
        "off takes its triggers for text",
    )
    parser.add_argument(
        "--max-new-tokens", type=int, default=1024, metavar="N", help="for each turn (default 1024)"
    )
    parser.add_argument(
        "--prefix", default="", metavar="TEXT", help="text that the assistant's turn begins with"
    )
    parser.add_device()
    parser.add_argument(
        "--plot", metavar="OUT.png", help="write the picture with grid, box and crops"
    )
    parser.add_json()
    parser.add_argument(
        "--stats", action="store_true", help="print tokens and seconds to standard error"
    )
    return parser


def _run(options: argparse.Namespace) -> None:
    import warnings

    from vpt_edge.runtime.pipeline import Pipeline

    if options.plot:
        _check_plot(options.plot)
    warnings.showwarning = lambda message, *_: warn(f"hint: {message}")
    with Pipeline(options.bundle, options.device) as pipeline:
        events = pipeline.stream(
            options.image,
            options.question,
            perception=options.perception,
            max_new_tokens=options.max_new_tokens,
            assistant_prefix=options.prefix,
        )
        answer = _follow(events, quiet=options.json)
    try:
        if options.json:
            say_json(answer.to_dict())
    finally:  # the plot does not depend on who reads what is printed
        if options.plot:
            _save_plot(answer, options.plot)
    if options.stats:
        _print_stats(answer)


def _follow(events: Iterator[Event], quiet: bool) -> Answer:
    """Print text as it comes and looks as they happen; returns the answer."""
    from vpt_edge.runtime.result import Finished, Looked

    at_line_start = True
    for event in events:
        if isinstance(event, Finished):
            break
        if quiet:
            continue
        if isinstance(event, Looked):
            if not at_line_start:
                say()
            say(f"[{event.describe()}]")
            at_line_start = True
        else:
            say(event.piece, end="")
            at_line_start = False
    assert isinstance(event, Finished)
    if not quiet:
        say()
        if event.answer.finish_reason != "stop":
            warn(f"(finished: {event.answer.finish_reason})")
    return event.answer


def _check_plot(path: str) -> None:
    """Refuse before the model runs what could not be written after it."""
    from pathlib import Path

    from vpt_edge.runtime.errors import VptError
    from vpt_edge.runtime.files import check_file

    if Path(path).suffix.lower() not in PLOT_FORMATS:
        raise VptError(f"cannot write {path}: expected a name that ends with .png, .jpg or .webp")
    check_file(path)


def _save_plot(answer: Answer, path: str) -> None:
    """Write the overlay; a half picture is never left."""
    from pathlib import Path

    from vpt_edge.runtime.files import replace_file

    with replace_file(path) as beside:
        answer.plot().save(beside, PLOT_FORMATS[Path(path).suffix.lower()])


def _print_stats(answer: Answer) -> None:
    usage = answer.usage
    warn(
        f"tokens: {usage.prompt_tokens} prompt, {usage.generated_tokens} generated, "
        f"{usage.computed_tokens} computed, {usage.reused_tokens} reused; "
        f"{usage.vision_runs} vision and {usage.reencoder_runs} re-encoder runs"
    )
    seconds = ", ".join(f"{stage} {value:.3f}" for stage, value in usage.seconds.items())
    warn(f"seconds: {seconds}")


if __name__ == "__main__":
    sys.exit(main())
