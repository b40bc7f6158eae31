"""--listen of vpt-watch: its own server."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from vpt_edge.commands.console import UsageError

if TYPE_CHECKING:
    from contextlib import ExitStack

    from vpt_edge.live.health import Health
    from vpt_edge.server.watch_service import WatchService

ADDRESS = re.compile(r"(127(?:\.\d{1,3}){3}|localhost|\[::1\]):(\d{1,5})")
HIGHEST = 65535


def parse_listen(text: str) -> tuple[str, int]:
    """The host and the port of --listen. Raises UsageError for one that other machines reach."""
    match = ADDRESS.fullmatch(text)
    if match is None or int(match[2]) > HIGHEST:
        expected = "expected 127.0.0.1:PORT: without keys only this machine may ask"
        raise UsageError(f"--listen is {text!r}, {expected}")
    host = match[1].strip("[]").replace("localhost", "127.0.0.1")
    return host, int(match[2])


def listen(
    address: str, health: Health, silence: float, on_request: bool, stack: ExitStack
) -> WatchService:
    """Answer at ``address`` until ``stack`` ends; /ask when the service is told of the watch."""
    host, port = parse_listen(address)
    try:
        from vpt_edge.server.watch_listener import WatchListener
        from vpt_edge.server.watch_service import WatchService
    except ModuleNotFoundError as error:
        fix = "pip install 'vpt-edge[serve]'"
        raise UsageError(f"--listen needs {error.name}, which is not installed; {fix}") from None
    service = WatchService(health, silence, on_request)
    listener = WatchListener(service, host, port)
    stack.callback(listener.close)
    return service
