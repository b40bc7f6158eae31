"""The page on commands has every option, its choices and defaults, and every key of --json."""

from __future__ import annotations

import argparse
import ast
import dataclasses
import importlib
import re
from pathlib import Path

import pytest
from golden import ROOT

from vpt_edge.calibration.evaluation import Agreement, Latency
from vpt_edge.device.machine import Finding
from vpt_edge.device.tables import TITLES, Figure, Report
from vpt_edge.device.v4l2 import Camera, Mode
from vpt_edge.runtime.result import Usage
from vpt_edge.runtime.sessions.plan import Platform
from vpt_edge.tuning.candidate import Candidate, Setting
from vpt_edge.tuning.table import Row

PAGE = (ROOT / "docs" / "commands.md").read_text("utf-8")
WITH_JSON = ("export", "run", "eval", "tune", "build", "doctor", "bench")
NAMES = (*WITH_JSON, "watch", "serve")
ROW = re.compile(r"^\| (`.+?) \| (.*) \|$", re.MULTILINE)
QUOTED = re.compile(r"`([^`]+)`")


def section(name: str) -> str:
    return PAGE.partition(f"\n## vpt-{name}\n")[2].partition("\n## ")[0]


def parts(name: str) -> tuple[str, str]:
    """What a section says of the arguments, and what of the keys of --json."""
    before, _, after = section(name).partition("\n`--json`")
    return before, after


def actions(name: str) -> list[argparse.Action]:
    parser = importlib.import_module(f"vpt_edge.commands.{name}")._parser()
    hidden = {"help", "version"}
    shown = [action for action in parser._actions if action.help is not argparse.SUPPRESS]
    return [action for action in shown if action.dest not in hidden]


def rows(name: str) -> dict[str, str]:
    """The rows of the arguments' tables, by the long name of an option."""
    by_name = {}
    for first, rest in ROW.findall(parts(name)[0]):
        argument = QUOTED.findall(first)[-1].partition(" ")[0]
        by_name[argument] = f"{first} {rest}"
    return by_name


def label(action: argparse.Action) -> str:
    return action.option_strings[-1] if action.option_strings else action.dest


@pytest.mark.parametrize("name", NAMES)
def test_the_arguments_are_those_of_the_parser(name: str) -> None:
    assert sorted(rows(name)) == sorted(map(label, actions(name)))


@pytest.mark.parametrize("name", NAMES)
def test_choices_and_defaults_are_there(name: str) -> None:
    for action in actions(name):
        row = rows(name)[label(action)]
        values = list(action.choices or ())
        if action.default not in (None, False, ""):
            values.append(action.default)
        if "as in `vpt-" not in row:
            assert [value for value in values if not re.search(rf"\b{value}\b", row)] == [], row


def dict_keys(path: Path, functions: set[str]) -> set[str]:
    """The text keys of all dictionaries that are written out in some functions of a file."""
    keys = set[str]()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if not isinstance(node, ast.FunctionDef) or node.name not in functions:
            continue
        for inner in ast.walk(node):
            if isinstance(inner, ast.Dict):
                texts = [key.value for key in inner.keys if isinstance(key, ast.Constant)]
                keys.update(map(str, texts))
    return keys


def field_names(*classes: type) -> set[str]:
    names = set[str]()
    for cls in classes:
        names.update(field.name for field in dataclasses.fields(cls))
    return names


def known_keys(name: str) -> set[str]:
    commands = ROOT / "commands" / f"{name}.py"
    keys = dict_keys(commands, {"_summary", "_summarize_run", "_run", "run"})
    if name == "run":
        keys = dict_keys(ROOT / "runtime" / "result.py", {"to_dict"}) | field_names(Usage)
    elif name == "eval":
        keys |= field_names(Agreement) | set(Latency._fields)
        keys.remove("other_accuracy")  # of the five that are there for both
    elif name == "tune":
        keys |= field_names(Row, Candidate, Setting) - {"candidate", "setting", "cost"}
    elif name == "build":
        keys |= field_names(Platform) | dict_keys(ROOT / "engines" / "build.py", {"build"})
        keys -= {"task", "job"}  # what the process is told
    elif name == "doctor":
        keys |= field_names(Finding, Camera, Mode)
    elif name == "bench":
        described = {"_describe_bundle", "_describe_request", "_count_tokens"}
        keys |= dict_keys(ROOT / "device" / "bench.py", described)
        keys |= field_names(Report, Figure) | set(TITLES)
    return keys


@pytest.mark.parametrize("name", WITH_JSON)
def test_every_key_of_json_is_named_and_no_other(name: str) -> None:
    _, text = parts(name)
    quoted = set(QUOTED.findall(text))
    assert known_keys(name) - quoted == set()
    columns = [first.strip("`") for first, _ in ROW.findall(text)]
    assert columns and set(columns) - known_keys(name) == set()


def test_the_options_of_the_old_name_are_said() -> None:
    assert "`--observer`" in section("export")
