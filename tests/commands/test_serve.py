"""vpt-serve as an operator uses it, with a model that speaks from a script."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from certificates import make_certificate
from scripted import PICTURE
from serving import question

from vpt_edge.commands import serve as serve_command
from vpt_edge.commands.serve_options import read_settings
from vpt_edge.runtime.testing import tiny_bundle
from vpt_edge.server.settings import Settings

LONG = 30.0
# Whatever the tests were started with: a background job ignores Ctrl-C. Each token takes STEP.
CHILD = """
import functools, os, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
import vpt_edge.runtime.pipeline as module
from vpt_edge.runtime.testing import Script, ScriptedSession
run = ScriptedSession.run
def run_slowly(*arguments):
    time.sleep(float(os.environ.get("STEP", "0")))
    run(*arguments)
ScriptedSession.run = run_slowly
module.Pipeline = functools.partial(module.Pipeline, opener=Script(*["yes, it is"] * 1000))
from vpt_edge.commands.serve import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_bundle(tmp_path_factory.mktemp("tiny") / "door").path)


class Server:
    """The command in a process of its own, until it answers."""

    def __init__(self, bundle: str, *arguments: str, step: float = 0.0, **environment: str) -> None:
        command = [sys.executable, "-c", CHILD, bundle, "--port", "0", *arguments]
        told = {**os.environ, "STEP": str(step), **environment}
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=told
        )
        assert self.process.stdout is not None
        self.lines = [self.process.stdout.readline().rstrip() for _ in range(3)]
        self.address = self.lines[0].rpartition(" ")[2]

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Its code and what it said on standard error."""
        self.process.send_signal(number)
        _, told = self.process.communicate(timeout=LONG)
        return self.process.returncode, told


def fails(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line of a command that ended badly."""
    assert serve_command.main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
    return printed.err


def test_it_says_what_it_serves_and_how_to_ask(bundle: str, tmp_path: Path) -> None:
    server = Server(bundle)
    assert server.lines[0] == f"serves door at {server.address}"
    assert server.lines[1].startswith(f"next: open {server.address}/ in a browser")
    PICTURE.save(tmp_path / "picture.jpg")
    if shutil.which("curl"):
        command = ["sh", "-c", server.lines[2]]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        reply = json.loads(done.stdout)
        assert reply["choices"][0]["message"]["content"] == "yes, it is"
        assert reply["model"] == "door"
    assert server.end() == (130, "stopped\n")


