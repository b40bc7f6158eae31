from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from certificates import make_certificate
from picture_host import PictureHost, png

from vpt_edge.server.errors import RequestError
from vpt_edge.server.fetch import AT_ONCE, Fetcher
from vpt_edge.server.fetch_rules import FetchRules

LIMIT = 1 << 20
SHORT = 0.4  # seconds for what never ends
LONG = 10.0  # seconds, after which a test gives up
PUBLIC = "93.184.215.14"


@pytest.fixture
def host() -> Iterator[PictureHost]:
    with PictureHost() as running:
        yield running


def fetch(address: str, *hosts: str, **options: Any) -> bytes:
    fetcher = Fetcher(FetchRules(hosts), LIMIT, **options)
    return asyncio.run(fetcher.fetch(address))


def refusal(address: str, *hosts: str, **options: Any) -> RequestError:
    with pytest.raises(RequestError) as error:
        fetch(address, *hosts, **options)
    assert error.value.status == 400
    assert "127.0.0.1" not in str(error.value).replace(address, "")
    assert "10.0.0.1" not in str(error.value)
    return error.value


def test_a_picture_is_fetched_whatever_kind_its_server_says(host: PictureHost) -> None:
    assert fetch(f"{host.url}/picture.png?a=b#c", host.place) == png()
    assert host.hosts == [host.place]
    assert host.headers[0]["accept-encoding"] == "identity"


def test_redirects_are_followed_within_the_rules(host: PictureHost) -> None:
    assert fetch(f"{host.url}/moved?to=/picture.png", host.place) == png()
    target = f"{host.url}/picture.png"
    assert fetch(f"{host.url}/moved?to={target}", host.place) == png()


@pytest.mark.parametrize(
    "target",
    [
        "http://127.0.0.1:{port}/picture.png",
        "http://127.0.0.1/latest/meta-data",
        "http://169.254.169.254/latest/meta-data/",
        "http://[::1]:{port}/picture.png",
        "//127.0.0.1:{port}/picture.png",
        "http://localhost/picture.png",
        "http://user:password@localhost:{port}/picture.png",
        "file:///etc/passwd",
        "ftp://localhost:{port}/",
        "data:image/png;base64,AA==",
        "http://[bad",
    ],
)
def test_a_redirect_to_what_is_not_allowed_is_not_followed(host: PictureHost, target: str) -> None:
    address = f"{host.url}/moved?to={target.format(port=host.port)}"
    code = refusal(address, host.place).code
    assert code == ("image_fetch_failed" if "[bad" in target else "invalid_image_url")
    assert len(host.hosts) == 1


def test_redirects_come_to_an_end(host: PictureHost) -> None:
    error = refusal(f"{host.url}/again", host.place)
    assert (error.code, len(host.hosts)) == ("image_fetch_failed", 4)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("missing", "replied 404"),
        ("packed", "came packed"),
        ("half", "not whole"),
        ("rubbish", "not HTTP"),
        ("nothing", "not whole"),
        ("large-head", "not HTTP"),
        ("endless", f"more than {LIMIT} bytes"),
        ("drops", f"within {SHORT:g} seconds"),
        ("head-in-drops", f"within {SHORT:g} seconds"),
        ("silence", f"within {SHORT:g} seconds"),
    ],
)
def test_a_bad_server_is_given_up(host: PictureHost, path: str, reason: str) -> None:
    seconds = SHORT if "within" in reason else 10.0
    error = refusal(f"{host.url}/{path}", host.place, seconds=seconds)
    assert error.code == "image_fetch_failed"
    assert reason in str(error)
    assert "secret" not in str(error)


def test_nobody_answers(host: PictureHost) -> None:
    host.__exit__()
    assert "does not answer" in str(refusal(f"{host.url}/picture.png", host.place))


def test_a_name_server_that_is_away_keeps_no_other_work_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    over = threading.Event()

    def look_up(*arguments: Any, **options: Any) -> list[Any]:
        over.wait(LONG)
        raise socket.gaierror

    async def fetch_and_work() -> str:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        fetcher = Fetcher(FetchRules(["a.test"]), LIMIT, seconds=SHORT)
        try:
            with pytest.raises(RequestError, match="did not come"):
                await fetcher.fetch("http://a.test/picture.png")
            return await asyncio.wait_for(asyncio.to_thread(str, "other"), LONG / 2)
        finally:
            over.set()

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    assert asyncio.run(fetch_and_work()) == "other"


