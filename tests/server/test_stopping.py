from __future__ import annotations

from vpt_edge.server.stopping import Stopping


def test_what_was_said_before_and_after_is_called_once() -> None:
    stopping = Stopping()
    calls = list[str]()
    stopping.then(lambda: calls.append("before"))
    assert not stopping.is_set() and not calls
    stopping.set()
    stopping.set()
    stopping.then(lambda: calls.append("after"))
    assert stopping.is_set()
    assert calls == ["before", "after"]
