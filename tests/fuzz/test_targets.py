"""The quick version of make fuzz: what once did harm, and some new damage with a fixed seed."""

from __future__ import annotations

from pathlib import Path

import hypothesis
import pytest
from golden import TAGS
from hypothesis import HealthCheck, Phase

from fuzz import graph_targets
from fuzz.target import attempt, corpus
from fuzz.targets import TARGETS

ONCE_HARMFUL = [(name, file) for name in TARGETS for file in corpus(name)]


@pytest.fixture(autouse=True)
def other_tests_bundle(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs are damaged in the bundle that the session exports anyway."""
    if "graph" in request.node.name:
        bundle = request.getfixturevalue("exported")(TAGS)
        monkeypatch.setattr(graph_targets, "source", lambda: bundle)


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


def test_every_target_has_a_corpus() -> None:
    assert [name for name in TARGETS if not corpus(name)] == []


@pytest.mark.parametrize("name", TARGETS)
def test_damaged_inputs_are_taken_or_refused(name: str) -> None:
    target = TARGETS[name]

    @QUICK
    @hypothesis.given(target.inputs())
    def check(data: bytes) -> None:
        attempt(target, data)

    check()
