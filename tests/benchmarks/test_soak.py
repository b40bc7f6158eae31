"""The soak asks in every way and finds nothing; what grows or differs, it finds."""

from __future__ import annotations

from typing import Any

import pytest
from golden import TAGS, Exporter

from benchmarks import soak, ways
from benchmarks.soak import Sample, Soak, growth, judge
from vpt_edge.runtime import Pipeline


@pytest.fixture(scope="module")
def work(exported: Exporter) -> Soak:
    return Soak(exported(TAGS), seed=3, pictures=1)


def test_requests_of_all_kinds_give_a_fresh_pipelines_answers(work: Soak) -> None:
    """And leave neither a thread nor an open file; memory needs minutes: make soak."""
    with Pipeline(work.bundle) as pipeline:
        for _ in range(3):
            work.run_round(pipeline, 15)
    assert work.faults == []
    assert work.requests == 45
    _, first, last = work.samples
    assert last.threads == first.threads
    assert last.files == first.files


def test_an_answer_that_differs_is_found(work: Soak, monkeypatch: pytest.MonkeyPatch) -> None:
    describe = ways.describe_answer
    monkeypatch.setattr(ways, "describe_answer", lambda answer: f"{describe(answer)}!")
    monkeypatch.setattr(work, "faults", [])
    with Pipeline(work.bundle) as pipeline:
        work.run_round(pipeline, 12)
    assert work.faults


def samples(memory: float = 0.0, files: float = 0.0, threads: float = 0.0) -> list[Sample]:
    """Of 4,000 requests, each of which leaves so much."""
    requests = range(0, 4000, 40)
    found = []
    for count in requests:
        uneven = count // 40 % 3
        found.append(
            Sample(
                count,
                200 + uneven + memory * count,
                10 + int(files * count),
                2 + int(threads * count),
            )
        )
    return found


@pytest.mark.parametrize(
    ("grown", "problem"),
    [
        ({}, None),
        ({"memory": 0.001}, None),
        ({"memory": 0.02}, "memory grew by"),
        ({"files": 0.001}, "files grew by"),
        ({"threads": 0.01}, "threads grew by"),
    ],
)
def test_what_grows_is_found(grown: dict[str, float], problem: str | None) -> None:
    problems = judge(samples(**grown))
    if problem is None:
        assert problems == []
    else:
        (text,) = problems
        assert problem in text


def test_what_is_taken_before_the_warm_up_is_not_growth() -> None:
    before = [Sample(0, 100, 5, 1), Sample(20, 150, 5, 1)]
    assert growth([*before, *samples()[1:]])["memory"] == pytest.approx(0, abs=1)
    assert growth([]) == growth(samples()[:2]) == {}


class Stub(Soak):
    """Has made no request."""

    def __init__(self, *arguments: Any) -> None:
        self.faults = []
        self.samples = []
        self.requests = 0


@pytest.mark.parametrize(("fault", "code"), [(None, 0), ("another answer", 1)])
def test_the_exit_code_is_the_verdict(
    fault: str | None, code: int, exported: Exporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_round(self: Stub, pipeline: Pipeline) -> None:
        if fault is not None:
            self.faults.append(fault)

    monkeypatch.setattr(Stub, "run_round", run_round)
    monkeypatch.setattr(soak, "Soak", Stub)
    assert soak.main([str(exported(TAGS).path), "--minutes", "0"]) == code
