"""How a command reads its options, shows progress, prints, and ends.

Nothing heavy is imported here, and nothing by a command before ``exit_code`` runs it: Ctrl-C while
libraries load ends it as at any other time.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import os
import re
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

from vpt_edge.commands.interrupt import interrupts

BAD_INPUT = 2
INTERRUPTED = 130
NO_THREAD = "can't start new thread"  # Python, where memory or processes are used up
METRICS = ("exact", "vqa", "anls", "yesno", "contains")  # of calibration.metrics
# What moves a terminal's cursor, or worse: all control characters but tab and newline, and what
# shows a text in another order than it is read.
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def exit_code(command: Callable[[], object]) -> int:
    """Run ``command``: 0 when it returns, 2 after one line for bad input or a full disk, 130 after
    Ctrl-C or SIGTERM.
    """
    prepare_streams()
    with interrupts, _printable_output():
        try:
            return _run(command)
        except KeyboardInterrupt:
            interrupts.silence()
            warn("stopped")
            return INTERRUPTED


def _run(command: Callable[[], object]) -> int:
    try:
        command()
        interrupts.check()
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as head, has seen enough
        _discard_output()
    except SystemExit:
        interrupts.check()
        raise
    except Exception as error:
        interrupts.check()  # a library has made another error of it
        if not _is_expected(error):
            raise
        if isinstance(error, OSError):  # what could not be written is not tried again at the end
            _discard_unwritten()
        warn(f"error: {_one_line(error)}")
        return BAD_INPUT
    return 0


def _is_expected(error: Exception) -> bool:
    """Whether one line says enough."""
    from vpt_edge.runtime.errors import VptError

    known = isinstance(error, VptError | OSError | MemoryError | UsageError)
    return known or str(error) == NO_THREAD


def _one_line(error: Exception) -> str:
    from vpt_edge.runtime.errors import VptError

    text = str(error) or type(error).__name__
    return str(VptError(" ".join(text.split())))  # cut where it is long


def prepare_streams() -> None:
    """Make the standard streams take any text, where they are closed as well, and a traceback
    harmless.

    A closed one is opened on nothing: the next file would get its number, and what a library
    prints. One that does not block would lose text. What the encoding lacks is an escape: \\u7b54.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
        if hasattr(os, "set_blocking"):  # not on Windows
            os.set_blocking(number, True)
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8"))
    sys.excepthook = show_traceback
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # no stand-in
            stream.reconfigure(errors="backslashreplace")


@contextlib.contextmanager
def _printable_output() -> Iterator[None]:
    """Let what Python prints by itself go through ``warn``: warnings, libraries' logs, and errors
    that end in nobody's hands.
    """
    last_resort = logging.lastResort
    unraisable = sys.unraisablehook
    in_thread = threading.excepthook
    with warnings.catch_warnings():
        # Of a picture that it takes or refuses in a line of ours.
        warnings.filterwarnings("ignore", module=r"PIL\.")
        warnings.showwarning = lambda message, *_: warn(f"hint: {message}")
        logging.lastResort = _Log(logging.WARNING)
        sys.unraisablehook = threading.excepthook = _show_ignored
        try:
            yield
        finally:
            logging.lastResort = last_resort
            sys.unraisablehook = unraisable
            threading.excepthook = in_thread


class _Log(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        warn(self.format(record))


def _show_ignored(error: Any) -> None:
    """Print an error that cannot be raised where it happens; Ctrl-C is known without."""
    if not issubclass(error.exc_type, KeyboardInterrupt | SystemExit):
        show_traceback(error.exc_type, error.exc_value, error.exc_traceback)


def show_traceback(*error: Any) -> None:
    """Print an error that nobody expected."""
    warn("".join(traceback.format_exception(*error)).rstrip())


def _discard_output() -> None:
    """Let what is still to be printed go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _discard_unwritten() -> None:
    try:
        sys.stdout.flush()
    except OSError:
        _discard_output()


class UsageError(Exception):
    """An option or argument that the command does not take."""


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, and which knows --version."""

    def __init__(self, prog: str, description: str) -> None:
        super().__init__(prog=prog, description=description)
        self.add_argument(
            "--version", action=_Version, nargs=0, help="print the version of vpt-edge and end"
        )

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}, see {self.prog} --help")

    def add_perception(self) -> None:
        self.add_argument(
            "--perception",
            choices=("free", "region", "reencode", "off"),
            default="free",
            help="region and reencode ask the model to look again; free lets it decide; "
            "off takes its triggers for text",
        )

    def add_max_new_tokens(self) -> None:
        self.add_argument(
            "--max-new-tokens",
            type=int,
            default=1024,
            metavar="N",
            help="for each turn (default 1024)",
        )

    def add_first_token_share(self) -> None:
        self.add_argument(
            "--first-token-share",
            type=float,
            metavar="R",
            help="share of a first view's visual tokens that the language model is given, more "
            "than 0 and at most 1 (default what the bundle says, else 1)",
        )

    def add_device(self) -> None:
        self.add_argument("--device", default="cpu", help="where the graphs run (default cpu)")

    def add_json(self, text: str = "print one JSON object instead of the text") -> None:
        self.add_argument("--json", action="store_true", help=text)

    def add_renamed(self, old: str, new: str) -> None:
        """Take the option ``new`` by its ``old`` name as well, with a warning."""
        (action,) = (each for each in self._actions if new in each.option_strings)
        self.add_argument(
            old,
            dest=action.dest,
            default=action.default,
            choices=action.choices,
            action=_Renamed,
            new=new,
            help=argparse.SUPPRESS,
        )


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *rest: object) -> None:
        say(f"vpt-edge {version()}")
        parser.exit()


class _Renamed(argparse.Action):
    def __init__(self, *arguments: Any, new: str, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._new = new

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        warn(
            f"warning: {option_string} is now {self._new}; the old name goes with the next version"
        )
        setattr(namespace, self.dest, values)


def version() -> str:
    """The version of vpt-edge that is installed."""
    import importlib.metadata

    return importlib.metadata.version("vpt-edge")


def say(text: str = "", end: str = "\n") -> None:
    """Print what may come from a model, a manifest or a file name: its control characters never
    reach a terminal.
    """
    print(printable(text), end=end, flush=True)


def warn(text: str) -> None:
    """The same to the standard error, where somebody reads it."""
    with contextlib.suppress(OSError):
        print(printable(text), file=sys.stderr, flush=True)


def say_json(data: object) -> None:
    """Print one JSON object in one line, in ASCII where the stream's encoding lacks letters."""
    unicode = (sys.stdout.encoding or "").lower().startswith("utf")
    say(json.dumps(data, ensure_ascii=not unicode))


def printable(text: str) -> str:
    """``text`` with its control characters as escapes that JSON takes too; tab and newline stay."""
    return CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
