"""What a model, a manifest, a file name or an option says never reaches a terminal raw, whichever
way it takes; and no reader's fault costs the work.
"""

from __future__ import annotations

import ast
import functools
import importlib
import json
import logging
import os
import subprocess
import sys
import threading
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from golden import ROOT
from manifests import altered
from pictures import file_of, noise
from PIL import Image

from benchmarks import density
from vpt_edge.commands import console
from vpt_edge.commands import run as run_command
from vpt_edge.commands.bar import Bar
from vpt_edge.runtime import pipeline
from vpt_edge.runtime.errors import ImageError
from vpt_edge.runtime.image import open_picture
from vpt_edge.runtime.testing import Script, tiny_bundle

HOSTILE = "\x1b]0;owned\x07\x9b31m\x7f\u202etxt\u2066\x08\x00"
NAME = HOSTILE.replace("\x00", "")  # no file name or argument has one
PRINTERS = {
    "commands/bar.py",  # what is printable
    "commands/console.py",
    "device/probes.py",  # a child's answer to its parent
    "live/sinks/__init__.py",  # hands the stream to terminal.py and jsonl.py
    "live/sinks/rtsp_server.py",  # a child's answers to its parent
    "live/sinks/terminal.py",  # what is printable
    "server/access_log.py",  # lines of JSON
    "tuning/memory.py",  # a child's answer to its parent
}


def is_clean(text: str) -> bool:
    return console.CONTROL.search(text) is None


def prints(node: ast.AST) -> bool:
    """Whether it writes to a standard stream by itself."""
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "print":
        return True
    streams = ("sys.stdout", "sys.stderr", "sys.__stdout__", "sys.__stderr__")
    return isinstance(node, ast.Attribute) and ast.unparse(node) in streams


def test_only_the_console_prints() -> None:
    files = [path for package in density.PRODUCT for path in (ROOT / package).rglob("*.py")]
    assert len(files) > 80
    found = set()
    for path in files:
        if any(prints(node) for node in ast.walk(ast.parse(path.read_text("utf-8")))):
            found.add(path.relative_to(ROOT).as_posix())
    assert found == PRINTERS


def test_every_control_character_is_one() -> None:
    for code in (*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)):
        assert is_clean(console.printable(chr(code)))
    assert console.printable("a\tb\nשלם é 答") == "a\tb\nשלם é 答"
    assert json.loads(f'"{console.printable(HOSTILE)}"') == HOSTILE


ARGUMENTS = [
    ("run", NAME, "picture.png", "What?"),
    ("run", "bundle", NAME, "What?", "--plot", f"{NAME}/x.png"),
    ("run", "bundle", "picture.png", "What?", "--perception", NAME),
    ("run", "bundle", "picture.png", "What?", "--max-new-tokens", NAME),
    ("run", "bundle", "picture.png", "What?", NAME),
    ("run", "bundle", "picture.png", "What?", f"--{NAME}"),
    ("run", "bundle", "picture.png", "What?", f"--json={NAME}"),
    ("export", NAME, "-o", "bundle", "--precision", "fp32"),
    ("export", "checkpoint", "-o", "bundle", "--precision", NAME),
    ("export", NAME, "-o", f"{NAME}/file/bundle", "--precision", "fp32"),
    ("eval", NAME, "--data", NAME),
    ("eval", "bundle", "--data", NAME, "--report", f"{NAME}/r.html"),
    ("build", NAME),
    ("build", "bundle", "--device", NAME),
    ("doctor", NAME),
    ("bench", NAME),
    ("bench", "bundle", "--image", NAME),
]


