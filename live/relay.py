"""Hands on what a watch gives: to the sinks, to who watches over it, and to people."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from vpt_edge.live.seen import Failure, Seen, StateChange
from vpt_edge.live.sinks.queue import FLUSH
from vpt_edge.live.tee import Tee

if TYPE_CHECKING:
    from vpt_edge.live.pulse import Pulse
    from vpt_edge.live.sinks.outputs import Outputs
    from vpt_edge.live.source import Source
    from vpt_edge.live.subject import WatchCounts
    from vpt_edge.live.watch import Watch

PATIENCE = 60.0  # seconds for what is left at an end that nobody is in a hurry for


class Relay:
    """Between a watch of ``sources`` and its outputs.

    ``sources`` are those to be watched: they give every frame to the outputs too, where one of
    them wants that. ``tell`` gets a line for what people should know.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        outputs: Outputs,
        pulse: Pulse,
        tell: Callable[[str], object],
    ) -> None:
        self.sources = list(sources)
        self._outputs = outputs
        self._pulse = pulse
        self._tell = tell
        self._live = {source.name for source in sources if source.live}
        self._flush = FLUSH
        self._failed = set[str]()  # sources whose last frame did
        if outputs.wants_frames:
            self.sources = [self._tee(source) for source in sources]

    def _tee(self, source: Source) -> Source:
        return Tee(source, partial(self._outputs.put, wait=not source.live))

    def follow(self, answers: Watch, count: int | None = None) -> None:
        """Until the sources have ended, or ``count`` answers were given.

        Raises what the watch raises, and BrokenPipeError where nobody reads any more.
        """
        answers.pulse = self._pulse.beat
        self._pulse.begin(self.sources)
        self._follow(answers, count)
        self._flush = PATIENCE

    def _follow(self, answers: Watch, count: int | None) -> None:
        given = 0
        for event in answers.events():
            if isinstance(event, Seen):
                self._hand_on(event)
                given += 1
                if given == count:
                    return
            elif isinstance(event, Failure):
                self._fail(event)
            else:
                self._change(event)

    def _hand_on(self, seen: Seen) -> None:
        name = seen.frame.source
        self._failed.discard(name)
        self._outputs.put(seen, wait=name not in self._live)
        self._pulse.answer()

    def _fail(self, failure: Failure) -> None:
        """Of a row of failures the first is told."""
        name = failure.frame.source
        self._outputs.put(failure)
        if name not in self._failed:
            self._tell(failure.describe())
        self._failed.add(name)

    def _change(self, change: StateChange) -> None:
        """What becomes of a camera is told; that a clip ends goes without saying."""
        self._outputs.put(change)
        if change.source in self._live:
            self._tell(change.describe())

    def close(self) -> None:
        """Close the sources, then the outputs with what is left for them: in a hurry, unless the
        watch came to its end by itself.
        """
        for source in self.sources:
            source.close()
        self._outputs.close(self._flush)


def summarize(counts: Sequence[WatchCounts], losses: dict[str, int]) -> str:
    """One line: what became of the frames of all sources, and what sinks have lost."""

    def total(name: str) -> int:
        return sum(getattr(each, name) for each in counts)

    text = (
        f"{total('frames')} frames, {total('asked')} asked about; dropped: "
        f"{total('busy')} busy, {total('every')} every, {total('gate')} gate; "
        f"{total('failures')} failed; {total('reconnects')} reconnects"
    )
    if total("requests"):
        text += f"; {total('requests')} requests, {total('unanswered')} unanswered"
    if total("undecoded"):
        text += f"; {total('undecoded')} undecoded"
    for name, lost in losses.items():
        text += f"; {name} lost {lost}"
    return text
