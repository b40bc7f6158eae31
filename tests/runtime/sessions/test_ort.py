"""ONNX Runtime on the CPU: what its sessions share.

What all backends have in common is in test_session.py.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from typing import Any

import onnxruntime
import pytest
from golden import DEMO, Exporter

from vpt_edge.runtime import host
from vpt_edge.runtime.sessions import ort


@pytest.fixture(autouse=True)
def unregistered() -> Iterator[None]:
    ort._register_arena.cache_clear()
    yield
    ort._register_arena.cache_clear()


def test_sessions_take_their_memory_from_one_arena(exported: Exporter) -> None:
    session = ort.OrtSession(exported(DEMO), "reencoder_projector")
    options = session._session.get_session_options()
    assert options.get_session_config_entry("session.use_env_allocators") == "1"
    session.close()


@pytest.mark.parametrize(
    ("usable", "threads"), [(1, 1), (3, 3), (8, 0), (16, 0)]
)  # 0: ONNX Runtime's own choice
def test_a_session_starts_no_more_threads_than_it_has_cores(
    usable: int, threads: int, exported: Exporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(host, "usable_cores", lambda: usable)
    session = ort.OrtSession(exported(DEMO), "reencoder_projector")
    assert session._session.get_session_options().intra_op_num_threads == threads
    session.close()


def test_threads_register_the_arena_once(monkeypatch: pytest.MonkeyPatch) -> None:
    registered = []

    def register(*arguments: Any) -> None:
        registered.append(arguments)
        time.sleep(0.05)

    monkeypatch.setattr(onnxruntime, "create_and_register_allocator", register)
    threads = [threading.Thread(target=ort._share_arena) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(registered) == 1


def test_an_arena_that_the_program_has_registered_will_do(
    exported: Exporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any) -> None:
        raise RuntimeError("An allocator for this device has already been registered for sharing")

    monkeypatch.setattr(onnxruntime, "create_and_register_allocator", refuse)
    ort.OrtSession(exported(DEMO), "reencoder_projector").close()
