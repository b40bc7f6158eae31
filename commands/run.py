"""vpt-run: ask a bundle about a picture."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from vpt_edge.commands.console import Parser, exit_code, say, say_json, warn
from vpt_edge.commands.pixel_options import add_budget, read_budget

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from vpt_edge.runtime.frames import Frames
    from vpt_edge.runtime.options import AskOptions
    from vpt_edge.runtime.result import Answer, Event, Text, Thought

PLOT_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}  # Pillow's names


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, 2 for bad input, 130 after Ctrl-C."""
    return exit_code(lambda: _run(_parser().parse_args(arguments)))


def _parser() -> Parser:
    parser = Parser("vpt-run", "Ask a VPT bundle a question about a picture.")
    parser.add_argument("bundle", help="folder written by vpt-export")
    parser.add_argument("image", help="PNG, JPEG, WebP, TIFF, GIF, BMP or PPM")
    parser.add_argument("question")
    parser.add_argument("--also", action="append", metavar="IMAGE", help="a further picture")
    parser.add_argument(
        "--frames-every",
        type=float,
        metavar="S",
        help="image and those of --also are frames of one scene, S seconds apart",
    )
    parser.add_argument(
        "--still-pixels", type=float, metavar="T", help="leave out what changed by less than T"
    )
    parser.add_perception()
    parser.add_max_new_tokens()
    add_budget(parser)
    parser.add_first_token_share()
    parser.add_argument(
        "--draft-tokens",
        type=int,
        metavar="N",
        help="look up and verify so many tokens at a time, for the same answer (default: the "
        "bundle's budget, else 0)",
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
    from vpt_edge.runtime.pipeline import Pipeline
    from vpt_edge.runtime.sessions.ort import silence_log

    silence_log()
    images = [options.image, *(options.also or ())]
    if options.plot is not None:
        for image in images:
            _check_plot(options.plot, image)
    asked: AskOptions = {
        **read_budget(options),
        "first_token_share": options.first_token_share,
        "perception": options.perception,
        "max_new_tokens": options.max_new_tokens,
        "assistant_prefix": options.prefix,
        "still_pixels": options.still_pixels,
        "draft_tokens": options.draft_tokens,
    }
    transcript = _Transcript(quiet=options.json, must_end=options.plot is not None)
    with Pipeline(options.bundle, options.device) as pipeline:
        events = pipeline.stream(
            _read_pictures(images, options.frames_every),
            options.question,
            **asked,
        )
        answer = _follow(events, transcript)
    try:
        if options.json:
            say_json(answer.to_dict())
        transcript.close()
    finally:  # the plot does not depend on who reads what is printed
        if options.plot is not None:
            _save_plot(answer, options.plot)
    if options.stats:
        _print_stats(answer)


def _read_pictures(images: list[str], every: float | None) -> list[str] | Frames:
    """``images`` as they are, or as frames of one scene, ``every`` so many seconds."""
    from vpt_edge.runtime.frames import Frames

    if every is None:
        return images
    return Frames(images, [number * every for number in range(len(images))])


class _Transcript:
    """Prints text as it comes and looks as they happen.

    ``must_end``: the answer is wanted even where it cannot be printed; ``close`` raises that error.
    """

    def __init__(self, quiet: bool, must_end: bool) -> None:
        self._quiet = quiet
        self._must_end = must_end
        self._at_line_start = True
        self._in_thought = False
        self._error: OSError | None = None

    def show(self, event: Event) -> None:
        if self._quiet:
            return
        try:
            self._print(event)
        except OSError as error:
            if not self._must_end:
                raise
            self._error = error
            self._quiet = True

    def close(self) -> None:
        if self._error is not None:
            raise self._error

    def _print(self, event: Event) -> None:
        from vpt_edge.runtime.result import Finished, Looked, Refused

        if isinstance(event, Finished):
            say()
            if event.answer.finish_reason != "stop":
                warn(f"(finished: {event.answer.finish_reason})")
        elif isinstance(event, Looked):
            self._say_line(f"[{event.describe()}]")
        elif isinstance(event, Refused):
            self._say_line(f"[no look: {event.reply}]")
        elif event.piece:
            self._say_piece(event)

    def _say_line(self, line: str) -> None:
        if not self._at_line_start:
            say()
        say(line)
        self._at_line_start = True

    def _say_piece(self, event: Text | Thought) -> None:
        """Thoughts and what is said stand in lines of their own."""
        from vpt_edge.runtime.result import Thought

        is_thought = isinstance(event, Thought)
        if is_thought != self._in_thought and not self._at_line_start:
            say()
            self._at_line_start = True
        if is_thought and self._at_line_start:
            say("[thinks] ", end="")
        say(event.piece, end="")
        self._in_thought = is_thought
        self._at_line_start = False


def _follow(events: Iterator[Event], transcript: _Transcript) -> Answer:
    """Show every event; returns the answer."""
    from vpt_edge.runtime.result import Finished

    for event in events:
        transcript.show(event)
        if isinstance(event, Finished):
            return event.answer
    raise AssertionError("a stream without an end")


def _check_plot(path: str, image: str) -> None:
    """Refuse before the model runs what could not be written after it."""
    from pathlib import Path

    from vpt_edge.runtime.errors import VptError
    from vpt_edge.runtime.files import check_file, resolve

    if Path(path).suffix.lower() not in PLOT_FORMATS:
        raise VptError(f"cannot write {path}: expected a name that ends with .png, .jpg or .webp")
    if resolve(path) == resolve(image):
        raise VptError(f"cannot write {path}: it is the picture itself; choose another name")
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
        f"{usage.computed_tokens} computed, {usage.reused_tokens} reused, "
        f"{usage.dropped_tokens} dropped; "
        f"{usage.vision_runs} vision and {usage.reencoder_runs} re-encoder runs"
    )
    if usage.draft_tokens:
        warn(f"drafts: {usage.accepted_tokens} of {usage.draft_tokens} tokens accepted")
    seconds = ", ".join(f"{stage} {value:.3f}" for stage, value in usage.seconds.items())
    warn(f"seconds: {seconds}")


if __name__ == "__main__":
    sys.exit(main())
