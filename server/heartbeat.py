"""Tells whoever watches over the server that it is well."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from vpt_edge.server.service import Service

log = logging.getLogger("vpt_edge.server")


class Heartbeat:
    """Calls back again and again, for as long as /health finds no problem of ``service``."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._callbacks = list["Callable[[], object]"]()
        self._was_well = True

    def then(self, callback: Callable[[], object]) -> None:
        """Call ``callback`` with each beat, in the thread of the event loop."""
        self._callbacks.append(callback)

    def beat(self) -> None:
        """To be called from the event loop: where that hangs, nothing beats either."""
        problem = self._service.problem
        is_well = problem is None
        if not is_well and self._was_well:
            log.error("the server is unwell: %s", problem)
        if is_well and not self._was_well:
            log.warning("the server is well again")
        self._was_well = is_well
        if is_well:
            for callback in self._callbacks:
                callback()
