"""--listen of vpt-watch, as a program uses it."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from typing import Any

import httpx
import pytest
import rtsp

from vpt_edge.commands import watch as watch_command
from vpt_edge.commands.console import UsageError
from vpt_edge.commands.watch_listen import parse_listen
from vpt_edge.runtime.testing import tiny_bundle

CHILD = """
import functools, sys
import vpt_edge.runtime.pipeline as module
from vpt_edge.runtime.testing import Script
module.Pipeline = functools.partial(module.Pipeline, opener=Script(*["yes"] * 1000))
from vpt_edge.commands.watch import main
sys.exit(main(sys.argv[1:]))
"""
CAMERA = "testsrc://?width=160&height=120"
LONG = 30.0


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_bundle(tmp_path_factory.mktemp("tiny")).path)


def start(bundle: str, port: int, *arguments: str) -> subprocess.Popen[str]:
    """A watch that answers at ``port``, when it is well."""
    options = ["--listen", f"127.0.0.1:{port}", *arguments]
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, bundle, CAMERA, "Open?", *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + LONG
    while not is_well(port):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    return process


def is_well(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200
    except httpx.TransportError:
        return False


def post(port: int, **fields: Any) -> httpx.Response:
    return httpx.post(f"http://127.0.0.1:{port}/ask", json=fields, timeout=LONG)


@pytest.mark.skipif(os.name != "posix", reason="signals of Unix")
def test_who_asks_gets_the_answer_and_so_do_the_outputs(bundle: str) -> None:
    port = rtsp.free_port()
    process = start(bundle, port, "--on-request")
    (line,) = post(port).json()["answers"]
    assert (line["question"], line["answer"]) == ("Open?", "yes")
    (line,) = post(port, question="Who?").json()["answers"]
    assert (line["question"], line["answer"]) == ("Who?", "yes")
    text = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    assert 'vpt_source_requests_total{source="testsrc-ball"} 2.0' in text
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=LONG)
    assert process.returncode == 130
    assert len(out.splitlines()) == 2
    assert "; 2 requests, 0 unanswered" in err
    assert rtsp.is_closed(port)


@pytest.mark.skipif(os.name != "posix", reason="signals of Unix")
def test_without_on_request_it_only_tells_how_it_goes(bundle: str) -> None:
    port = rtsp.free_port()
    process = start(bundle, port, "--every", "0.1")
    reply = post(port)
    assert (reply.status_code, reply.json()["error"]["code"]) == (409, "not_on_request")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=LONG)
    assert process.returncode == 130


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("127.0.0.1:8001", ("127.0.0.1", 8001)),
        ("127.1.2.3:1", ("127.1.2.3", 1)),
        ("localhost:0", ("127.0.0.1", 0)),
        ("[::1]:8001", ("::1", 8001)),
    ],
)
def test_an_address_of_this_machine(text: str, place: tuple[str, int]) -> None:
    assert parse_listen(text) == place


@pytest.mark.parametrize(
    "text",
    ["0.0.0.0:80", "8001", ":8001", "[::]:80", "192.168.1.2:80", "127.0.0.1:99999", "127.0.0.1"],
)
def test_no_other_machine_is_served(text: str) -> None:
    with pytest.raises(UsageError, match="without keys only this machine may ask"):
        parse_listen(text)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--listen", "0.0.0.0:80"], "expected 127.0.0.1:PORT"),
        (["--listen", "127.0.0.1:1"], "the port 1 of 127.0.0.1 is not for every user"),
        (["--replay", "kept", "--listen", "127.0.0.1:1"], "--replay takes a bundle and nothing"),
    ],
)
def test_bad_input_is_one_line_before_the_model_is_opened(
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("vpt_edge.runtime.pipeline.Pipeline", None)

    def fail(*rest: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("vpt_edge.server.listening_sockets._listen", fail)
    assert watch_command.main(["bundle", CAMERA, "Open?", *arguments]) == 2
    line = capsys.readouterr().err
    assert message in line and line.count("\n") == 1


def test_without_the_extra_it_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in list(sys.modules):
        if name.startswith("vpt_edge.server"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    arguments = ["bundle", CAMERA, "Open?", "--listen", "127.0.0.1:0"]
    assert watch_command.main(arguments) == 2
    line = capsys.readouterr().err
    assert "--listen needs uvicorn, which is not installed; pip install 'vpt-edge[serve]'" in line
