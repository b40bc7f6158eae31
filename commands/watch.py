"""vpt-watch: ask a bundle about what cameras, streams and clips show."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from vpt_edge.commands.console import Parser, UsageError, exit_code, warn

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from contextlib import ExitStack

    from vpt_edge.live.sinks.outputs import Outputs
    from vpt_edge.live.source import Source
    from vpt_edge.live.subject import WatchCounts
    from vpt_edge.live.watch import Watch
    from vpt_edge.runtime.options import AskOptions

TARGETS = ("jsonl", "output", "snapshots")
INPUTS = ("width", "height", "rate", "codec", "flip", "loop", "latency")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, 2 for bad input, 130 after Ctrl-C or SIGTERM."""
    return exit_code(lambda: _run(_parser().parse_args(arguments)))


def _parser() -> Parser:
    parser = Parser("vpt-watch", "Ask a VPT bundle about what cameras, streams and clips show.")
    parser.add_argument("bundle", help="folder written by vpt-export")
    parser.add_argument("source", help="rtsp://…, http://…, /dev/video0, a clip, a folder, …")
    parser.add_argument("question", nargs="+", help="one or more, for each frame")
    parser.add_argument(
        "--source", dest="sources", action="append", metavar="SOURCE", help="one more source"
    )
    _add_schedule(parser)
    parser.add_argument(
        "--count", type=int, metavar="N", help="end after N answers (default: never)"
    )
    _add_ask_options(parser)
    _add_outputs(parser)
    _add_inputs(parser)
    return parser


def _add_schedule(parser: Parser) -> None:
    when = parser.add_mutually_exclusive_group()
    when.add_argument(
        "--every",
        type=float,
        default=2.0,
        metavar="S",
        help="seconds between questions (default 2)",
    )
    when.add_argument(
        "--each",
        dest="every",
        action="store_const",
        const=0.0,
        help="ask about each frame, as fast as answers come",
    )
    parser.add_argument(
        "--on-change",
        type=float,
        nargs="?",
        default=False,
        const=True,
        metavar="T",
        help="ask only where the picture changed by T since the last question (0.06)",
    )
    parser.add_argument(
        "--longest-silence",
        type=float,
        metavar="S",
        help="with --on-change: ask after S seconds all the same",
    )


def _add_ask_options(parser: Parser) -> None:
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
    parser.add_device()


def _add_outputs(parser: Parser) -> None:
    parser.add_argument("--jsonl", metavar="FILE", help="a line of JSON an answer; - prints them")
    parser.add_argument(
        "--output", metavar="OUT.mp4", help="the pictures with the answers drawn in"
    )
    parser.add_argument(
        "--output-rate", type=float, metavar="N", help="at most N pictures a second (default: all)"
    )
    parser.add_argument("--snapshots", metavar="DIR", help="a folder an answer: picture and looks")


def _add_inputs(parser: Parser) -> None:
    parser.add_argument("--input-width", type=int, metavar="N", help="pixels")
    parser.add_argument("--input-height", type=int, metavar="N", help="pixels")
    parser.add_argument("--input-rate", type=float, metavar="N", help="pictures a second")
    parser.add_argument("--input-codec", metavar="NAME", help="the camera's format, such as mjpeg")
    parser.add_argument("--input-flip", metavar="WAY", help="turn or mirror each picture")
    parser.add_argument("--input-loop", type=int, metavar="N", help="play a clip N times more")
    parser.add_argument("--input-latency", type=int, metavar="MS", help="wait for late packets")


def _run(options: argparse.Namespace) -> None:
    from contextlib import ExitStack

    from vpt_edge.live.watch import watch
    from vpt_edge.runtime.pipeline import Pipeline

    asked: AskOptions = {
        "perception": options.perception,
        "max_new_tokens": options.max_new_tokens,
    }
    schedule = {
        "every": options.every,
        "on_change": options.on_change,
        "longest_silence": options.longest_silence,
    }
    _check(options, schedule, asked)
    with ExitStack() as stack:
        sources = _open_sources(options, stack)
        outputs = stack.enter_context(_open_outputs(options, sources))
        pipeline = stack.enter_context(Pipeline(options.bundle, options.device))
        sources = _record(sources, outputs)
        answers = watch(pipeline, sources, *options.question, **schedule, **asked)
        try:
            _follow(answers, {source.name: source for source in sources}, outputs, options.count)
        finally:
            for source in sources:
                source.close()
            outputs.close()
            warn(_summarize(answers.counts, outputs.losses))


def _check(options: argparse.Namespace, schedule: dict[str, Any], asked: AskOptions) -> None:
    """Refuse before anything is opened."""
    from vpt_edge.live.schedule import Schedule
    from vpt_edge.runtime.options import Options

    Schedule(**schedule)
    Options(**asked)
    if options.count is not None and options.count < 1:
        raise UsageError(f"--count is {options.count}, expected at least 1")
    if options.output_rate is not None and not 0 < options.output_rate <= 1000:
        raise UsageError(f"--output-rate is {options.output_rate}, expected pictures a second")


def _open_sources(options: argparse.Namespace, stack: ExitStack) -> list[Source]:
    """Each is closed with ``stack``."""
    from vpt_edge import live

    inputs = {name: getattr(options, f"input_{name}") for name in INPUTS}
    sources = list["Source"]()
    for address in [options.source, *(options.sources or [])]:
        source = stack.enter_context(live.open(address, **inputs))
        if source.name in [other.name for other in sources]:
            raise UsageError(f"the source {source.name} is given twice")
        sources.append(source)
    return sources


def _open_outputs(options: argparse.Namespace, sources: Sequence[Source]) -> Outputs:
    from vpt_edge.live.sinks import Setting, open_outputs

    names = [source.name for source in sources]
    setting = Setting(names, options.question, options.output_rate)
    targets = {name: getattr(options, name) for name in TARGETS}
    given = {name: target for name, target in targets.items() if target is not None}
    return open_outputs(given, setting)


def _record(sources: Sequence[Source], outputs: Outputs) -> list[Source]:
    """``sources``, with every frame to the outputs where one of them wants that."""
    from functools import partial

    from vpt_edge.live.tee import Tee

    if not outputs.wants_frames:
        return list(sources)
    return [Tee(source, partial(outputs.put, wait=not source.live)) for source in sources]


def _follow(
    answers: Watch, sources: dict[str, Source], outputs: Outputs, count: int | None
) -> None:
    """Hand on what happens, until the sources have ended or ``count`` answers were given."""
    from vpt_edge.live.seen import Failure, Seen, StateChange

    failed = set[str]()  # sources whose last frame did: of a row of failures the first is told
    given = 0
    for event in answers.events():
        if isinstance(event, Seen):
            failed.discard(event.frame.source)
            outputs.put(event, wait=not sources[event.frame.source].live)
            given += 1
            if given == count:
                return
        elif isinstance(event, Failure) and event.frame.source not in failed:
            failed.add(event.frame.source)
            warn(event.describe())
        elif isinstance(event, StateChange) and sources[event.source].live:
            warn(event.describe())


def _summarize(counts: Sequence[WatchCounts], losses: dict[str, int]) -> str:
    """One line: what became of the frames of all sources."""

    def total(name: str) -> int:
        return sum(getattr(each, name) for each in counts)

    text = (
        f"{total('frames')} frames, {total('asked')} asked about; dropped: "
        f"{total('busy')} busy, {total('every')} every, {total('gate')} gate; "
        f"{total('failures')} failed; {total('reconnects')} reconnects"
    )
    for name, lost in losses.items():
        text += f"; {name} lost {lost}"
    return text


if __name__ == "__main__":
    sys.exit(main())
