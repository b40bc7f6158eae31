"""Who watches over a server hears when it hangs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from serving import Served

if TYPE_CHECKING:
    import pytest

Serve = Callable[..., Served]


def is_up(served: Served) -> bool:
    return "vpt_worker_up 1.0\n" in served.client.get("/metrics").text


def is_well(served: Served) -> bool:
    return all(served.client.get(path).is_success for path in ("/health", "/readyz"))


def test_a_step_that_hangs_is_told(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    served = serve("A dog.", time_limit=0.2, step_seconds=0.2)
    worker = served.listener.service.worker
    beats = list[None]()
    served.listener.heartbeat.then(lambda: beats.append(None))
    served.wait_until(lambda: bool(beats))
    assert is_well(served) and is_up(served)
    with served.hold():
        assert served.ask().status_code == 422
        served.wait_until(lambda: worker.problem is not None)
        before = len(beats)
        reply = served.client.get("/health")
        assert (reply.status_code, reply.json()["status"]) == (503, "unwell")
        (problem,) = reply.json()["problems"]
        assert problem.startswith("a step hangs: its request ended ")
        assert not is_well(served) and not is_up(served)
        served.wait_until(lambda: "request ended 2 s ago" in str(worker.problem))
        assert len(beats) <= before + 1  # one that had begun
    served.wait_until(lambda: len(beats) > before)
    assert is_well(served) and is_up(served)
    told = capsys.readouterr().err
    assert told.count("unwell: a step hangs") == told.count("well again") == 1
