"""In the AArch64 user space: answers are those of the other machine."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from arm64.answers import describe, read_answers
from vpt_edge.runtime import Pipeline

BUNDLES = Path(os.environ["VPT_BUNDLES"])
ENTRIES = list(read_answers(BUNDLES))
NAMES = sorted({entry["bundle"] for entry in ENTRIES})


class Asked(NamedTuple):
    pipeline: Pipeline
    entries: list[dict[str, Any]]


@pytest.fixture(scope="module", params=NAMES)
def asked(request: pytest.FixtureRequest) -> Iterator[Asked]:
    entries = [entry for entry in ENTRIES if entry["bundle"] == request.param]
    with Pipeline(BUNDLES / request.param) as pipeline:
        yield Asked(pipeline, entries)


@pytest.mark.parametrize("index", range(len(ENTRIES) // len(NAMES)))
def test_the_answer_is_the_same(asked: Asked, index: int) -> None:
    entry = asked.entries[index]
    answer = asked.pipeline.ask(
        BUNDLES / entry["image"], entry["question"], perception=entry["perception"]
    )
    for key, value in describe(answer).items():
        assert value == entry[key]


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=True)


@pytest.mark.parametrize("name", NAMES)
def test_vpt_run_prints_it(name: str) -> None:
    entry: dict[str, Any] = next(each for each in ENTRIES if each["bundle"] == name)
    picture = str(BUNDLES / entry["image"])
    perception = f"--perception={entry['perception']}"
    output = run("vpt-run", perception, str(BUNDLES / name), picture, entry["question"]).stdout
    assert output.splitlines()[-1] == entry["text"]  # behind a line for each look


def test_the_processor_is_the_other() -> None:
    assert run("uname", "-m").stdout.strip() == "aarch64"
