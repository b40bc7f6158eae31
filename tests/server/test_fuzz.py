"""A few requests of all kinds; make fuzz-server sends many."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from serving import Served

fuzzer = pytest.importorskip("server_fuzz.fuzzer", reason="schemathesis is not installed")
Serve = Callable[..., Served]


def test_every_reply_is_as_described_and_no_error_of_the_server(serve: Serve) -> None:
    served = serve(*["A dog."] * 500, perception="off")
    tally = fuzzer.fuzz(served.url, 300)
    answered = {label for (label, status) in tally.statuses if status == 200}
    assert answered & {"POST /v1/chat/completions", "POST /chat/completions"}
    assert answered & {"POST /api/chat", "POST /api/generate"}
    served.wait_idle()
