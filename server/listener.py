"""A server from its first request to its last answer."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

from vpt_edge.runtime.errors import VptError
from vpt_edge.server.app import create_app
from vpt_edge.server.certificate import Certificate, open_certificate
from vpt_edge.server.heartbeat import Heartbeat
from vpt_edge.server.http_server import ABANDONED, HttpServer
from vpt_edge.server.listening_sockets import close_sockets, open_sockets
from vpt_edge.server.service import LAST_STEP, Service

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from vpt_edge.runtime.pipeline import Pipeline
    from vpt_edge.server.settings import Settings

TICK = 0.2  # seconds after which a signal is heeded at the latest


class Listener:
    """A server at ``host`` and ``port``, 0 for one that is free; it loads the model meanwhile.

    ``notify`` is told its address when it answers questions. With a ``certificate`` it speaks TLS.
    """

    def __init__(
        self,
        open_pipeline: Callable[[], Pipeline],
        settings: Settings,
        host: str = "127.0.0.1",
        port: int = 0,
        notify: Callable[[str], object] = lambda address: None,
        certificate: Certificate | None = None,
    ) -> None:
        self._context = None
        if certificate is not None:
            self._context = open_certificate(certificate)
        self.service = Service(open_pipeline, settings)
        self.port = port
        self._host = host
        self._notify = notify
        self._failure: BaseException | None = None
        self._over = threading.Event()
        self._server = HttpServer(create_app(self.service, load=False), settings, self._context)
        self.heartbeat = Heartbeat(self.service)
        self._server.beat = self.heartbeat.beat

    @property
    def address(self) -> str:
        """Where it is reached, once it listens."""
        scheme = "http" if self._context is None else "https"
        host = self._host
        if ":" in host:
            host = f"[{host}]"
        return f"{scheme}://{host}:{self.port}"

    def run(self) -> None:
        """Answer until ``stop``. Raises VptError where it cannot listen, and what the pipeline
        raises when it opens.

        Ctrl-C ends it as ``stop`` does, and once more at once; KeyboardInterrupt goes on.
        """
        try:
            sockets = open_sockets(self._host, self.port)
        except VptError:
            self.service.close()
            raise
        self.port = sockets[0].getsockname()[1]
        serving = threading.Thread(
            target=self._serve, args=(sockets,), name="vpt-edge-serve", daemon=True
        )
        serving.start()
        threading.Thread(target=self._load, name="vpt-edge-load", daemon=True).start()
        try:
            while not self._over.wait(TICK):
                pass  # whichever thread the kernel gives a signal, its handler runs here
        finally:
            self._end(serving)
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """End it, from any thread: the answer that is computed is given whole, if it ends within
        the grace time.
        """
        self._over.set()

    def _end(self, serving: threading.Thread) -> None:
        self.service.stop()
        self._server.should_exit = True
        serving.join(self.service.settings.grace_seconds)
        if serving.is_alive():
            self.service.worker.abandon()
            serving.join(ABANDONED + LAST_STEP)

    def _serve(self, sockets: list[socket.socket]) -> None:
        try:
            asyncio.run(self._server.serve(sockets))
        except BaseException as error:
            self._failure = error
        finally:
            close_sockets(sockets)
            self._over.set()
            self._server.answers.set()  # nobody waits for it any more

    def _load(self) -> None:
        try:
            self.service.load()
            self._server.answers.wait()
            if not self._over.is_set():
                self._notify(self.address)
        except Exception as error:
            self._failure = error
            self.stop()
