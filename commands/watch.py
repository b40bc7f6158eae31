"""vpt-watch: ask a bundle about what cameras, streams and clips show."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from vpt_edge.commands.bar import Bar
from vpt_edge.commands.console import Parser, UsageError, exit_code, say, warn
from vpt_edge.commands.pixel_options import read_budget
from vpt_edge.commands.watch_listen import listen
from vpt_edge.commands.watch_options import (
    add_ask_options,
    add_health,
    add_inputs,
    add_outputs,
    add_schedule,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import ExitStack

    from vpt_edge.live.intake import Intake
    from vpt_edge.live.pulse import Pulse
    from vpt_edge.live.recent import Span
    from vpt_edge.live.sinks.outputs import Outputs
    from vpt_edge.live.source import Source
    from vpt_edge.live.watch import Watch
    from vpt_edge.runtime.options import AskOptions
    from vpt_edge.server.watch_service import WatchService

STANDARD_INPUT = 0
TARGETS = ("jsonl", "output", "snapshots", "record", "mqtt", "webhook")
UNWELL = 1  # the exit code of --check
INPUTS = ("width", "height", "rate", "codec", "flip", "loop", "latency")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, 1 where --check finds a problem, 2 for bad input,
    130 after Ctrl-C or SIGTERM.
    """
    problems = list[str]()

    def run() -> None:
        options = _parser().parse_args(arguments)
        if options.check is not None:
            problems.extend(_check_health(options))
        elif options.replay is not None:
            _replay(options)
        else:
            _run(options)

    code = exit_code(run)
    if problems:
        return UNWELL
    return code


def _parser() -> Parser:
    parser = Parser("vpt-watch", "Ask a VPT bundle about what cameras, streams and clips show.")
    parser.add_argument("bundle", help="folder written by vpt-export")
    parser.add_argument("source", help="rtsp://…, http://…, /dev/video0, a clip, a folder, …")
    parser.add_argument("question", nargs="+", help="one or more, for each frame")
    parser.add_argument(
        "--source", dest="sources", action="append", metavar="SOURCE", help="one more source"
    )
    add_schedule(parser)
    parser.add_argument(
        "--count", type=int, metavar="N", help="end after N answers (default: never)"
    )
    add_ask_options(parser)
    add_outputs(parser)
    add_inputs(parser)
    add_health(parser)
    return parser


def _check_health(options: argparse.Namespace) -> list[str]:
    """What is wrong with another watch, said too."""
    from vpt_edge.live.health import check_health

    problems = check_health(options.check, options.silence)
    for problem in problems:
        warn(f"error: {problem}")
    return problems


def _replay(options: argparse.Namespace) -> None:
    """Ask a recording again; says what differs."""
    from vpt_edge.live.recording import read_recording
    from vpt_edge.live.replay import Tally, replay
    from vpt_edge.runtime.pipeline import Pipeline

    given = [name for name in ("source", "listen", *TARGETS) if getattr(options, name) is not None]
    if given or options.bundle is None:
        raise UsageError("--replay takes a bundle and nothing else, see vpt-watch --help")
    count = sum(1 for _ in read_recording(options.replay))
    tally = Tally()
    with Pipeline(options.bundle, options.device) as pipeline, Bar() as bar:
        for replayed in replay(pipeline, options.replay):
            tally.add(replayed)
            bar.show("asking again", tally.asked / count)
            if not replayed.same_answer:
                bar.clear()
                say(replayed.describe())
    say(tally.describe())


def _run(options: argparse.Namespace) -> None:
    from contextlib import ExitStack

    from vpt_edge.live.intake import Intake
    from vpt_edge.live.relay import Relay, summarize
    from vpt_edge.live.watch import watch
    from vpt_edge.runtime.pipeline import Pipeline

    asked: AskOptions = {
        **read_budget(options),
        "first_token_share": options.first_token_share,
        "perception": options.perception,
        "max_new_tokens": options.max_new_tokens,
    }
    if options.still_pixels is not None:
        asked["still_pixels"] = options.still_pixels
    schedule = _choose_schedule(options)
    span = _choose_span(options)
    _check(options, schedule, asked)
    with ExitStack() as stack:
        pulse, service = _open_pulse(options, stack)
        sources = _open_sources(options, stack)
        intake = Intake()
        outputs = stack.enter_context(_open_outputs(options, sources, asked, intake))
        pipeline = stack.enter_context(Pipeline(options.bundle, options.device))
        relay = Relay(sources, outputs, pulse, warn)
        answers = watch(
            pipeline,
            relay.sources,
            *options.question,
            span=span,
            reuse=options.reuse,
            **schedule,
            **asked,
        )
        if service is not None:
            service.open(answers, options.question)
        if options.on_request:
            others = (schedule["every"], options.mqtt, options.listen)
            _take_requests(intake, answers, others != (None, None, None))
        try:
            relay.follow(answers, options.count)
        finally:
            pulse.end()
            if service is not None:
                service.close()
            relay.close()
            warn(summarize(answers.counts, outputs.losses))


