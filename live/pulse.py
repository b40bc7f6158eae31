"""What tells others that a watch goes on."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from vpt_edge.live.systemd import Notifier
from vpt_edge.runtime.errors import VptError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vpt_edge.live.health import Health
    from vpt_edge.live.source import Source

log = logging.getLogger("vpt_edge.live")


class Pulse:
    """Beats for systemd, and for a status file where there is ``health``.

    Raises VptError where systemd waits to hear of it and cannot be reached.
    """

    def __init__(self, health: Health | None = None) -> None:
        self._health = health
        self._notifier = Notifier()
        self._sources: Sequence[Source] = ()
        self._answers = 0
        self._status = ""
        self._is_well = True  # the status file, as far as was told

    def begin(self, sources: Sequence[Source]) -> None:
        """The model is loaded, and ``sources`` are open or being tried."""
        self._sources = sources
        self._notifier.ready()
        self.beat()

    def beat(self) -> None:
        """It goes on; to be called from where it would hang."""
        self._notifier.beat()
        live = [source for source in self._sources if source.state == "live"]
        status = f"{len(live)} of {len(self._sources)} sources live, {self._answers} answers"
        if status != self._status:
            self._notifier.tell(status)
        self._status = status
        if self._health is None:
            return
        try:
            self._health.beat(self._sources, self._answers)
        except (VptError, OSError) as error:
            if self._is_well:
                log.warning("the status file: %s", error)
            self._is_well = False
        else:
            self._is_well = True

    def answer(self) -> None:
        """One more answer."""
        self._answers += 1
        self.beat()

    def end(self) -> None:
        """It is about to end."""
        self._notifier.stopping()

    def close(self) -> None:
        self._notifier.close()
