"""Messages to a program that is called over HTTP, and may be away for hours."""

from __future__ import annotations

import http.client
import logging
import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from vpt_edge.live.reader import delays
from vpt_edge.live.seen import Seen
from vpt_edge.live.sinks.endpoint import parse_endpoint
from vpt_edge.live.sinks.jsonl import format_line
from vpt_edge.live.sinks.loss import describe_loss
from vpt_edge.live.sinks.post import Deadline, Reply, post
from vpt_edge.live.sinks.spool import Spool
from vpt_edge.runtime.errors import SinkError, VptError

if TYPE_CHECKING:
    from vpt_edge.live.sinks.endpoint import Endpoint
    from vpt_edge.live.sinks.sink import Item
    from vpt_edge.live.sinks.spool import Letter

COUNT = 10_000  # answers that wait while the other side is away
BYTES = 1 << 26
SECONDS = 10.0  # of one try, whatever happens
LONGEST_DELAY = 60.0  # seconds between two tries
LONGEST_WISH = 3600.0  # of the other side's Retry-After
TRIES = 10  # of an answer at which the other side fails
LOOK = 1.0  # seconds until what another process has left is noticed
CLOSE = 4.0  # seconds for what is left at the end while the other side is away
PATIENCE = 60.0  # and while it is there
STEP = 0.1
AWAY = {408, 425, 429, 502, 503, 504}  # it says itself that another try may help

Verdict: TypeAlias = Literal["delivered", "away", "failed", "refused"]

log = logging.getLogger("vpt_edge.live")


class Webhook:
    """Posts each answer as JSON, a line as of ``JsonLines``, to ``url``, signed with ``secret``.

    What was not delivered yet lies in files in ``spool``, at most ``count`` with ``limit`` bytes,
    the oldest are dropped; the next watch goes on with them. Each is delivered in order, at least
    once: its header webhook-id tells a repeat. While the other side is away it is tried again for
    ever; an answer that it refuses, or fails at TRIES times, is dropped.

    Raises SinkError for an address that is not one, and a place where nothing can be kept.
    """

    wants = (Seen,)

    def __init__(
        self,
        url: str,
        secret: str,
        spool: str | os.PathLike[str] | None = None,
        count: int = COUNT,
        limit: int = BYTES,
    ) -> None:
        self._endpoint = parse_endpoint(url, secret)
        self._spool = Spool(spool or default_spool(self._endpoint), count, limit)
        self.dropped = 0
        self._problem: str | None = None  # why nothing is delivered
        self._refused = 0  # in a row
        self._is_full = False
        self._deadline = Deadline(SECONDS)  # of the try on its way
        self._arrived = threading.Event()
        self._arrived.set()  # what an earlier watch has left
        self._closing = threading.Event()
        self._over = threading.Event()  # no more time
        self._thread = threading.Thread(target=self._run, name="vpt-edge-webhook", daemon=True)
        self._thread.start()

    def put(self, item: Item) -> None:
        assert isinstance(item, Seen)
        dropped = self._spool.append(format_line(item.to_dict()).rstrip(b"\n"))
        if dropped and not self._is_full:
            log.warning("%s: no more answers can wait, the oldest are dropped", self._endpoint)
            self._is_full = True
        self.dropped += dropped
        self._arrived.set()

    def close(self) -> None:
        """Deliver what is left while the other side takes it; the rest stays for the next watch."""
        self._closing.set()
        self._arrived.set()
        deadline = time.monotonic() + PATIENCE
        self._thread.join(CLOSE)
        while self._problem is None and self._thread.is_alive() and time.monotonic() < deadline:
            self._thread.join(STEP)
        self._over.set()
        self._deadline.cut()
        self._thread.join(STEP)
        left = len(self._spool.letters())
        if left:
            log.warning("%s: %d answers wait in %s", self._endpoint, left, self._spool.path)

    def _run(self) -> None:
        try:
            is_last = False
            while not is_last:
                self._arrived.wait(LOOK)
                self._arrived.clear()
                is_last = self._closing.is_set()
                try:
                    self._deliver_all()
                except (OSError, VptError) as error:  # of the disk
                    self._tell(str(error))
                    self._pause(LONGEST_DELAY)
        finally:
            self._spool.close()

    def _deliver_all(self) -> None:
        if not self._spool.may_send():
            return
        for letter in self._spool.letters():
            if self._over.is_set():
                return
            self._deliver(letter)

    def _deliver(self, letter: Letter) -> None:
        """Until it arrived or is given up, or until the end."""
        pauses = delays(LONGEST_DELAY)
        failures = 0
        while (body := self._spool.read(letter)) is not None:
            reply = self._try(letter, body)
            verdict = judge(reply)
            if verdict == "failed":
                failures += 1
            if verdict == "delivered":
                self._succeed(letter)
                return
            if verdict == "refused" or failures == TRIES:
                self._drop(letter, reply.problem)
                return
            self._tell(reply.problem)
            if not self._pause(max(next(pauses), min(reply.retry_after, LONGEST_WISH))):
                return

    def _pause(self, seconds: float) -> bool:
        """Wait, but at the end try once more without; whether there is time for another try."""
        if self._closing.is_set():
            return not self._over.wait(seconds)
        self._closing.wait(seconds)
        return True

    def _try(self, letter: Letter, body: bytes) -> Reply:
        """One POST; status 0 where there was no answer."""
        self._deadline = Deadline(SECONDS)
        headers = self._endpoint.sign(letter.id, body, time.time())
        try:
            return post(self._endpoint.url, body, headers, self._deadline)
        except (OSError, http.client.HTTPException) as error:
            return Reply(0, 0.0, describe_loss(error))

    def _succeed(self, letter: Letter) -> None:
        self._spool.remove(letter)
        if self._refused:
            log.warning("%s: goes on, %d answers were dropped", self._endpoint, self._refused)
        elif self._problem is not None:
            log.warning("%s: goes on", self._endpoint)
        self._problem = None
        self._refused = 0
        self._is_full = False

    def _drop(self, letter: Letter, problem: str) -> None:
        self._spool.remove(letter)
        self.dropped += 1
        self._refused += 1
        if self._refused == 1:
            log.warning("%s: an answer is dropped: %s", self._endpoint, problem)

    def _tell(self, problem: str) -> None:
        """Why nothing is delivered: once."""
        if self._problem is None:
            path = self._spool.path
            log.warning("%s: %s; answers wait in %s", self._endpoint, problem, path)
        self._problem = problem


def judge(reply: Reply) -> Verdict:
    """What becomes of an answer after ``reply``."""
    status = reply.status
    if 200 <= status < 300:
        return "delivered"
    if status < 400 or status in AWAY:  # nobody there, or at another address
        return "away"
    if status < 500:
        return "refused"
    return "failed"


def default_spool(endpoint: Endpoint) -> Path:
    """Where the system wants such things: in a unit's StateDirectory=, XDG_STATE_HOME or ~."""
    service = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    if service:
        return Path(service, "webhook", endpoint.id)
    state = os.environ.get("XDG_STATE_HOME", "")
    try:
        root = Path(state) if state else Path.home() / ".local/state"
    except RuntimeError:
        fix = "set XDG_STATE_HOME to a folder for them"
        raise SinkError("there is no home in which answers can wait", fix) from None
    return root / "vpt-edge/webhook" / endpoint.id
