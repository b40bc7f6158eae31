"""A server on this machine from which pictures are fetched, in all the ways in which that fails."""

from __future__ import annotations

import contextlib
import gzip
import io
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from scripted import PICTURE

CHUNK = b"\0" * (1 << 16)
PAUSE = 0.05  # seconds between two bytes that drip


def png() -> bytes:
    stream = io.BytesIO()
    PICTURE.save(stream, "PNG")
    return stream.getvalue()


class PictureHost:
    """Gives a picture at /picture.png, and at other paths what their functions below do.

    ``hosts``: the header Host of each request. With a ``certificate`` and its key it speaks TLS.
    """

    def __init__(self, certificate: tuple[Path, Path] | None = None) -> None:
        self.hosts = list[str]()
        self.headers = list[dict[str, str]]()
        self.stopped = threading.Event()
        host = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                host.hosts.append(self.headers["Host"])
                host.headers.append({key.lower(): value for key, value in self.headers.items()})
                self.close_connection = True
                name = urlsplit(self.path).path.strip("/").partition(".")[0]
                with contextlib.suppress(OSError):
                    REPLIES[name](self, host)

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: Any) -> None:
                pass

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        scheme = "http"
        if certificate is not None:
            key, chain = certificate
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(chain, key)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
            scheme = "https"
        self.place = f"localhost:{self.port}"
        self.url = f"{scheme}://{self.place}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def __enter__(self) -> PictureHost:
        return self

    def __exit__(self, *error: object) -> None:
        self.stopped.set()
        self._server.shutdown()
        self._server.server_close()


def send(handler: Any, data: bytes, status: int = 200, **headers: str) -> None:
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(data)))
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(data)


def send_picture(handler: Any, host: PictureHost) -> None:
    send(handler, png(), Content_Type="text/plain")  # whatever it says: the picture itself counts


def send_page(handler: Any, host: PictureHost) -> None:
    send(handler, b"<html>", Content_Type="image/png")


def send_missing(handler: Any, host: PictureHost) -> None:
    send(handler, b"secret of the inside", 404)


def send_elsewhere(handler: Any, host: PictureHost) -> None:
    (target,) = parse_qs(urlsplit(handler.path).query)["to"]
    send(handler, b"", 302, Location=target)


def send_again(handler: Any, host: PictureHost) -> None:
    send(handler, b"", 302, Location="/again")


def send_packed(handler: Any, host: PictureHost) -> None:
    send(handler, gzip.compress(b"\0" * (1 << 24)), Content_Encoding="gzip")


def send_half(handler: Any, host: PictureHost) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000000")
    handler.end_headers()
    handler.wfile.write(png())


def send_endless(handler: Any, host: PictureHost) -> None:
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    while not host.stopped.is_set():
        handler.wfile.write(b"%x\r\n%b\r\n" % (len(CHUNK), CHUNK))


def send_drops(handler: Any, host: PictureHost) -> None:
    handler.send_response(200)
    handler.end_headers()
    while not host.stopped.wait(PAUSE):
        handler.wfile.write(b"\0")


def send_head_in_drops(handler: Any, host: PictureHost) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
    while not host.stopped.wait(PAUSE):
        handler.wfile.write(b"a")


def send_large_head(handler: Any, host: PictureHost) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    while not host.stopped.is_set():
        handler.wfile.write(b"X: " + CHUNK[:1000].replace(b"\0", b"a") + b"\r\n")


def send_rubbish(handler: Any, host: PictureHost) -> None:
    handler.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n")


def send_nothing(handler: Any, host: PictureHost) -> None:
    pass


def send_silence(handler: Any, host: PictureHost) -> None:
    host.stopped.wait()


REPLIES = {
    "picture": send_picture,
    "page": send_page,
    "missing": send_missing,
    "moved": send_elsewhere,
    "again": send_again,
    "packed": send_packed,
    "half": send_half,
    "endless": send_endless,
    "drops": send_drops,
    "head-in-drops": send_head_in_drops,
    "large-head": send_large_head,
    "rubbish": send_rubbish,
    "nothing": send_nothing,
    "silence": send_silence,
}
