"""How every command reads options, shows progress, prints and ends."""

from __future__ import annotations

import importlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from vpt_edge.calibration.metrics import METRICS
from vpt_edge.commands import bench, console
from vpt_edge.commands.bar import Bar
from vpt_edge.device.bench import QUESTION, RUNS
from vpt_edge.runtime.errors import VptError

COMMANDS = ("bench", "build", "doctor", "eval", "export", "run", "watch")
ESCAPE = "\x1b]0;owned\x07"


def main_of(command: str) -> Any:
    return importlib.import_module(f"vpt_edge.commands.{command}").main


@pytest.mark.parametrize("command", COMMANDS)
def test_a_bad_option_is_one_line(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main_of(command)(["--frobnicate"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert printed.err.endswith(f", see vpt-{command} --help\n")
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize("option", ["--max-new-tokens", "--perception", "--{}"])
def test_a_long_option_is_not_shown_again(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = "x" * 100_000
    assert main_of("run")(["bundle", "picture", "question", option.format(text), text]) == 2
    printed = capsys.readouterr().err
    assert len(printed) < 2000
    assert printed.count("\n") == 1


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_tells_its_version(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match=r"^0$"):
        main_of(command)(["--version"])
    assert capsys.readouterr().out == f"vpt-edge {version('vpt-edge')}\n"


def test_help_imports_nothing_heavy() -> None:
    """Ctrl-C while libraries load is a command's own, for they load when it runs."""
    code = (
        "import contextlib, importlib, sys\n"
        f"for name in {COMMANDS}:\n"
        "    with contextlib.suppress(SystemExit):\n"
        "        importlib.import_module(f'vpt_edge.commands.{name}').main(['--help'])\n"
        "heavy = {'numpy', 'av', 'PIL', 'tokenizers', 'onnxruntime', 'torch', 'onnx', 'tensorrt'}\n"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_ctrl_c_while_libraries_load(tmp_path: Path) -> None:
    """A module that takes its time stands in for one of ours."""
    (tmp_path / "tokenizers.py").write_text(
        "import pathlib, time\n"
        f"pathlib.Path({str(tmp_path / 'mark')!r}).write_text('loading')\n"
        "time.sleep(60)\n"
    )
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "from vpt_edge.commands.run import main; sys.exit(main(['a', 'b', 'c']))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (tmp_path / "mark").exists() and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "stopped\n")


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (VptError("the bundle\nis gone", "make it again"), 2, "error: the bundle is gone; make"),
        (OSError(28, "No space left on device"), 2, "error: [Errno 28] No space left on device"),
        (MemoryError(), 2, "error: MemoryError"),
        (RuntimeError("can't start new thread"), 2, "error: can't start new thread"),
        (KeyboardInterrupt(), 130, "stopped"),
        (VptError(f"no {ESCAPE}"), 2, "error: no \\u001b]0;owned\\u0007"),
    ],
)
def test_a_command_ends_with_a_line(
    error: BaseException, code: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise error

    assert console.exit_code(fail) == code
    printed = capsys.readouterr().err
    assert printed.startswith(text)
    assert printed.count("\n") == 1


def test_an_error_of_ours_is_not_hidden() -> None:
    for kind in (ZeroDivisionError, RuntimeError):

        def fail(kind: type[Exception] = kind) -> None:
            raise kind

        with pytest.raises(kind):
            console.exit_code(fail)


def test_control_characters_reach_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    console.say(f"a\tb\nc{ESCAPE}\r\x9b1m")
    assert capsys.readouterr().out == "a\tb\nc\\u001b]0;owned\\u0007\\u000d\\u009b1m\n"
    console.say_json({"text": f"答 {ESCAPE}\x9b"})
    printed = capsys.readouterr().out
    assert console.CONTROL.search(printed) is None
    assert json.loads(printed) == {"text": f"答 {ESCAPE}\x9b"}


SPEAK = "import sys; from vpt_edge.commands import console;sys.exit(console.exit_code(lambda: {}))"


def speak(call: str, redirection: str = "", encoding: str = "utf-8") -> tuple[int, str, str]:
    """Exit code and what is printed by a command that does ``call``."""
    done = subprocess.run(
        ["bash", "-c", f'"$0" -c "$1" {redirection}', sys.executable, SPEAK.format(call)],
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_an_encoding_that_lacks_letters_takes_escapes() -> None:
    assert speak("console.say(chr(0x7b54))", encoding="cp1252") == (0, "\\u7b54\n", "")
    assert speak("console.warn(chr(0x7b54))", encoding="cp1252") == (0, "", "\\u7b54\n")
    assert speak("console.say(chr(0xdcff))") == (0, "\\udcff\n", "")
    code, printed, _ = speak("console.say_json([chr(0x1f600)])", encoding="cp1252")
    assert (code, json.loads(printed)) == (0, ["\U0001f600"])


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_slow_reader_gets_everything(unbuffered: str) -> None:
    """Whoever began the pipe, such as Node, may have made it one that does not block."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    process = subprocess.Popen(
        [sys.executable, "-c", SPEAK.format("console.say(chr(97) * 300_000)")],
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        stdout=write,
    )
    os.close(write)
    time.sleep(0.5)
    with os.fdopen(read) as stream:
        assert len(stream.read()) == 300_001
    assert process.wait() == 0


def test_closed_streams_are_no_error() -> None:
    assert speak("console.say(chr(97))", ">&-") == (0, "", "")
    assert speak("console.warn(chr(97))", "2>&-") == (0, "", "")
    assert speak("console.say(str(open(0).read()))", "<&-") == (0, "\n", "")


def test_a_file_does_not_get_the_number_of_a_closed_stream(tmp_path: Path) -> None:
    """What a library prints would be written into it."""
    call = f"open({str(tmp_path / 'file')!r}, 'w').write(str(__import__('os').write(1, b'x')))"
    assert speak(call, ">&-")[0] == 0
    assert (tmp_path / "file").read_text() == "1"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_a_full_disk_behind_stdout_is_one_line() -> None:
    code, _, err = speak("console.say(chr(97))", ">/dev/full")
    assert (code, err) == (2, "error: [Errno 28] No space left on device\n")


def test_an_old_name_is_taken_with_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    from vpt_edge.commands.export import _parser

    arguments = ["checkpoint", "-o", "bundle", "--precision", "int8"]
    options = _parser().parse_args([*arguments, "--observer", "mse"])
    assert options.range_method == "mse"
    assert "warning: --observer is now --range-method" in capsys.readouterr().err
    assert _parser().parse_args([*arguments, "--range-method", "mse"]).range_method == "mse"
    assert _parser().parse_args(arguments).range_method == "percentile"
    assert capsys.readouterr().err == ""
    assert "--observer" not in _parser().format_help()


def test_what_help_says_is_true() -> None:
    """It is written down where nothing heavy is imported."""
    assert tuple(METRICS) == console.METRICS
    text = " ".join(bench._parser().format_help().split())
    assert f"default: {QUESTION}" in text
    assert f"answers to time (default {RUNS})" in text


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_bar_is_one_line_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    now = iter((100.0, 100.0, 103.0, 120.0))
    monkeypatch.setattr("vpt_edge.commands.bar.time.monotonic", lambda: next(now))
    terminal = Terminal()
    with Bar(terminal) as bar:
        bar.show("decoder", 0.25)
        bar.show("decoder", 0.5, f"timing {ESCAPE}")
    lines = terminal.getvalue().split("\r")
    assert lines[1] == "decoder [######------------------]  25% 0:03\x1b[K"
    assert lines[2].startswith("decoder [############------------]  50% 0:20, about 0:20 left  tim")
    assert ESCAPE not in lines[2]
    assert lines[3] == "\x1b[K"


def test_the_bar_is_silent_elsewhere() -> None:
    stream = io.StringIO()
    with Bar(stream) as bar:
        bar.show("decoder", 0.5)
    assert stream.getvalue() == ""
