from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

import pytest
from serving import Served, question
from wire import Wire, request, statuses

from vpt_edge.server.access import Access
from vpt_edge.server.body_budget import BodyBudget
from vpt_edge.server.errors import RequestError

Serve = Callable[..., Served]


def test_what_ends_makes_room() -> None:
    budget = BodyBudget(10)
    budget.take(10)
    with pytest.raises(RequestError) as error:
        budget.take(1)
    assert (error.value.status, error.value.code) == (503, "too_many_bodies")
    budget.used -= 1
    budget.take(1)


def test_bodies_share_a_budget(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    budgets = list[BodyBudget]()
    begin = Access.__init__

    def keep(access: Access, *arguments: object, **options: object) -> None:
        begin(access, *arguments, **options)  # type: ignore[arg-type]
        budgets.append(access._bodies)

    monkeypatch.setattr(Access, "__init__", keep)
    served = serve("A dog.", max_bodies=100_000)
    with ExitStack() as stack:
        wires = [stack.enter_context(Wire(served.listener.port)) for _ in range(3)]
        for wire in wires[:2]:
            wire.send(request("", "Content-Length: 1000000")).send(b" " * 45_000)
        while not budgets or budgets[0].used < 90_000:
            served.client.get("/health")
        reply = wires[2].send(request("", "Content-Length: 1000000")).send(b" " * 45_000)
        assert statuses(reply.read_until(b"}}")) == [503]
    while budgets[0].used:
        served.client.get("/health")
    assert served.client.post("/v1/chat/completions", json=question()).status_code == 200
