"""A short load of a server finds nothing; what is answered wrong, it finds."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import TYPE_CHECKING

import httpx
import pytest
from golden import TAGS, Exporter
from serving import Served, question

from benchmarks import serve_load
from benchmarks.serve_cases import Case, Reply, Rubbish
from benchmarks.serve_clients import Load
from vpt_edge.runtime.testing import tiny_bundle

if TYPE_CHECKING:
    from pathlib import Path

WHOLE = 2  # seeds of a client that asks so
STREAMED = 1
CASE = Case(question(), Reply("A dog.", "[]", "stop"))
NOT_JSON = Rubbish("/v1/chat/completions", b"?", "application/json", 400)


def test_all_answers_are_those_of_the_pipeline(
    exported: Exporter, capsys: pytest.CaptureFixture[str]
) -> None:
    code = serve_load.main([str(exported(TAGS).path), "--minutes", "0.2"])
    printed = capsys.readouterr().out
    assert code == 0, printed
    assert "; 0 wrong" in printed
    assert "through the server" in printed


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with Served(tiny_bundle(tmp_path), "A dog.", "A cat.", "A dog.") as served:
        yield served


@pytest.fixture
def load(served: Served) -> Load:
    return Load(served.url, [CASE], [NOT_JSON])


@pytest.mark.parametrize("seed", [WHOLE, STREAMED])
def test_an_answer_that_differs_is_found(seed: int, served: Served, load: Load) -> None:
    case = Case(question("And?"), CASE.reply)
    load.ask(served.client, CASE, Random(seed))
    assert load.faults == []
    load.ask(served.client, case, Random(seed))
    assert "A cat." in load.faults[0] and "A dog." in load.faults[0]


def test_rubbish_that_is_not_refused_is_found(served: Served, load: Load) -> None:
    load.send(served.client, NOT_JSON)
    assert load.faults == []
    load.send(served.client, NOT_JSON._replace(status=422))
    assert load.faults


def test_who_is_turned_away_comes_back_when_it_is_told_to(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    statuses = iter([429, 429, 200])
    slept = list[float]()
    body = {
        "choices": [{"message": {"content": "A dog."}}],
        "vpt": {"looks": [], "finish_reason": "stop"},
    }

    def reply(request: httpx.Request) -> httpx.Response:
        return httpx.Response(next(statuses), json=body, headers={"Retry-After": "2"})

    monkeypatch.setattr("benchmarks.serve_clients.time.sleep", slept.append)
    with httpx.Client(transport=httpx.MockTransport(reply), base_url="http://server") as client:
        load.ask(client, CASE, Random(WHOLE))
    assert slept == load.waits == [2, 2]
    assert load.acts.count("returned") == 1
    assert load.faults == []
    assert serve_load.find_problems(load, []) == []
    load.waits += [2, 2]
    assert serve_load.find_problems(load, [])


def test_a_reply_that_does_not_say_when_to_come_back_is_found(load: Load) -> None:
    statuses = iter([429, 200])

    def reply(request: httpx.Request) -> httpx.Response:
        return httpx.Response(next(statuses), json={}, headers={"Retry-After": "soon"})

    with (
        httpx.Client(transport=httpx.MockTransport(reply), base_url="http://server") as client,
        pytest.raises(KeyError),
    ):
        load.ask(client, CASE, Random(WHOLE))
    assert "'soon'" in load.faults[0]
