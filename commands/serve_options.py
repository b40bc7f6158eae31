"""The options of vpt-serve, in groups."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from vpt_edge.commands.console import Parser
    from vpt_edge.server.settings import Settings

PORT = 8000
MEBIBYTE = 1 << 20


def add_place(parser: Parser) -> None:
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="where it listens (default 127.0.0.1: this machine alone)",
    )
    parser.add_argument(
        "--port", type=int, default=PORT, metavar="N", help="default 8000; 0 is one that is free"
    )
    parser.add_argument("--tls-cert", type=Path, metavar="FILE", help="a certificate, as PEM")
    parser.add_argument("--tls-key", type=Path, metavar="FILE", help="its key, as PEM")


def add_access(parser: Parser) -> None:
    parser.add_argument(
        "--api-key-file", type=Path, metavar="FILE", help="one key a line; clients must show one"
    )
    parser.add_argument(
        "--insecure", action="store_true", help="let other machines ask without a key"
    )
    _add_list(parser, "--allow-host", "NAME", "a name by which the server is reached")
    _add_list(parser, "--allow-origin", "ORIGIN", "a page of another address that may ask")
    _add_list(parser, "--allow-urls", "HOST", "from where pictures are fetched")
    parser.add_argument(
        "--allow-files", type=Path, metavar="DIR", help="below which file: addresses may point"
    )


def _add_list(parser: Parser, name: str, value: str, text: str) -> None:
    parser.add_argument(name, nargs="+", action="extend", metavar=value, help=text)


def add_answers(parser: Parser) -> None:
    parser.add_argument(
        "--name", metavar="NAME", help="what clients call the model (default: the folder's name)"
    )
    parser.add_argument(
        "--perception",
        choices=("free", "region", "reencode", "off"),
        help="where a request says nothing (default: that in which the model looks again)",
    )
    parser.add_argument(
        "--max-tokens", type=int, default=1024, metavar="N", help="for each turn (default 1024)"
    )


def add_limits(parser: Parser) -> None:
    parser.add_argument(
        "--queue", type=int, default=16, metavar="N", help="requests that may wait (default 16)"
    )
    parser.add_argument(
        "--time-limit", type=float, default=120.0, metavar="S", help="of a request (default 120.0)"
    )
    parser.add_argument(
        "--cache-mib",
        type=int,
        default=256,
        metavar="N",
        help="memory for pictures that are asked about again (default 256)",
    )


def add_watching(parser: Parser) -> None:
    parser.add_argument(
        "--watch", action="append", metavar="URI", help="a camera or a stream, to ask about"
    )
    parser.add_argument(
        "--access-log", metavar="FILE", help="a line a request; - is the standard output"
    )
    parser.add_argument(
        "--log-questions", action="store_true", help="let the access log hold question and answer"
    )


def read_settings(options: argparse.Namespace) -> Settings:
    """What is served and how. Raises VptError for keys and pages that cannot be read."""
    from vpt_edge.server.keys import read_keys
    from vpt_edge.server.origins import read_origin
    from vpt_edge.server.settings import Settings

    keys: tuple[str, ...] = ()
    if options.api_key_file is not None:
        keys = read_keys(options.api_key_file)
    hosts = [name.lower() for name in options.allow_host or ()]
    return Settings(
        model=options.name or Path(options.bundle).resolve().name,
        perception=options.perception,
        allow_urls=tuple(options.allow_urls or ()),
        allow_files=options.allow_files,
        keys=keys,
        origins=tuple(map(read_origin, options.allow_origin or ())),
        hosts=tuple(hosts),
        watch=tuple(options.watch or ()),
        access_log=options.access_log,
        log_questions=options.log_questions,
        max_tokens=options.max_tokens,
        queue_size=options.queue,
        time_limit=options.time_limit,
        cache_bytes=options.cache_mib * MEBIBYTE,
    )
