from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from vpt_edge.live.subject import WatchCounts
from vpt_edge.server.source_metrics import SourceCollector, SourceStatus

COUNTS = WatchCounts("door", 50, 4, 1, busy=30, every=12, gate=4, reconnects=2, requests=3)


def collect(*statuses: SourceStatus) -> list[str]:
    registry = CollectorRegistry()
    registry.register(SourceCollector(lambda: statuses))
    text = generate_latest(registry).decode()
    return [line for line in text.splitlines() if not line.startswith("#")]


def test_each_source_has_its_numbers() -> None:
    other = SourceStatus("yard", is_live=False, age=None, counts=WatchCounts("", *[0] * 7))
    lines = collect(SourceStatus("door", is_live=True, age=0.25, counts=COUNTS), other)
    assert 'vpt_camera_up{source="door"} 1.0' in lines
    assert 'vpt_camera_up{source="yard"} 0.0' in lines
    assert 'vpt_frame_age_seconds{source="door"} 0.25' in lines
    assert not [line for line in lines if line.startswith('vpt_frame_age_seconds{source="yard"')]
    expected = {
        'vpt_frames_total{source="door"} 50.0',
        'vpt_frames_asked_total{source="door"} 4.0',
        'vpt_frame_failures_total{source="door"} 1.0',
        'vpt_frames_skipped_total{reason="busy",source="door"} 30.0',
        'vpt_frames_skipped_total{reason="every",source="door"} 12.0',
        'vpt_frames_skipped_total{reason="gate",source="door"} 4.0',
        'vpt_reconnects_total{source="door"} 2.0',
        'vpt_source_requests_total{source="door"} 3.0',
        'vpt_source_requests_unanswered_total{source="door"} 0.0',
    }
    assert expected <= set(lines)


def test_registering_asks_for_nothing() -> None:
    def fail() -> list[SourceStatus]:
        raise AssertionError

    CollectorRegistry().register(SourceCollector(fail))
