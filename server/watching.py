"""All sources that a server watches."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from vpt_edge import live
from vpt_edge.live.secret_file import read_address
from vpt_edge.live.source import check_live
from vpt_edge.runtime.schema import brief
from vpt_edge.server.errors import RequestError
from vpt_edge.server.live_source import LiveSource
from vpt_edge.server.source_names import name_sources

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vpt_edge.live.source import Source
    from vpt_edge.server.source_metrics import SourceStatus

THREADS = 2  # that decode and encode what is asked for
VIEWERS = 8  # of streams, all together


class Watching:
    """The sources at ``addresses``, or in the files that they name as @FILE, by their short names.

    They are opened in the background, and again where they are lost. One that cannot be opened for
    good, such as for a wrong password, is "ended", and the server goes on without it.

    Raises SourceError for an address that is not understood, and what is not live.
    """

    def __init__(self, addresses: Sequence[str]) -> None:
        opened = list["Source"]()
        try:
            for address in addresses:
                source = live.open(read_address(address))
                opened.append(source)
                check_live(source)
        except BaseException:
            for source in opened:
                source.close()
            raise
        self.viewers = asyncio.Semaphore(VIEWERS)
        self._pool = ThreadPoolExecutor(THREADS, "vpt-edge-frames")
        names = name_sources([source.name for source in opened])
        pairs = zip(names, opened, strict=True)
        self.sources = [LiveSource(name, source, self._pool) for name, source in pairs]

    def start(self) -> None:
        """Take their frames from now on, in the running event loop."""
        for source in self.sources:
            source.start()

    def stop(self) -> None:
        """Let nobody wait for a frame any more; from any thread."""
        for source in self.sources:
            source.stop()

    def close(self) -> None:
        """End the sources, all at once, within a second."""
        self.stop()
        if not self.sources:
            return
        with ThreadPoolExecutor(len(self.sources), "vpt-edge-close") as pool:
            for source in self.sources:
                pool.submit(source.close)
        self._pool.shutdown(wait=False)

    def find(self, name: str | None) -> LiveSource:
        """The source of that ``name``; the first for None. Raises RequestError."""
        for source in self.sources:
            if name in (source.name, None):
                return source
        names = ", ".join(source.name for source in self.sources)
        if not names:
            problem = "this server watches no source"
            raise RequestError(404, "source_not_found", problem, "start it with --watch ADDRESS")
        problem = f"there is no source {brief(name)}, this server watches: {names}"
        raise RequestError(404, "source_not_found", problem)

    def statuses(self) -> list[SourceStatus]:
        """For the metrics; from any thread."""
        return [source.status for source in self.sources]
