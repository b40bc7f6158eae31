"""A program on this machine that webhooks call."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple


class Call(NamedTuple):
    """``headers`` by their names in small letters."""

    path: str
    headers: dict[str, str]
    body: bytes


class WebServer:
    """Takes POSTs at ``url``; ``reply`` gets the handler of one and may answer with a status.

    With a ``port`` it takes the place of an earlier one; with a ``certificate`` and its key it
    speaks TLS.
    """

    def __init__(
        self,
        reply: Callable[[Any], int | None] = lambda _: 200,
        port: int = 0,
        certificate: tuple[Path, Path] | None = None,
    ) -> None:
        self.calls = list[Call]()
        self.reply = reply
        self.stopped = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                server.calls.append(Call(self.path, headers, body))
                status = server.reply(self)
                if status is not None:
                    self.send_response(status)
                    self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: Any) -> None:
                pass

        self._server = Server(("127.0.0.1", port), Handler)
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}/hook"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
            self.url = f"https://localhost:{self.port}/hook"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        """Nobody answers at its port any more."""
        self.stopped.set()
        self._server.shutdown()
        self._server.server_close()
