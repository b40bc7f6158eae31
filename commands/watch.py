"""vpt-watch: ask a bundle about what cameras, streams and clips show."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from vpt_edge.commands.bar import Bar
from vpt_edge.commands.console import Parser, UsageError, exit_code, say, warn

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import ExitStack

    from vpt_edge.live.pulse import Pulse
    from vpt_edge.live.sinks.outputs import Outputs
    from vpt_edge.live.source import Source
    from vpt_edge.runtime.options import AskOptions

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
    _add_schedule(parser)
    parser.add_argument(
        "--count", type=int, metavar="N", help="end after N answers (default: never)"
    )
    _add_ask_options(parser)
    _add_outputs(parser)
    _add_inputs(parser)
    _add_health(parser)
    return parser


class _Alone(argparse.Action):
    """An option that asks for nothing else."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        setattr(namespace, self.dest, values)
        for action in parser._actions:
            action.required = False


def _add_health(parser: Parser) -> None:
    parser.add_argument("--status", metavar="FILE", help="keep how it goes in FILE")
    parser.add_argument(
        "--check", action=_Alone, metavar="FILE", help="only say whether the watch of FILE is well"
    )
    parser.add_argument(
        "--silence",
        type=float,
        default=30.0,
        metavar="S",
        help="with --check: for how long it, and a camera, may be silent (default 30)",
    )


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

    given = [name for name in ("source", *TARGETS) if getattr(options, name) is not None]
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
    parser.add_argument("--record", metavar="DIR", help="keep what is asked, to ask it again")
    parser.add_argument(
        "--replay",
        action=_Alone,
        metavar="DIR",
        help="only ask the bundle again what was recorded, and say what differs",
    )
    parser.add_argument(
        "--mqtt", metavar="URL", help="a broker, as mqtts://user:password@host/topic"
    )
    parser.add_argument(
        "--webhook", metavar="URL", help="a program that is posted answers; set VPT_WEBHOOK_SECRET"
    )


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

    from vpt_edge.live.relay import Relay, summarize
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
        pulse = _open_pulse(options, stack)
        sources = _open_sources(options, stack)
        outputs = stack.enter_context(_open_outputs(options, sources, asked))
        pipeline = stack.enter_context(Pipeline(options.bundle, options.device))
        relay = Relay(sources, outputs, pulse, warn)
        answers = watch(pipeline, relay.sources, *options.question, **schedule, **asked)
        try:
            relay.follow(answers, options.count)
        finally:
            pulse.end()
            relay.close()
            warn(summarize(answers.counts, outputs.losses))


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


def _open_pulse(options: argparse.Namespace, stack: ExitStack) -> Pulse:
    """It is closed with ``stack``."""
    from vpt_edge.live.health import Health
    from vpt_edge.live.pulse import Pulse

    health = None
    if options.status is not None:
        health = Health(options.status)
    pulse = Pulse(health)
    stack.callback(pulse.close)
    return pulse


def _open_sources(options: argparse.Namespace, stack: ExitStack) -> list[Source]:
    """Each is closed with ``stack``."""
    from vpt_edge import live
    from vpt_edge.live.secret_file import read_address

    inputs = {name: getattr(options, f"input_{name}") for name in INPUTS}
    sources = list["Source"]()
    for address in [options.source, *(options.sources or [])]:
        source = stack.enter_context(live.open(read_address(address), **inputs))
        if source.name in [other.name for other in sources]:
            raise UsageError(f"the source {source.name} is given twice")
        sources.append(source)
    return sources


def _open_outputs(
    options: argparse.Namespace, sources: Sequence[Source], asked: AskOptions
) -> Outputs:
    from pathlib import Path

    from vpt_edge.live.sinks import Setting, open_outputs

    names = [source.name for source in sources]
    bundle = Path(options.bundle)
    setting = Setting(names, options.question, bundle, asked, options.output_rate)
    targets = {name: getattr(options, name) for name in TARGETS}
    given = {name: target for name, target in targets.items() if target is not None}
    return open_outputs(given, setting)


if __name__ == "__main__":
    sys.exit(main())