@pytest.mark.parametrize("arguments", ARGUMENTS, ids=lambda arguments: ascii(arguments)[:60])
def test_errors_of_every_command_are_clean(
    arguments: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    command, *rest = arguments
    assert importlib.import_module(f"vpt_edge.commands.{command}").main(rest) == 2
    printed = capsys.readouterr()
    assert is_clean(printed.out + printed.err)
    assert printed.err.count("\n") == 1


@pytest.fixture
def scripted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The arguments of vpt-run over a model that says what is hostile."""
    region = "<|region_token_start|><|x_1|><|y_2|><|region_token_end|>"
    opener = Script(f"{HOSTILE}{region}", f"so {HOSTILE}")
    monkeypatch.setattr(pipeline, "Pipeline", functools.partial(pipeline.Pipeline, opener=opener))
    picture = tmp_path / f"{NAME}.png"
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(picture)
    bundle = tiny_bundle(tmp_path / NAME)
    return [str(bundle.path), str(picture), HOSTILE, "--plot", str(tmp_path / "plot.png")]


@pytest.mark.parametrize("options", [[], ["--json"], ["--stats"], ["--prefix", HOSTILE]])
def test_what_a_model_says_is_clean(
    options: list[str], scripted: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command.main([*scripted, *options]) == 0
    printed = capsys.readouterr()
    assert "owned" in printed.out
    assert is_clean(printed.out + printed.err)


@pytest.mark.parametrize("key", ["target", "precision", "schema_version", "source", HOSTILE])
def test_what_a_manifest_says_is_clean(
    key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = altered(
        tiny_bundle(tmp_path / "bundle"), functools.partial(dict.update, **{key: HOSTILE})
    )
    run_command.main([str(path), "x.png", "What?"])
    printed = capsys.readouterr()
    assert printed.err
    assert is_clean(printed.out + printed.err)


def bomb() -> bytes:
    return b"P4\n13000 13000\n"


def cut_tiff() -> bytes:
    return file_of(noise(64, 64), "TIFF", compression="tiff_lzw")[:-40]


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("make", [bomb, cut_tiff])
def test_a_picture_is_refused_in_one_line(
    make: Callable[[], bytes], scripted: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Pillow warns before it fails."""
    Path(scripted[1]).write_bytes(make())
    assert run_command.main(scripted) == 2
    assert capsys.readouterr().err.count("\n") == 1
    with pytest.warns(match="Image size|Truncated"), pytest.raises(ImageError):
        open_picture(make())


def test_onnxruntimes_log_is_silent(scripted: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """It writes in colours, past Python's streams."""
    severities = list[int]()
    monkeypatch.setattr(onnxruntime, "set_default_logger_severity", severities.append)
    assert run_command.main(scripted) == 0
    assert severities == [4]


def test_what_libraries_say_is_clean(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise ValueError(HOSTILE)

    def speak() -> None:
        warnings.simplefilter("always")
        warnings.warn(HOSTILE, stacklevel=1)
        logging.getLogger("a library").warning("%s", HOSTILE)
        thread = threading.Thread(target=fail)
        thread.start()
        thread.join()
        weakref.finalize(names := {HOSTILE}, fail)
        del names

    monkeypatch.setattr(logging.root, "handlers", [])
    before = logging.lastResort
    assert console.exit_code(speak) == 0
    assert logging.lastResort is before
    printed = capsys.readouterr().err
    assert printed.count("owned") == 4
    assert printed.startswith("hint: ")
    assert is_clean(printed)


def test_a_traceback_is_clean() -> None:
    code = (
        "import sys; from vpt_edge.commands import console\n"
        f"def fail(): raise ZeroDivisionError({HOSTILE!r})\n"
        "sys.exit(console.exit_code(fail))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "ZeroDivisionError: \\u001b]0;owned" in done.stderr
    assert is_clean(done.stderr)


def test_a_bar_stays_in_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    written = list[str]()

    class Terminal:
        def isatty(self) -> bool:
            return True

        def write(self, text: str) -> None:
            written.append(text)

        def flush(self) -> None:
            raise OSError(5, "the terminal is gone")

    terminal: Any = Terminal()
    monkeypatch.setenv("COLUMNS", "200")
    with Bar(terminal) as bar:
        bar.show(f"a\nb\t{HOSTILE}", 0.5, HOSTILE)
    line = written[0].removeprefix("\r").removesuffix("\x1b[K")
    assert line.startswith("a b \\u001b]0;owned")
    assert is_clean(line)
    assert "\n" not in line


def test_a_plot_does_not_replace_the_picture(
    scripted: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = Path(scripted[1]).read_bytes()
    (tmp_path / "link.png").symlink_to(scripted[1])
    assert run_command.main([*scripted[:4], ""]) == 2
    assert "expected a name that ends with .png" in capsys.readouterr().err
    for place in (scripted[1], str(tmp_path / "link.png")):
        assert run_command.main([*scripted[:4], place]) == 2
        assert "it is the picture itself; choose another name" in capsys.readouterr().err
    assert Path(scripted[1]).read_bytes() == before


@pytest.mark.parametrize("redirection", ["| true", ">/dev/full", ">&-"])
def test_a_plot_does_not_depend_on_who_reads(
    redirection: str, scripted: list[str], tmp_path: Path
) -> None:
    """The first piece of text cannot be printed; the answer is plotted all the same."""
    code = (
        "import functools, sys, time\n"
        "from vpt_edge.commands import run\n"
        "from vpt_edge.runtime import pipeline\n"
        "from vpt_edge.runtime.testing import Script\n"
        "opener = Script('some words and ' * 20)\n"
        "pipeline.Pipeline = functools.partial(pipeline.Pipeline, opener=opener)\n"
        "time.sleep(0.3)\n"
        "sys.exit(run.main(sys.argv[1:]))"
    )
    command = f'"$0" -c "$CODE" "$@" {redirection}'
    arguments = [*scripted[:2], "What?", *scripted[3:]]
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command, sys.executable, *arguments],
        env={**os.environ, "CODE": code},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == (2 if "full" in redirection else 0), done.stderr
    assert "Traceback" not in done.stderr
    with Image.open(tmp_path / "plot.png") as plot:
        assert plot.size > (64, 64)
