"""What an operator may set."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vpt_edge.runtime.perception.actions import Mode

MEBIBYTE = 1 << 20


@dataclass(frozen=True)
class Settings:
    """``model``: the name under which the bundle is served; a client may also leave it out.

    ``perception``: of questions that say nothing about it; None is the mode in which the model
    looks again. ``most_pictures``, ``thinks``: how many pictures a question may be about, and
    whether thoughts come apart from the answer, which the bundle says when it is loaded.
    ``allow_urls``: hosts from which pictures are fetched; ``allow_files``: the folder below which
    file: addresses may point. ``keys``: one of them must come with each request, where there are
    any. ``origins``: pages of other addresses that may ask, in small letters. ``hosts``: names
    under which the server may be reached, besides its own, in small letters; "*" is any. ``watch``:
    addresses of cameras and streams that it watches, or the files that hold them, as @FILE.
    ``access_log``: a file with a line for each request, "-" for standard output; ``log_questions``:
    whether that holds question and answer.

    Limits: ``max_body`` in bytes, of a picture's file too, ``max_bodies`` of all open requests
    together, ``max_pixels`` of a picture, ``max_messages``, ``max_tokens`` of a turn,
    ``queue_size`` requests that wait, ``time_limit`` in seconds, ``step_seconds`` that one step of
    an answer takes at the longest, ``cache_bytes`` of pictures kept for the next question,
    ``max_connections``, ``header_seconds`` for the head of a request, ``body_seconds`` for its
    body, ``write_seconds`` in which a client must take some of its reply, and ``grace_seconds`` for
    the answer that is computed when the server ends.
    """

    model: str
    perception: Mode | None = None
    most_pictures: int = 1
    thinks: bool = False
    allow_urls: tuple[str, ...] = ()
    allow_files: Path | None = None
    keys: tuple[str, ...] = field(default=(), repr=False)
    origins: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    watch: tuple[str, ...] = field(default=(), repr=False)  # they may hold passwords
    access_log: str | None = None
    log_questions: bool = False
    max_body: int = 20 * MEBIBYTE
    max_bodies: int = 512 * MEBIBYTE
    max_pixels: int = 50_000_000
    max_messages: int = 256
    max_tokens: int = 1024
    queue_size: int = 16
    time_limit: float = 120.0
    step_seconds: float = 120.0
    cache_bytes: int = 256 * MEBIBYTE
    max_connections: int = 128
    header_seconds: float = 10.0
    body_seconds: float = 60.0
    write_seconds: float = 30.0
    grace_seconds: float = 10.0
