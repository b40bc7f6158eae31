"""A server's life: it loads, answers and ends, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from certificates import make_certificate
from gated import GatedServer
from serving import Served, question
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient
from wire import Wire, request

from vpt_edge.runtime import Pipeline, VptError
from vpt_edge.runtime.errors import BundleError
from vpt_edge.runtime.testing import Script
from vpt_edge.server import Service, Settings, create_app
from vpt_edge.server.certificate import Certificate
from vpt_edge.server.listener import Listener
from vpt_edge.server.listening_sockets import close_sockets, open_sockets

if TYPE_CHECKING:
    from vpt_edge.runtime import Bundle

LONG = 30.0
SETTINGS = Settings("tiny", perception="free")


@pytest.fixture
def gated(bundle: Bundle) -> Iterator[Callable[..., GatedServer]]:
    with ExitStack() as stack:

        def start(*turns: str, **options: Any) -> GatedServer:
            served = GatedServer(bundle, *turns, **options)
            stack.enter_context(served)
            return served

        yield start


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as pool:
        yield pool


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def ask_in(pool: ThreadPoolExecutor, served: Served, **fields: Any) -> Future[httpx.Response]:
    return pool.submit(httpx.post, f"{served.url}/v1/chat/completions", json=question(**fields))


def test_while_the_model_loads_health_says_so() -> None:
    goes_on = threading.Event()
    asked = list[httpx.Response]()

    def open_pipeline() -> Pipeline:
        asked.append(httpx.get(f"{listener.address}/health"))
        asked.append(httpx.post(f"{listener.address}/v1/chat/completions", json=question()))
        goes_on.set()
        raise BundleError("it is not a bundle", "export one")

    listener = Listener(open_pipeline, SETTINGS)
    with pytest.raises(BundleError, match="it is not a bundle"):
        listener.run()
    health, answer = asked
    assert (health.status_code, health.json()) == (503, {"status": "loading"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "loading")
    assert int(answer.headers["retry-after"]) >= 1


def test_it_may_end_while_the_model_loads(bundle: Bundle) -> None:
    goes_on = threading.Event()
    loads = threading.Event()
    pipelines = list[Pipeline]()

    def open_pipeline() -> Pipeline:
        loads.set()
        goes_on.wait(LONG)
        pipelines.append(Pipeline(bundle, opener=Script()))
        return pipelines[0]

    listener = Listener(open_pipeline, SETTINGS)
    running = threading.Thread(target=listener.run)
    running.start()
    loads.wait(LONG)
    listener.stop()
    running.join(LONG)
    assert not running.is_alive() and not pipelines
    goes_on.set()
    wait_until(lambda: "vpt-edge-load" not in thread_names())
    with pytest.raises(VptError, match="the pipeline is closed"):
        pipelines[0].stream(b"", "What?")


def thread_names() -> list[str]:
    return [thread.name for thread in threading.enumerate()]


def open_files() -> list[str]:
    return os.listdir("/proc/self/fd")  # noqa: PTH208


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="not Linux")
def test_twenty_lives_leave_neither_threads_nor_files(bundle: Bundle) -> None:
    def live() -> None:
        with (
            Served(bundle, "One.") as served,
            socket.create_connection(("127.0.0.1", served.listener.port)),
        ):
            assert served.ask(stream=True).status_code == 200

    live()  # what a process opens once
    before = (sorted(thread_names()), len(open_files()))
    for _ in range(20):
        live()
    assert (sorted(thread_names()), len(open_files())) == before


@pytest.mark.parametrize("stream", [False, True])
def test_the_running_answer_is_given_whole(
    gated: Callable[..., GatedServer], pool: ThreadPoolExecutor, stream: bool
) -> None:
    served = gated("A dog.", "A cat.")
    running = ask_in(pool, served, stream=stream)
    served.gate.wait_for(1)
    waiting = ask_in(pool, served)
    wait_until(lambda: served.listener.service.worker.waiting == 1)
    served.listener.stop()
    refused = waiting.result(LONG)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "stopping")
    served.gate.open()
    assert "A dog." in running.result(LONG).text
    served.close()


@pytest.mark.parametrize("stream", [False, True])
def test_what_takes_too_long_is_told_so(
    gated: Callable[..., GatedServer], pool: ThreadPoolExecutor, stream: bool
) -> None:
    served = gated("A dog." * 50, grace_seconds=0.2)
    running = ask_in(pool, served, stream=stream, perception="off")
    served.gate.let(2)
    served.gate.wait_for(3)
    served.listener.stop()
    while not running.done():
        served.gate.let(1)
        time.sleep(0.005)
    assert "the server ends" in running.result(LONG).text
    assert served.gate.steps < 100


def test_who_waits_for_the_end_hears_of_it(serve: Callable[..., Served]) -> None:
    served = serve()
    told = list[str]()
    served.listener.service.stopping.then(lambda: told.append("stops"))
    served.close()
    assert told == ["stops"]


def test_a_connection_that_is_open_does_not_hold_the_end(serve: Callable[..., Served]) -> None:
    served = serve(header_seconds=LONG, grace_seconds=LONG)
    with Wire(served.listener.port), Wire(served.listener.port) as half:
        half.send("GET /health HTTP/1.1\r\nHost: localhost\r\n")
        began = time.monotonic()
        served.close()
        assert time.monotonic() - began < LONG / 2


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_ends_its_answer_within_a_step(
    gated: Callable[..., GatedServer], stream: bool
) -> None:
    served = gated("A dog." * 100, "A cat.")
    served.gate.let(3)
    worker = served.listener.service.worker
    with Wire(served.listener.port) as wire:
        wire.send(request(json.dumps(question(stream=stream, perception="off"))))
        served.gate.wait_for(4)
        job = worker._job
    assert job is not None
    wait_until(lambda: job._dropped_at is not None)  # while the fourth step goes on
    served.gate.let(1)
    served.wait_idle()
    assert served.gate.steps == 4
    served.gate.open()
    assert served.ask(text="Other?").json()["choices"][0]["message"]["content"] == "A cat."


def test_a_client_that_goes_away_waits_no_more(
    gated: Callable[..., GatedServer], pool: ThreadPoolExecutor
) -> None:
    served = gated("A dog.")
    running = ask_in(pool, served)
    served.gate.wait_for(1)
    worker = served.listener.service.worker
    with httpx.Client(timeout=0.3) as client, pytest.raises(httpx.TimeoutException):
        client.post(f"{served.url}/v1/chat/completions", json=question())
    wait_until(lambda: worker.waiting == 0)
    served.gate.open()
    assert running.result(LONG).status_code == 200


def test_an_application_alone_loads_its_model(bundle: Bundle) -> None:
    pipelines = list[Pipeline]()

    def open_pipeline() -> Pipeline:
        pipelines.append(Pipeline(bundle, opener=Script("A dog.")))
        return pipelines[0]

    service = Service(open_pipeline, SETTINGS)
    with TestClient(create_app(service)) as client:
        assert client.get("/health").json() == {"status": "ready"}
        reply = client.post("/v1/chat/completions", json=question()).json()
        assert reply["choices"][0]["message"]["content"] == "A dog."
    with pytest.raises(VptError, match="the pipeline is closed"):
        pipelines[0].stream(b"", "What?")


def test_below_a_path_of_another_application_it_is_the_same(bundle: Bundle, tmp_path: Path) -> None:
    log = tmp_path / "access.jsonl"
    settings = Settings("tiny", perception="free", keys=("key",), access_log=str(log))
    service = Service(lambda: Pipeline(bundle, opener=Script("yes")), settings)
    service.load()
    app = create_app(service, load=False)
    outer = Starlette(routes=[Mount("/vision", app)])
    headers = {"Authorization": "Bearer key"}
    with TestClient(app), TestClient(outer, base_url="http://localhost") as client:
        for path in ("health", "", "page/page.js"):
            assert client.get(f"/vision/{path}").status_code == 200
        assert client.get("/vision/v1/models").status_code == 401
        refused = client.post("/vision/api/chat", json={"model": "other"}, headers=headers)
        assert isinstance(refused.json()["error"], str)  # ollama's shape
        client.get("/vision/answers/SECRET", headers=headers)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    paths = [line["path"] for line in lines]
    assert paths == ["/", "/page/page.js", "/v1/models", "/api/chat", "/answers/…"]


def test_an_application_alone_does_not_start_without_one() -> None:
    def open_pipeline() -> Pipeline:
        raise BundleError("it is not a bundle")

    with (
        pytest.raises(BundleError, match="it is not a bundle"),
        TestClient(create_app(Service(open_pipeline, SETTINGS))),
    ):
        pass


def test_a_port_in_use_is_told() -> None:
    sockets = open_sockets("127.0.0.1", 0)
    port = sockets[0].getsockname()[1]
    with pytest.raises(VptError, match=f"the port {port} of 127.0.0.1 is in use; .*--port N"):
        Listener(Pipeline, SETTINGS, port=port).run()  # type: ignore[arg-type]
    close_sockets(sockets)


def test_its_address_can_be_asked(bundle: Bundle) -> None:
    addresses = {"127.0.0.1": "http://127.0.0.1:{}", "::1": "http://[::1]:{}"}
    for host, form in addresses.items():
        listener = Listener(lambda: Pipeline(bundle, opener=Script()), SETTINGS, host, 8123)
        assert listener.address == form.format(8123)


def test_it_speaks_tls(bundle: Bundle, tmp_path: Path) -> None:
    key, chain = make_certificate(tmp_path)
    ready = threading.Event()
    listener = Listener(
        lambda: Pipeline(bundle, opener=Script("A dog.")),
        SETTINGS,
        host="localhost",
        notify=lambda address: ready.set(),
        certificate=Certificate(chain, key),
    )
    running = threading.Thread(target=listener.run)
    running.start()
    assert ready.wait(LONG)
    assert listener.address == f"https://localhost:{listener.port}"
    trust = ssl.create_default_context(cafile=str(chain))
    with httpx.Client(base_url=listener.address, verify=trust) as client:
        reply = client.post("/v1/chat/completions", json=question()).json()
        assert reply["choices"][0]["message"]["content"] == "A dog."
    with socket.create_connection(("127.0.0.1", listener.port)) as plain:
        plain.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"HTTP" not in plain.recv(100)
    listener.stop()
    running.join(LONG)
