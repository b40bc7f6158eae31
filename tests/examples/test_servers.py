"""The examples that serve, run as a person runs them: their answers are the pipeline's."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from random import Random

import httpx
import pytest
from golden import ROOT, TAGS, Exporter

from benchmarks.serve_cases import Case, draw_cases
from benchmarks.serve_clients import read_completion, read_stream
from vpt_edge.runtime import Pipeline

LONG = 60  # seconds
RAY = ROOT / "build" / "ray-venv" / "bin" / "python"
RAY_PORT = 8000  # Ray Serve's own
REPLICA = "ray::ServeReplica:default:vision"


@pytest.fixture(scope="module")
def bundle(exported: Exporter) -> str:
    return str(exported(TAGS).path)


@pytest.fixture(scope="module")
def cases(bundle: str) -> list[Case]:
    with Pipeline(bundle) as pipeline:
        return draw_cases(pipeline, Random(11), 2)


@contextmanager
def running(python: str | Path, name: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """The example, in a group of processes of its own, all of which end with the block."""
    command = [str(python), str(ROOT / "examples" / f"{name}.py"), *arguments]
    process = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(LONG)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise


def wait_ready(process: subprocess.Popen[bytes], address: str) -> None:
    end = time.monotonic() + LONG
    while time.monotonic() < end:
        assert process.poll() is None
        try:
            if httpx.get(f"{address}/health").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise AssertionError(f"{address} is not ready")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def check(address: str, case: Case) -> None:
    """Ask once whole and once as a stream."""
    path = f"{address}/v1/chat/completions"
    assert read_completion(httpx.post(path, json=case.body, timeout=LONG)) == case.reply
    body = {**case.body, "stream": True}
    assert read_stream(httpx.post(path, json=body, timeout=LONG)) == case.reply


def test_an_application_answers_below_a_path_of_its_own(bundle: str, cases: list[Case]) -> None:
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    with running(sys.executable, "serve_app", bundle, str(port)) as process:
        wait_ready(process, f"{address}/vision")
        assert "/vision/v1/chat/completions" in httpx.get(address).text
        check(f"{address}/vision", cases[0])


def replicas() -> dict[int, int]:
    """The processor's ticks that each replica has used, by its number."""
    ticks = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            command = (folder / "cmdline").read_bytes().decode()
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended meanwhile
            continue
        if command.startswith(REPLICA):
            ticks[int(folder.name)] = int(fields[11])
    return ticks


@pytest.mark.skipif(not RAY.exists(), reason="Ray is not installed: make ray")
def test_two_replicas_of_ray_share_the_questions(bundle: str, cases: list[Case]) -> None:
    address = f"http://127.0.0.1:{RAY_PORT}"
    with running(RAY, "ray_serve", bundle, "2", "2", "1") as process:
        wait_ready(process, address)
        end = time.monotonic() + LONG
        while len(replicas()) < 2:
            assert time.monotonic() < end
            time.sleep(0.2)
        before = replicas()
        with ThreadPoolExecutor(4) as pool:
            for result in [pool.submit(check, address, case) for case in cases * 4]:
                result.result()
        after = replicas()
    assert len(before) == 2
    for number, ticks in before.items():
        assert after[number] > ticks
