"""A connection that can be cut."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Any

PIECE = 1 << 16


class Cable:
    """Passes on what comes to ``port`` of this machine, to ``target`` there and back."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._ends = list[socket.socket]()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self._accepting = self._start(self._accept)

    def _start(self, run: Any, *arguments: Any) -> threading.Thread:
        thread = threading.Thread(target=run, args=arguments, daemon=True)
        thread.start()
        return thread

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                near, _ = self._listening.accept()
                self._ends.append(near)
                far = socket.create_connection(("127.0.0.1", self._target))
                self._ends.append(far)
                self._start(self._pass, near, far)
                self._start(self._pass, far, near)

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(PIECE):
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        """End what is connected; who comes later is let through."""
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._ends.clear()

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)  # which wakes the thread that accepts
        self._accepting.join()
        self._listening.close()
        self.cut()

    def __enter__(self) -> Cable:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
