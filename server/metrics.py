"""What a server counts, for Prometheus. The names are in docs/metrics.md."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.metrics_core import Metric
    from prometheus_client.registry import Collector

    from vpt_edge.server.picture_cache import PictureCache
    from vpt_edge.server.worker import Worker

CONTENT_TYPE = CONTENT_TYPE_LATEST
MOST_CODES = 64  # of errors, as labels
OTHER = "other"
SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0)
STAGE_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """Counts of one server, in a registry of its own."""

    def __init__(self, worker: Worker, cache: PictureCache) -> None:
        self.requests = _counter("requests", "Questions that ended", "finish_reason")
        self.errors = _counter("errors", "Requests that got an error", "code")
        self.looks = _counter("looks", "Looks that the model asked for", "kind")
        self.prompt_tokens = _counter("prompt_tokens", "Tokens of prompts, pictures and looks")
        self.cached_tokens = _counter("cached_tokens", "Tokens of prompts that were not computed")
        self.generation_tokens = _counter("generation_tokens", "Tokens that were generated")
        self.queue_seconds = _seconds("request_queue_time_seconds", "Seconds in the queue")
        self.first_token_seconds = _seconds(
            "time_to_first_token_seconds", "Seconds to the first token, waiting included"
        )
        self.request_seconds = _seconds(
            "e2e_request_latency_seconds", "Seconds to the end of the answer, waiting included"
        )
        self.stage_seconds = Histogram(
            "vpt_stage_seconds",
            "Seconds of an answer in a stage",
            ["stage"],
            registry=None,
            buckets=STAGE_SECONDS,
        )
        running = _gauge("requests_running", "Questions that are computed")
        running.set_function(lambda: worker.running)
        waiting = _gauge("requests_waiting", "Questions that wait")
        waiting.set_function(lambda: worker.waiting)
        up = _gauge("worker_up", "1 while questions can be computed, 0 where that hangs")
        up.set_function(lambda: worker.problem is None)
        self._codes = set[str]()
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(
            _Plain(
                *(self.requests, self.errors, self.looks),
                *(self.prompt_tokens, self.cached_tokens, self.generation_tokens),
                *(self.queue_seconds, self.first_token_seconds, self.request_seconds),
                *(self.stage_seconds, running, waiting, up),
            )
        )
        self._registry.register(_CacheCollector(cache))
        ProcessCollector(registry=self._registry)

    def register(self, collector: Collector) -> None:
        """Let ``collector`` be asked at each scrape."""
        self._registry.register(collector)

    def count_error(self, code: str) -> None:
        """An error that a client was told; of many different codes the last ones are "other"."""
        if code not in self._codes and len(self._codes) >= MOST_CODES:
            code = OTHER
        self._codes.add(code)
        self.errors.labels(code).inc()

    def render(self) -> bytes:
        """All of them, as ``CONTENT_TYPE`` says."""
        return generate_latest(self._registry)


def _counter(name: str, text: str, *labels: str) -> Counter:
    return Counter(f"vpt_{name}", text, labels, registry=None)


def _gauge(name: str, text: str) -> Gauge:
    return Gauge(f"vpt_{name}", text, registry=None)


def _seconds(name: str, text: str) -> Histogram:
    return Histogram(f"vpt_{name}", text, registry=None, buckets=SECONDS)


class _Plain:
    """Gives what ``metrics`` count, without the moment at which each was made: they are as many
    series again, and to leave them out is otherwise a setting of the whole process.
    """

    def __init__(self, *metrics: Any) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        for metric in self._metrics:
            for family in metric.collect():
                samples = [each for each in family.samples if not each.name.endswith("_created")]
                family.samples = samples
                yield family


class _CacheCollector:
    """What the picture cache counts itself."""

    def __init__(self, cache: PictureCache) -> None:
        self._cache = cache

    def collect(self) -> Iterator[Metric]:
        cache = self._cache
        name = "vpt_picture_cache"
        yield CounterMetricFamily(f"{name}_hits", "Questions about a kept picture", cache.hits)
        yield CounterMetricFamily(f"{name}_misses", "Questions about another one", cache.misses)
        yield CounterMetricFamily(f"{name}_evictions", "Pictures let go", cache.evictions)
        yield GaugeMetricFamily(f"{name}_pictures", "Pictures that are kept", len(cache))
        yield GaugeMetricFamily(f"{name}_bytes", "Bytes of pictures that are kept", cache.size)