def test_the_access_log_has_the_standard_output_for_itself(bundle: str) -> None:
    command = [sys.executable, "-c", CHILD, bundle, "--port", "0", "--access-log", "-"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        watchdog = threading.Timer(LONG, process.kill)
        watchdog.start()
        assert process.stderr is not None
        address = process.stderr.readline().rstrip().rpartition(" ")[2]
        assert httpx.post(f"{address}/v1/chat/completions", json=question()).status_code == 200
        process.send_signal(signal.SIGTERM)
        printed, _ = process.communicate(timeout=LONG)
        watchdog.cancel()
    (line,) = [json.loads(line) for line in printed.splitlines()]
    assert line["path"] == "/v1/chat/completions"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_lets_the_running_answer_end(bundle: str, number: int) -> None:
    server = Server(bundle, step=0.05)
    with httpx.stream(
        "POST",
        f"{server.address}/v1/chat/completions",
        json=question(stream=True, perception="off"),
        timeout=LONG,
    ) as reply:
        lines = reply.iter_lines()
        next(lines)
        server.process.send_signal(number)
        rest = "".join(lines)
    assert rest.endswith("data: [DONE]")
    assert '"finish_reason": "stop"' in rest
    _, told = server.process.communicate(timeout=LONG)
    assert (server.process.returncode, told) == (130, "stopped\n")


def test_a_second_ctrl_c_ends_it_at_once(bundle: str) -> None:
    server = Server(bundle, step=1000)
    with socket.create_connection(("127.0.0.1", int(server.address.rpartition(":")[2]))) as client:
        body = json.dumps(question())
        head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        client.sendall((head + body).encode())
        time.sleep(0.5)
        server.process.send_signal(signal.SIGINT)
        time.sleep(1.2)  # signals of one second are one
        assert server.process.poll() is None
        began = time.monotonic()
        assert server.end(signal.SIGINT) == (130, "stopped\n")
        assert time.monotonic() - began < 5


def test_systemd_hears_of_it(bundle: str, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(LONG)
        socket_name = str(tmp_path / "notify")
        server = Server(bundle, NOTIFY_SOCKET=socket_name, WATCHDOG_USEC="400000")
        heard = [manager.recv(4096)]
        while heard[-1] != b"READY=1":  # it is well while the model is loaded, too
            heard.append(manager.recv(4096))
        for _ in range(2):
            assert manager.recv(4096) == b"WATCHDOG=1"
        assert httpx.get(f"{server.address}/health").json() == {"status": "ready"}
        assert server.end() == (130, "stopped\n")
        while heard[-1] != b"STOPPING=1":
            heard.append(manager.recv(4096))
        assert set(heard) <= {b"READY=1", b"WATCHDOG=1", b"STOPPING=1"}


def test_a_signal_ends_it_though_its_viewers_would_stay(bundle: str) -> None:
    server = Server(bundle, "--watch", "scenes://", "--watch", "testsrc://?rate=0.01")
    path = "/sources/testsrc-ball/frame"
    assert httpx.get(f"{server.address}{path}", timeout=LONG).status_code == 200
    begin = time.monotonic()
    with (
        socket.create_connection(("127.0.0.1", int(server.address.rpartition(":")[2]))) as poll,
        httpx.stream("GET", f"{server.address}/stream.mjpg", timeout=LONG) as stream,
    ):
        poll.sendall(f"GET {path}?after=0 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        parts = stream.iter_raw()
        next(parts)
        assert httpx.get(f"{server.address}/health").status_code == 200
        server.process.send_signal(signal.SIGTERM)
        for _ in parts:  # to its end
            pass
        assert poll.recv(12) == b"HTTP/1.1 204"
    server.process.communicate(timeout=LONG)
    assert server.process.returncode == 130
    assert time.monotonic() - begin < LONG


def test_others_ask_with_a_key(bundle: str, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("# the kitchen\nsk-kitchen\n")
    server = Server(bundle, "--host", "0.0.0.0", "--api-key-file", str(keys), "--name", "eye")
    assert server.lines[0].startswith("serves eye at http://0.0.0.0:")
    address = server.address.replace("0.0.0.0", "127.0.0.1")
    assert f"curl {address}/v1" in server.lines[2] and "Bearer $KEY" in server.lines[2]
    assert "kitchen" not in "".join(server.lines)
    assert httpx.get(f"{address}/v1/models").status_code == 401
    headers = {"Authorization": "Bearer sk-kitchen"}
    (model,) = httpx.get(f"{address}/v1/models", headers=headers).json()["data"]
    assert model["id"] == "eye"
    code, told = server.end()
    assert code == 130
    assert told == (
        f"warning: every user of this machine can read the keys in {keys}; chmod 600 {keys}\n"
        "stopped\n"
    )


def test_with_a_certificate_the_address_says_so(bundle: str, tmp_path: Path) -> None:
    key, chain = make_certificate(tmp_path)
    server = Server(bundle, "--tls-cert", str(chain), "--tls-key", str(key))
    assert server.address.startswith("https://127.0.0.1:")
    assert server.end() == (130, "stopped\n")


def test_a_port_in_use_is_told(bundle: str, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        assert f"port {port} of 127.0.0.1 is in use" in fails(capsys, bundle, "--port", port)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--host", "0.0.0.0"], "at 0.0.0.0 other machines reach the server"),
        (["--host", "192.0.2.1", "--insecure"], "192.0.2.1 is not an address of this machine"),
        (["--port", "70000"], "the port is 70000"),
        (["--port", "http"], "invalid int value: 'http'"),
        (["--api-key-file", "no/such/file"], "cannot read the keys in no/such/file"),
        (["--tls-cert", "a.pem"], "--tls-cert and --tls-key belong together"),
        (["--tls-cert", "a.pem", "--tls-key", "b.pem"], "cannot read a.pem: No such file"),
        (["--allow-origin", "*"], "'*' is not the origin of a page"),
        (["--log-questions"], "--log-questions needs --access-log FILE"),
        (["--watch", "foo://bar"], "foo:// is not known as a source"),
        (["--access-log", "no/such/file"], "no/such/file"),
        (["--queue", "0"], "--queue is 0, expected more than 0"),
        (["--max-tokens", "-1"], "--max-tokens is -1"),
        (["--time-limit", "nan"], "--time-limit is nan"),
        (["--cache-mib", "-1"], "--cache-mib is -1"),
        (["--perception", "often"], "invalid choice: 'often'"),
        (["--watch", "no-such://camera"], "no-such:// is not known as a source"),
        (["--watch", "docs/overlay.webp"], "docs/overlay.webp is not live"),
        (["--watch", "@no/such/file"], "cannot read the address in no/such/file"),
    ],
)
def test_bad_input_is_one_line_before_the_model_is_opened(
    arguments: list[str],
    text: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("vpt_edge.runtime.pipeline.Pipeline", None)
    assert text in fails(capsys, "bundle", *arguments)


def test_a_bundle_that_cannot_be_opened_ends_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "is not a bundle" in fails(capsys, str(tmp_path), "--port", "0")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--allow-urls", "https://example.org"], "'https://example.org' is not a host"),
        (["--allow-files", "/nowhere"], "/nowhere is not a folder"),
        (["--access-log", "README.md"], "README.md exists and holds something else"),
        (["--access-log", "/nowhere/access.jsonl"], "/nowhere"),
    ],
)
def test_what_a_server_cannot_use_is_one_line(
    arguments: list[str], text: str, bundle: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert text in fails(capsys, bundle, "--port", "0", *arguments)


@pytest.mark.parametrize("name", ["starlette", "uvicorn", "h11", "prometheus_client"])
def test_without_its_libraries_the_extra_is_named(name: str) -> None:
    code = f"import sys; sys.modules[{name!r}] = None\n"
    code += "from vpt_edge.commands.serve import main; sys.exit(main(['bundle']))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {name}")
    assert done.stderr.endswith("but serving needs it; pip install 'vpt-edge[serve]'\n")
    assert done.stderr.count("\n") == 1


def read(*arguments: str) -> Settings:
    return read_settings(serve_command._parser().parse_args(arguments))


def test_options_become_settings(tmp_path: Path) -> None:
    lists = ["--allow-host", "Eye.Example", "other", "--allow-host", "*", "--allow-urls", "cam"]
    lists += ["--allow-origin", "https://Home.Example/", "--watch", "testsrc://", "--watch", "b"]
    values = ["--max-tokens", "7", "--queue", "3", "--time-limit", "5", "--cache-mib", "2"]
    others = ["--name", "eye", "--perception", "region", "--access-log", "-", "--log-questions"]
    read_back = read("door", *lists, *values, *others, "--allow-files", str(tmp_path))
    expected: dict[str, Any] = {
        "model": "eye",
        "perception": "region",
        "allow_urls": ("cam",),
        "allow_files": tmp_path,
        "origins": ("https://home.example",),
        "hosts": ("eye.example", "other", "*"),
        "watch": ("testsrc://", "b"),
        "access_log": "-",
        "log_questions": True,
        "max_tokens": 7,
        "queue_size": 3,
        "time_limit": 5.0,
        "cache_bytes": 2 << 20,
    }
    assert read_back == Settings(**expected)


def test_without_options_the_defaults_are_those_of_the_settings() -> None:
    assert read("some/door") == Settings("door")
