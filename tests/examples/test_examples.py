"""Each example does what its first line says, run as a person runs it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from random import Random
from typing import NamedTuple

import pytest
from golden import ROOT, TAGS, Exporter

from vpt_edge.live import scenes

EXAMPLES = ROOT / "examples"
SEED = 2026  # the scene that make demo shows first
VISUAL_TOKENS = 64  # of a scene: 224x224 pixels, one for each cell of 28x28


class World(NamedTuple):
    """What an example is given: by the names in its usage, and what it is to find."""

    words: dict[str, str]
    answer: str


@pytest.fixture(scope="module")
def world(exported: Exporter, tmp_path_factory: pytest.TempPathFactory) -> World:
    picture, samples = scenes.scene(Random(SEED))
    folder = tmp_path_factory.mktemp("pictures")
    path = folder / "scene.png"
    picture.save(path)
    (folder / "broken.png").write_text("not a picture")
    sample = next(sample for sample in samples if sample.perception == "region")
    words = {
        "BUNDLE": str(exported(TAGS).path),
        "PICTURE": str(path),
        "FOLDER": str(folder),
        "QUESTION": sample.question,
        "OTHER": "Is there a star?",
    }
    return World(words, sample.answer)


def run(arguments: list[str]) -> str:
    command = [sys.executable, *arguments]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def check_ask(printed: str, world: World) -> None:
    look, answer = printed.splitlines()
    assert look.startswith("looked at (")
    assert answer == world.answer


def check_stream(printed: str, world: World) -> None:
    look, answer, end = printed.splitlines()
    assert look.startswith("looks again at (")
    assert answer == world.answer
    assert end == "ended with stop"


def check_event_loop(printed: str, world: World) -> None:
    look, answer, other = printed.splitlines()
    assert look.startswith("looks again at (")
    assert answer == world.answer
    assert other.startswith(f"{world.words['OTHER']} ")


def computed_tokens(line: str) -> int:
    return int(line.rpartition("(")[2].split()[0])


def check_many_questions(printed: str, world: World) -> None:
    first, second = printed.splitlines()
    assert first.startswith(world.words["QUESTION"])
    assert second.startswith(f"{world.words['OTHER']} ")
    assert computed_tokens(first) > VISUAL_TOKENS
    assert computed_tokens(second) < VISUAL_TOKENS


def check_batch_to_jsonl(printed: str, world: World) -> None:
    broken, scene = [json.loads(line) for line in printed.splitlines()]
    assert broken["image"] == "broken.png"
    assert "broken.png" in broken["error"]
    assert scene["image"] == "scene.png"
    assert scene["text"] == world.answer


def check_watch(printed: str, world: World) -> None:
    answer, counts = printed.splitlines()
    assert re.fullmatch(rf"\d\d:\d\d:\d\d {world.answer} after [\d.]+ s", answer)
    assert counts == "1 frames, 1 asked about"


def check_own_test(printed: str, world: World) -> None:
    assert "2 passed" in printed


CHECKS = {
    "ask": (["BUNDLE", "PICTURE", "QUESTION"], check_ask),
    "stream": (["BUNDLE", "PICTURE", "QUESTION"], check_stream),
    "event_loop": (["BUNDLE", "PICTURE", "QUESTION", "OTHER"], check_event_loop),
    "many_questions": (["BUNDLE", "PICTURE", "QUESTION", "OTHER"], check_many_questions),
    "batch_to_jsonl": (["BUNDLE", "FOLDER", "QUESTION"], check_batch_to_jsonl),
    "watch": (["BUNDLE", "PICTURE", "QUESTION"], check_watch),
    "own_test": ([], check_own_test),
}


SERVERS = {"ray_serve", "serve_app"}  # which do not end by themselves: test_servers.py


def test_every_example_is_run() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {*CHECKS, *SERVERS}


@pytest.mark.parametrize("name", CHECKS)
def test_the_example_runs(name: str, world: World) -> None:
    words, check = CHECKS[name]
    runner = ["-m", "pytest", "-q"] if name.endswith("_test") else []
    arguments = [world.words[word] for word in words]
    printed = run([*runner, str(EXAMPLES / f"{name}.py"), *arguments])
    check(printed, world)
