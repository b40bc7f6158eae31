"""How sources fare, in numbers for Prometheus."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from prometheus_client import Metric

    from vpt_edge.live.subject import WatchCounts

SKIPPED = ("busy", "every", "gate")  # of WatchCounts
COUNTERS = {
    "frames": ("vpt_frames", "Frames that came"),
    "asked": ("vpt_frames_asked", "Frames that were asked about"),
    "failures": ("vpt_frame_failures", "Of these, in vain"),
    "reconnects": ("vpt_reconnects", "How often the source came back"),
    "requests": ("vpt_source_requests", "Requests for a frame of the source"),
    "unanswered": ("vpt_source_requests_unanswered", "Of these, without a frame so far"),
}


@dataclass(frozen=True)
class SourceStatus:
    """``name``: the label, never an address. ``age``: seconds since the newest frame, None where
    there was none yet.
    """

    name: str
    is_live: bool
    age: float | None
    counts: WatchCounts


class SourceCollector:
    """Collects what ``statuses`` gives when it is asked, a label ``source`` for each."""

    def __init__(self, statuses: Callable[[], Sequence[SourceStatus]]) -> None:
        self._statuses = statuses

    def describe(self) -> list[Metric]:
        """None, so that registering asks for nothing."""
        return []

    def collect(self) -> Iterator[Metric]:
        statuses = self._statuses()
        up = GaugeMetricFamily("vpt_camera_up", "Whether frames come", labels=["source"])
        age = GaugeMetricFamily(
            "vpt_frame_age_seconds", "Since the newest frame", labels=["source"]
        )
        skipped = CounterMetricFamily(
            "vpt_frames_skipped", "Frames that were not asked about", labels=["source", "reason"]
        )
        for each in statuses:
            up.add_metric([each.name], int(each.is_live))
            if each.age is not None:
                age.add_metric([each.name], each.age)
            for reason in SKIPPED:
                skipped.add_metric([each.name, reason], getattr(each.counts, reason))
        yield from (up, age, skipped)
        for field, (name, text) in COUNTERS.items():
            family = CounterMetricFamily(name, text, labels=["source"])
            for each in statuses:
                family.add_metric([each.name], getattr(each.counts, field))
            yield family