def test_a_host_is_not_found() -> None:
    error = refusal("http://nowhere.invalid/a", "nowhere.invalid")
    assert "is not found" in str(error)
    long = "a" * 80 + ".invalid"
    assert "is not found" in str(refusal(f"http://{long}/a", long))


class Network:
    """A name server that gives ``answers`` one after another, and a way to ``host`` at each."""

    def __init__(self, host: PictureHost, *answers: list[str]) -> None:
        self._port = host.port
        self._answers = list(answers)
        self.asked = list[str]()
        self.connected = list[str]()

    async def resolve(self, host: str, port: int) -> list[str]:
        self.asked.append(host)
        return self._answers.pop(0)

    async def connect(self, address: str, port: int, **options: Any) -> Any:
        self.connected.append(address)
        return await asyncio.open_connection("127.0.0.1", self._port, **options)

    def options(self) -> dict[str, Any]:
        return {"resolve": self.resolve, "connect": self.connect}


def test_a_name_is_looked_up_once_and_the_address_that_was_checked_is_connected_to(
    host: PictureHost,
) -> None:
    network = Network(host, [PUBLIC], ["127.0.0.1"])  # it turns local behind the check
    assert fetch("http://example.org/picture.png", "example.org", **network.options()) == png()
    assert network.connected == [PUBLIC]
    assert network.asked == ["example.org"]
    assert host.hosts == ["example.org"]


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1"])
def test_a_name_with_a_local_address_is_not_fetched_from(host: PictureHost, address: str) -> None:
    network = Network(host, [address])
    error = refusal("http://example.org/picture.png", "example.org", **network.options())
    assert error.code == "invalid_image_url"
    assert network.connected == []
    assert address not in str(error)


def test_a_name_that_turns_local_behind_a_redirect_is_not_fetched_from(host: PictureHost) -> None:
    network = Network(host, [PUBLIC], ["127.0.0.1"])
    address = "http://example.org/moved?to=/picture.png"
    assert refusal(address, "example.org", **network.options()).code == "invalid_image_url"
    assert network.connected == [PUBLIC]


def test_the_next_address_is_tried_where_one_does_not_answer(host: PictureHost) -> None:
    network = Network(host, ["93.184.215.1", PUBLIC])
    connect = network.connect

    async def connect_to_the_second(address: str, port: int, **options: Any) -> Any:
        if address != PUBLIC:
            raise ConnectionRefusedError
        return await connect(address, port, **options)

    options = {"resolve": network.resolve, "connect": connect_to_the_second}
    assert fetch("http://example.org/picture.png", "example.org", **options) == png()


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    return make_certificate(tmp_path)


def test_a_certificate_that_nobody_trusts_is_refused(certificate: tuple[Path, Path]) -> None:
    with PictureHost(certificate) as host:
        error = refusal(f"{host.url}/picture.png", host.place)
    assert "no valid certificate" in str(error)
    assert host.hosts == []


def test_a_certificate_must_be_the_host_s(
    certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[1]))
    with PictureHost(certificate) as host:
        assert fetch(f"{host.url}/picture.png", host.place) == png()
        network = Network(host, [PUBLIC])
        address = f"https://example.org:{host.port}/picture.png"
        error = refusal(address, f"example.org:{host.port}", **network.options())
    assert "no valid certificate" in str(error)


def test_some_are_fetched_at_once_and_the_others_wait(host: PictureHost) -> None:
    running = 0
    most = 0

    async def connect(address: str, port: int, **options: Any) -> Any:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1
        return await asyncio.open_connection(address, port)

    async def fetch_all() -> list[bytes]:
        fetcher = Fetcher(FetchRules([host.place]), LIMIT, connect=connect)
        tasks = [fetcher.fetch(f"{host.url}/picture.png") for _ in range(3 * AT_ONCE)]
        return await asyncio.gather(*tasks)

    assert set(asyncio.run(fetch_all())) == {png()}
    assert most == AT_ONCE


def test_one_that_nobody_waits_for_is_ended(host: PictureHost) -> None:
    async def leave() -> None:
        fetcher = Fetcher(FetchRules([host.place]), LIMIT)
        task = asyncio.ensure_future(fetcher.fetch(f"{host.url}/silence"))
        while not host.hosts:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        for _ in range(AT_ONCE):  # its place is free again
            assert await fetcher.fetch(f"{host.url}/picture.png") == png()

    asyncio.run(leave())
