"""The quick version of make fuzz: what once did harm, and some new damage with a fixed seed."""

from __future__ import annotations

from pathlib import Path

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase

from fuzz.target import attempt, corpus
from fuzz.targets import TARGETS

ONCE_HARMFUL = [(name, file) for name in TARGETS for file in corpus(name)]
QUICK = hypothesis.settings(
    max_examples=40,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.generate,),
)


@pytest.mark.parametrize(("name", "file"), ONCE_HARMFUL, ids=lambda value: Path(value).name)
def test_what_once_did_harm_is_taken_or_refused(name: str, file: Path) -> None:
    attempt(TARGETS[name], file.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
def test_damaged_inputs_are_taken_or_refused(name: str) -> None:
    target = TARGETS[name]

    @QUICK
    @hypothesis.given(target.inputs())
    def check(data: bytes) -> None:
        attempt(target, data)

    check()