def _choose_schedule(options: argparse.Namespace) -> dict[str, Any]:
    """Requests alone, unless something else is given."""
    from vpt_edge.live.schedule import EVERY

    every = options.every
    is_alone = options.on_request and options.on_change is False
    if every is None and not is_alone:
        every = EVERY
    return {
        "every": every,
        "on_change": options.on_change,
        "longest_silence": options.longest_silence,
    }


def _choose_span(options: argparse.Namespace) -> Span | None:
    """The frames that a question is about; None: the newest alone."""
    from vpt_edge.live.recent import Span

    if options.frames is None:
        for name in ("frames_every", "still_pixels"):
            if getattr(options, name) is not None:
                raise UsageError(f"--{name.replace('_', '-')} needs --frames N")
        return None
    if options.record is not None:
        raise UsageError("--record keeps single pictures, leave out --frames")
    if options.frames_every is None:
        return Span(options.frames)
    return Span(options.frames, options.frames_every)


def _take_requests(intake: Intake, answers: Watch, others_ask: bool) -> None:
    """Let standard input ask; when it ends, and nothing else does, the watch ends too."""
    from vpt_edge.live.intake import BYTES
    from vpt_edge.live.line_reader import LineReader

    def end() -> None:
        if not others_ask:
            answers.finish()

    intake.open(answers.ask)
    LineReader(STANDARD_INPUT, BYTES, intake.take, end)


def _check(options: argparse.Namespace, schedule: dict[str, Any], asked: AskOptions) -> None:
    """Refuse before anything is opened."""
    from vpt_edge.live.change import read_threshold
    from vpt_edge.live.schedule import Schedule
    from vpt_edge.runtime.options import Options

    Schedule(**schedule)
    read_threshold("reuse", options.reuse)
    Options(**asked)
    if options.count is not None and options.count < 1:
        raise UsageError(f"--count is {options.count}, expected at least 1")
    if options.output_rate is not None and not 0 < options.output_rate <= 1000:
        raise UsageError(f"--output-rate is {options.output_rate}, expected pictures a second")


def _open_pulse(options: argparse.Namespace, stack: ExitStack) -> tuple[Pulse, WatchService | None]:
    """And what --listen serves. Both are closed with ``stack``."""
    from vpt_edge.live.health import Health
    from vpt_edge.live.pulse import Pulse

    service = None
    health = None
    if options.status is not None or options.listen is not None:
        health = Health(options.status)
    pulse = Pulse(health)
    stack.callback(pulse.close)
    if health is not None and options.listen is not None:
        service = listen(options.listen, health, options.silence, options.on_request, stack)
    return pulse, service


def _open_sources(options: argparse.Namespace, stack: ExitStack) -> list[Source]:
    """Each is closed with ``stack``."""
    from vpt_edge import live
    from vpt_edge.live.secret_file import read_address
    from vpt_edge.live.source import check_live

    inputs = {name: getattr(options, f"input_{name}") for name in INPUTS}
    sources = list["Source"]()
    for address in [options.source, *(options.sources or [])]:
        opened = live.open(read_address(address), eco=options.eco, **inputs)
        source = stack.enter_context(opened)
        if options.on_request:
            check_live(source)
        if source.name in [other.name for other in sources]:
            raise UsageError(f"the source {source.name} is given twice")
        sources.append(source)
    return sources


def _open_outputs(
    options: argparse.Namespace, sources: Sequence[Source], asked: AskOptions, intake: Intake
) -> Outputs:
    from pathlib import Path

    from vpt_edge.live.sinks import Setting, open_outputs

    names = [source.name for source in sources]
    bundle = Path(options.bundle)
    take = None
    if options.on_request:
        take = intake.take
    setting = Setting(names, options.question, bundle, asked, options.output_rate, take)
    targets = {name: getattr(options, name) for name in TARGETS}
    given = {name: target for name, target in targets.items() if target is not None}
    return open_outputs(given, setting)


if __name__ == "__main__":
    sys.exit(main())
