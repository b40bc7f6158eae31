"""The options of vpt-watch, in groups."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vpt_edge.commands.pixel_options import add_budget

if TYPE_CHECKING:
    from vpt_edge.commands.console import Parser


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


def add_health(parser: Parser) -> None:
    parser.add_argument("--status", metavar="FILE", help="keep how it goes in FILE")
    parser.add_argument(
        "--check", action=_Alone, metavar="FILE", help="only say whether the watch of FILE is well"
    )
    parser.add_argument(
        "--silence",
        type=float,
        default=30.0,
        metavar="S",
        help="with --check and --listen: for how long it, and a camera, may be silent (default 30)",
    )
    parser.add_argument(
        "--listen",
        metavar="HOST:PORT",
        help="answer there, by HTTP: POST /ask with --on-request, GET /health and /metrics",
    )


def add_schedule(parser: Parser) -> None:
    when = parser.add_mutually_exclusive_group()
    when.add_argument(
        "--every",
        type=float,
        metavar="S",
        help="seconds between questions (default 2, or never with --on-request)",
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
    parser.add_argument(
        "--reuse",
        type=float,
        nargs="?",
        default=False,
        const=True,
        metavar="T",
        help="keep what was computed of a picture for frames that differ from it by less than T "
        "(0.06)",
    )
    parser.add_argument(
        "--on-request",
        action="store_true",
        help="ask when told to: by a line on standard input, at the topic/ask of --mqtt, or at the "
        "/ask of --listen",
    )


def add_ask_options(parser: Parser) -> None:
    parser.add_perception()
    parser.add_argument(
        "--frames", type=int, metavar="N", help="ask about the last N frames, as one scene"
    )
    parser.add_argument(
        "--frames-every", type=float, metavar="S", help="seconds between them (default 0.5)"
    )
    parser.add_argument(
        "--still-pixels", type=float, metavar="T", help="leave out what changed by less than T"
    )
    parser.add_max_new_tokens()
    add_budget(parser)
    parser.add_first_token_share()
    parser.add_device()


def add_outputs(parser: Parser) -> None:
    parser.add_argument("--jsonl", metavar="FILE", help="a line of JSON an answer; - prints them")
    parser.add_argument(
        "--output",
        metavar="OUT.mp4",
        help="the pictures with the answers drawn in; rtsp://@:8554/NAME serves them, "
        "display://0 is a window",
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


def add_inputs(parser: Parser) -> None:
    parser.add_argument("--input-width", type=int, metavar="N", help="pixels")
    parser.add_argument("--input-height", type=int, metavar="N", help="pixels")
    parser.add_argument("--input-rate", type=float, metavar="N", help="pictures a second")
    parser.add_argument("--input-codec", metavar="NAME", help="the camera's format, such as mjpeg")
    parser.add_argument("--input-flip", metavar="WAY", help="turn or mirror each picture")
    parser.add_argument("--input-loop", type=int, metavar="N", help="play a clip N times more")
    parser.add_argument("--input-latency", type=int, metavar="MS", help="wait for late packets")
    parser.add_argument(
        "--eco",
        action="store_true",
        help="decode only what is asked about, and of a clip only its key frames",
    )
