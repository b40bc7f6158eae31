"""A real server at a free port of this machine, whose model speaks from a script."""

from __future__ import annotations

import base64
import contextlib
import io
import threading
import time
from typing import TYPE_CHECKING, Any
from unittest import mock

import httpx
from scripted import PICTURE

from vpt_edge.runtime import Pipeline
from vpt_edge.runtime.testing import Script
from vpt_edge.server.listener import Listener
from vpt_edge.server.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from PIL import Image

    from vpt_edge.runtime import Bundle

MODEL = "tiny"
LONG = 30  # seconds, after which a test gives up


class Served:
    """A server for the script's ``turns`` on ``bundle``; ``options`` are the ``Settings``."""

    def __init__(self, bundle: Bundle, *turns: str, **options: Any) -> None:
        self.script = Script(*turns)

        def open_pipeline() -> Pipeline:
            return Pipeline(bundle, opener=self.script)

        self._start(open_pipeline, options)

    def _start(self, open_pipeline: Callable[[], Pipeline], options: dict[str, Any]) -> None:
        ready = threading.Event()
        settings = Settings(**{"model": MODEL, "perception": "free", **options})
        self.listener = Listener(open_pipeline, settings, notify=lambda address: ready.set())
        self._thread = threading.Thread(target=self.listener.run, daemon=True)
        self._thread.start()
        assert ready.wait(LONG)
        self.url = self.listener.address
        self.client = httpx.Client(base_url=self.url, timeout=LONG)

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        self.client.close()
        self.listener.stop()
        self._thread.join(LONG)
        assert not self._thread.is_alive()

    def ask(self, **fields: Any) -> httpx.Response:
        """Post a question about the picture; ``fields`` go into the body."""
        return self.client.post("/v1/chat/completions", json=question(**fields))

    def ask_source(self, name: str, **fields: Any) -> httpx.Response:
        """Post a question about what the source ``name`` shows."""
        return self.ask_about(f"source:{name}", **fields)

    def ask_about(self, address: str, **fields: Any) -> httpx.Response:
        """Post a question about the picture at ``address``."""
        content = [text_part("What?"), address_part(address)]
        body = {"messages": [{"role": "user", "content": content}], **fields}
        return self.client.post("/v1/chat/completions", json=body)

    @property
    def steps(self) -> int:
        """How often the language model has run."""
        return len(self.script.sessions["decoder"].calls)

    def slow_down(self, seconds: float) -> None:
        """Let each step of the language model take so long, from now on."""

        def step() -> None:
            time.sleep(seconds)

        self._before_each_step(step)

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """No step of the language model begins before the block ends."""
        gate = threading.Event()
        self._before_each_step(lambda: gate.wait(LONG))
        try:
            yield
        finally:
            gate.set()

    def _before_each_step(self, wait: Callable[[], object]) -> None:
        decoder = self.script.sessions["decoder"]
        run = decoder.run

        def run_later(inputs: Any, outputs: Any) -> None:
            wait()
            run(inputs, outputs)

        mock.patch.object(decoder, "run", run_later).start()

    def wait_idle(self) -> None:
        """Until nothing is computed and nothing waits."""
        self.wait_jobs(running=0, waiting=0)

    def wait_jobs(self, running: int, waiting: int) -> None:
        """Until so many requests are computed, and so many wait."""
        worker = self.listener.service.worker
        self.wait_until(lambda: (worker.running, worker.waiting) == (running, waiting))

    def wait_until(self, is_so: Callable[[], bool]) -> None:
        deadline = time.monotonic() + LONG
        while not is_so():
            assert time.monotonic() < deadline
            time.sleep(0.005)


def question(text: str = "What?", picture: Image.Image = PICTURE, **fields: Any) -> dict[str, Any]:
    """The body of a request about ``picture``."""
    content = [text_part(text), picture_part(picture)]
    return {"messages": [{"role": "user", "content": content}], **fields}


def text_part(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def picture_part(picture: Image.Image = PICTURE) -> dict[str, Any]:
    return address_part(data_url(picture))


def address_part(address: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": address}}


def data_url(picture: Image.Image = PICTURE) -> str:
    return f"data:image/png;base64,{encode(picture)}"


def encode(picture: Image.Image = PICTURE) -> str:
    """``picture`` as PNG in base64."""
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()
