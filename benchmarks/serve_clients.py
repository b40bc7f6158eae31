"""Clients of a server: most ask, some leave in the midst, some send rubbish."""

from __future__ import annotations

import json
import threading
import time
from random import Random
from typing import Any

import httpx

from benchmarks.serve_cases import PATH, Case, Reply, Rubbish

CLIENTS = 32
ABORTS = 0.1
RUBBISH = 0.1
LONG = 120.0  # seconds, after which a request counts as hanging


class Load:
    """Clients of the server at ``address``, which keep what they met.

    ``acts``, a word for each request: "whole" and "streamed" were answered, "left" and "rubbish"
    should not be, "turned away" got 429, and "returned" is who was answered behind that.
    ``seconds`` of the answers; ``waits``, those after which to come back; ``faults``, what was
    wrong.
    """

    def __init__(self, address: str, cases: list[Case], rubbish: list[Rubbish]) -> None:
        self.acts: list[str] = []
        self.seconds: list[float] = []
        self.waits: list[int] = []
        self.faults: list[str] = []
        self._address = address
        self._cases = cases
        self._rubbish = rubbish

    def run_round(self, seconds: float, seed: int) -> None:
        """Let all clients ask for so long."""
        end = time.monotonic() + seconds
        threads = []
        for number in range(CLIENTS):
            draw = Random(f"{seed} {number}")
            threads.append(threading.Thread(target=self._run_client, args=(number, draw, end)))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _run_client(self, number: int, draw: Random, end: float) -> None:
        """From an address of this machine that is its own, so that it has its own turn."""
        limits = httpx.Limits(keepalive_expiry=2.0)  # before the server closes an idle connection
        transport = httpx.HTTPTransport(local_address=f"127.0.1.{number + 1}", limits=limits)
        with httpx.Client(base_url=self._address, transport=transport, timeout=LONG) as client:
            while time.monotonic() < end:
                try:
                    self._act(client, draw)
                except Exception as error:
                    self.faults.append(f"{type(error).__name__}: {error}")

    def _act(self, client: httpx.Client, draw: Random) -> None:
        chance = draw.random()
        case = draw.choice(self._cases)
        if chance < RUBBISH:
            self.send(client, draw.choice(self._rubbish))
        elif chance < RUBBISH + ABORTS:
            self.leave(client, case, draw)
        else:
            self.ask(client, case, draw)

    def send(self, client: httpx.Client, rubbish: Rubbish) -> None:
        self.acts.append("rubbish")
        headers = {"Content-Type": rubbish.kind}
        reply = client.post(rubbish.path, content=rubbish.content, headers=headers)
        if reply.status_code != rubbish.status or "message" not in reply.json()["error"]:
            self._tell(rubbish.content[:200], (reply.status_code, reply.text[:200]), rubbish.status)

    def leave(self, client: httpx.Client, case: Case, draw: Random) -> None:
        """While it waits, or in the midst of the stream."""
        self.acts.append("left")
        body = {**case.body, "stream": True}
        patience = draw.random()
        try:
            with client.stream("POST", PATH, json=body, timeout=patience) as reply:
                for _ in zip(range(draw.randrange(6)), reply.iter_lines(), strict=False):
                    pass
        except httpx.TimeoutException:
            pass

    def ask(self, client: httpx.Client, case: Case, draw: Random) -> None:
        streams = draw.random() < 0.5
        body = {**case.body, "stream": streams}
        begin = time.monotonic()
        reply = client.post(PATH, json=body)
        if reply.status_code == 429:
            self.acts.append("returned")
        while reply.status_code == 429:
            self.acts.append("turned away")
            self._wait(reply)
            begin = time.monotonic()
            reply = client.post(PATH, json=body)
        self.seconds.append(time.monotonic() - begin)
        self.acts.append("streamed" if streams else "whole")
        found = read_stream(reply) if streams else read_completion(reply)
        if found != case.reply:
            self._tell(case.body["messages"][-1], found, case.reply)

    def _wait(self, reply: httpx.Response) -> None:
        header = reply.headers.get("Retry-After", "")
        if not header.isdecimal() or not 1 <= int(header) <= LONG:
            self._tell("429", f"Retry-After {header!r}", f"1 to {LONG:.0f}")
        else:
            self.waits.append(int(header))
            time.sleep(int(header))

    def _tell(self, asked: object, found: object, expected: object) -> None:
        self.faults.append(f"{str(asked)[:200]}: found {found}, expected {expected}")


def read_completion(reply: httpx.Response) -> Reply:
    reply.raise_for_status()
    body = reply.json()
    text = body["choices"][0]["message"]["content"]
    return Reply(text, json.dumps(body["vpt"]["looks"]), body["vpt"]["finish_reason"])


def read_stream(reply: httpx.Response) -> Reply:
    """The text of the deltas, and the looks as they came."""
    reply.raise_for_status()
    text = ""
    looks = []
    whole: dict[str, Any] = {}
    for line in reply.text.splitlines():
        data = line.removeprefix("data: ")
        if not line.startswith("data: {"):
            continue
        chunk = json.loads(data)
        text += chunk["choices"][0]["delta"].get("content") or ""
        whole = chunk.get("vpt", {})
        if "look" in whole:
            looks.append(whole["look"])
    return Reply(text, json.dumps(looks), whole["finish_reason"])
