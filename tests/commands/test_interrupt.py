"""Ctrl-C, SIGTERM and a terminal that goes away end a command alike, at any moment."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from golden import TAGS, Exporter

from vpt_edge.commands import console
from vpt_edge.commands.interrupt import interrupts
from vpt_edge.runtime import Bundle
from vpt_edge.runtime.errors import VptError

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
# Whatever the tests were started with: a background job ignores the one, nohup the other.
DEFAULT = """import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
"""
SPEAK = f"""{DEFAULT}
import contextlib, os, pathlib, sys, time
from vpt_edge.commands import console
def send(number):
    os.kill(os.getpid(), number)
    time.sleep(0.05)
def command():
    {{}}
sys.exit(console.exit_code(command))
"""


def run(code: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("number", SIGNALS)
def test_each_signal_ends_a_command_as_ctrl_c_does(number: int) -> None:
    body = f"try: send({number}); time.sleep(60)\n    finally: print('put away')"
    assert run(SPEAK.format(body)) == (130, "put away\n", "stopped\n")


@pytest.mark.parametrize(
    "body",
    [
        "with contextlib.suppress(BaseException): send(2)",
        "try: send(2)\n    except BaseException: raise ImportError('numpy')",
        "try: send(2)\n    except BaseException: raise ZeroDivisionError from None",
        "try: send(2)\n    except BaseException: sys.exit(3)",
        "import weakref; x = set(); weakref.finalize(x, lambda: None); "
        "y = weakref.ref(x, lambda _: send(2)); del x",
        "with contextlib.suppress(BaseException): send(2)\n    "
        "from vpt_edge.commands.bar import Bar; Bar().show('stage', 0.5); print('goes on')",
    ],
)
def test_a_library_that_swallows_it_changes_nothing(body: str) -> None:
    assert run(SPEAK.format(body)) == (130, "", "stopped\n")


def test_a_signal_that_comes_twice_disturbs_no_cleaning_up() -> None:
    """A terminal, a parent and a service manager send theirs together."""
    body = "try: send(2)\n    finally: send(15); send(2); print('put away')"
    assert run(SPEAK.format(body)) == (130, "put away\n", "stopped\n")


def test_a_later_one_is_heard_again(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter((1.0, 1.9, 2.1))
    monkeypatch.setattr("vpt_edge.commands.interrupt.time.monotonic", lambda: next(now))
    with interrupts:
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
        assert interrupts.seen


def test_what_is_ignored_stays_so() -> None:
    body = "send(1); print('goes on')"
    ignore = "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
    code = SPEAK.format(body).replace("import contextlib", f"{ignore}import contextlib")
    assert run(code) == (0, "goes on\n", "")


def test_signals_are_the_callers_again() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    assert console.exit_code(lambda: None) == 0
    assert [signal.getsignal(number) for number in SIGNALS] == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_before_and_after_a_command_there_is_nothing_but_a_line(number: int) -> None:
    begin = f"{DEFAULT}import os, sys, time; sys.argv[0] = '/usr/bin/vpt-run'; "
    send = f"os.kill(os.getpid(), {int(number)}); time.sleep(1)"
    assert run(f"{begin}import vpt_edge.commands; {send}") == (130, "", "stopped\n")
    ended = "from vpt_edge.commands import console; console.exit_code(lambda: None)"
    assert run(f"{begin}{ended}; {send}") == (130, "", "stopped\n")


def test_importing_a_command_leaves_the_signals_alone() -> None:
    code = (
        f"{DEFAULT}import vpt_edge.commands.run, sys;"
        "sys.exit(signal.getsignal(signal.SIGINT) is not signal.default_int_handler)"
    )
    assert run(code) == (0, "", "")


def start_export(place: Path) -> subprocess.Popen[str]:
    arguments = [str(TAGS), "-o", str(place), "--precision", "fp32"]
    return subprocess.Popen(
        [sys.executable, "-m", "vpt_edge.commands.export", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_file(folder: Path, pattern: str, process: subprocess.Popen[str]) -> None:
    while not list(folder.glob(pattern)) and process.poll() is None:
        time.sleep(0.02)


@pytest.mark.parametrize("moment", [".bundle.*/embeddings.bin", ".bundle.*/vision_encoder.onnx"])
def test_sigterm_ends_an_export_with_the_old_bundle_whole(
    moment: str, exported: Exporter, tmp_path: Path
) -> None:
    """Beginning with the trace of the first graph, and behind it."""
    place = Path(shutil.copytree(exported(TAGS, "fp16").path, tmp_path / "bundle"))
    process = start_export(place)
    wait_for_file(tmp_path, moment, process)
    process.send_signal(signal.SIGTERM)
    assert (*process.communicate(timeout=120), process.returncode) == ("", "stopped\n", 130)
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    assert Bundle.open(place).manifest.precision == "fp16"


def test_after_sigkill_the_next_export_takes_away_what_is_left(tmp_path: Path) -> None:
    place = tmp_path / "bundle"
    process = start_export(place)
    wait_for_file(tmp_path, ".bundle.*/embeddings.bin", process)
    process.kill()
    process.communicate()
    assert len(list(tmp_path.iterdir())) == 2  # a lock that nobody holds, and the folder
    from vpt_edge.export.exporter import export

    with pytest.raises(VptError):
        export("no/such/checkpoint", place, precision="fp32")
    assert list(tmp_path.iterdir()) == []
