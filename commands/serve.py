"""vpt-serve: make a bundle an endpoint for OpenAI's clients, with a page."""

from __future__ import annotations

import argparse
import functools
import sys
from typing import TYPE_CHECKING

from vpt_edge.commands.console import Parser, UsageError, exit_code, say, warn
from vpt_edge.commands.serve_options import (
    add_access,
    add_answers,
    add_limits,
    add_place,
    add_watching,
    read_settings,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vpt_edge.runtime.pipeline import Pipeline
    from vpt_edge.server.certificate import Certificate
    from vpt_edge.server.settings import Settings

EVERY_ADDRESS = ("://0.0.0.0:", "://[::]:")  # where a server listens, and nobody can ask
PICTURE = "PICTURE"
QUESTION = (
    '{"messages":[{"role":"user","content":[{"type":"text","text":"What is this?"},'
    '{"type":"image_url","image_url":{"url":"data:image/jpeg;base64,PICTURE"}}]}]}'
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code: 2 for bad input, 130 after Ctrl-C or SIGTERM."""

    def run() -> None:
        _run(_parser().parse_args(arguments))

    return exit_code(run)


def _parser() -> Parser:
    parser = Parser("vpt-serve", "Make a VPT bundle an endpoint for OpenAI's clients.")
    parser.add_argument("bundle", help="folder written by vpt-export")
    parser.add_device()
    add_place(parser)
    add_access(parser)
    add_answers(parser)
    add_limits(parser)
    add_watching(parser)
    return parser


def _run(options: argparse.Namespace) -> None:
    _check_options(options)
    try:
        from vpt_edge.server.listener import Listener
    except ImportError as error:
        problem = f"{error.name} is not installed, but serving needs it"
        raise UsageError(f"{problem}; pip install 'vpt-edge[serve]'") from error
    from vpt_edge.live.systemd import Notifier
    from vpt_edge.server.access_log import STANDARD_OUTPUT
    from vpt_edge.server.allocator import return_large_blocks

    settings = read_settings(options)
    _check_access(options, settings)
    notifier = Notifier()
    return_large_blocks()

    def notify(address: str) -> None:
        text = describe(address, has_keys=bool(settings.keys), model=settings.model)
        if settings.access_log == STANDARD_OUTPUT:  # which is for lines of JSON alone
            warn(text)
        else:
            say(text)
        notifier.ready()

    listener = Listener(
        functools.partial(_open_pipeline, options),
        settings,
        options.host,
        options.port,
        notify,
        _read_certificate(options),
    )
    listener.service.stopping.then(notifier.stopping)
    listener.heartbeat.then(notifier.beat)
    try:
        listener.run()
    finally:
        notifier.close()


def _open_pipeline(options: argparse.Namespace) -> Pipeline:
    from vpt_edge.runtime.pipeline import Pipeline

    return Pipeline(options.bundle, options.device)


def _check_access(options: argparse.Namespace, settings: Settings) -> None:
    """Raises VptError where the server would be open to everybody."""
    from vpt_edge.server.hosts import check_exposure
    from vpt_edge.server.keys import find_readers

    check_exposure(options.host, has_keys=bool(settings.keys), insecure=options.insecure)
    if options.api_key_file is not None:
        problem = find_readers(options.api_key_file)
        if problem is not None:
            warn(f"warning: {problem}")


def _check_options(options: argparse.Namespace) -> None:
    """Refuse before anything is loaded."""
    for name in ("max_tokens", "queue", "time_limit"):
        value = getattr(options, name)
        if not value > 0:
            raise UsageError(f"--{name.replace('_', '-')} is {value}, expected more than 0")
    if options.cache_mib < 0:
        raise UsageError(f"--cache-mib is {options.cache_mib}, expected 0 or more")
    if options.log_questions and options.access_log is None:
        raise UsageError("--log-questions needs --access-log FILE")
    if (options.tls_cert is None) != (options.tls_key is None):
        raise UsageError("--tls-cert and --tls-key belong together")


def _read_certificate(options: argparse.Namespace) -> Certificate | None:
    from vpt_edge.server.certificate import Certificate

    if options.tls_cert is None:
        return None
    return Certificate(options.tls_cert, options.tls_key)


def describe(address: str, *, has_keys: bool, model: str) -> str:
    """What is served, where, and how to ask it."""
    asked = address
    for every in EVERY_ADDRESS:
        asked = asked.replace(every, "://127.0.0.1:")
    begin, _, end = QUESTION.partition(PICTURE)
    key = ""
    if has_keys:
        key = ' -H "Authorization: Bearer $KEY"'
    lines = (
        f"serves {model} at {address}",
        f"next: open {asked}/ in a browser, or ask about picture.jpg:",
        f"(printf %s '{begin}'; base64 -w0 picture.jpg; printf %s '{end}') | "
        f"curl {asked}/v1/chat/completions{key} -H 'Content-Type: application/json' -d @-",
    )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
