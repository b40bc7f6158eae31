from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
from prometheus_client.parser import text_string_to_metric_families
from scripted import CLIP, REGION
from serving import Served, question

from vpt_edge.server.metrics import MOST_CODES, Metrics

Serve = Callable[..., Served]


def read(text: str) -> dict[str, float]:
    """The samples by their names and labels, as a query writes them."""
    samples = dict[str, float]()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            name = f"{sample.name}{{{labels}}}" if labels else sample.name
            assert name not in samples
            samples[name] = sample.value
    return samples


def scrape(served: Served) -> dict[str, float]:
    return read(served.client.get("/metrics").text)


def wait_errors(served: Served) -> None:
    """Until one error of the server is counted: of a stream a moment after its end is read."""
    name = "vpt_errors_total{code=internal_error}"
    served.wait_until(lambda: scrape(served).get(name) == 1)


class Nothing:
    """Stands for a worker and a cache."""

    running = 1
    waiting = 2
    problem = None
    hits = 3
    misses = 4
    evictions = 5
    size = 6

    def __len__(self) -> int:
        return 7


def new_metrics() -> Metrics:
    return Metrics(cast(Any, Nothing()), cast(Any, Nothing()))


def rendered(metrics: Metrics) -> dict[str, float]:
    return read(metrics.render().decode())


def test_an_answer_is_counted(serve: Serve) -> None:
    served = serve(f"{REGION}", CLIP, "A dog.")
    reply = served.ask(max_looks=2).json()
    served.wait_idle()
    samples = scrape(served)
    assert samples["vpt_requests_total{finish_reason=stop}"] == 1
    assert samples["vpt_looks_total{kind=region}"] == 1
    assert samples["vpt_looks_total{kind=clip}"] == 1
    assert samples["vpt_prompt_tokens_total"] == reply["usage"]["prompt_tokens"]
    assert samples["vpt_generation_tokens_total"] == reply["usage"]["completion_tokens"]
    assert samples["vpt_cached_tokens_total"] == 0
    for name in ("time_to_first_token", "e2e_request_latency", "request_queue_time"):
        assert samples[f"vpt_{name}_seconds_count"] == 1
    for stage in ("open", "preprocess", "vision", "prefill", "decode"):
        assert samples[f"vpt_stage_seconds_count{{stage={stage}}}"] == 1
    seconds = reply["vpt"]["seconds"]
    assert samples["vpt_stage_seconds_sum{stage=decode}"] == seconds["decode"]
    first = samples["vpt_time_to_first_token_seconds_sum"]
    assert reply["vpt"]["first_token_seconds"][0] < first
    assert first < samples["vpt_e2e_request_latency_seconds_sum"]
    assert samples["vpt_requests_running"] == samples["vpt_requests_waiting"] == 0


def test_what_a_model_gives_up_is_a_finish_reason(serve: Serve) -> None:
    served = serve("A long answer.", REGION, REGION)
    served.ask(max_tokens=2)
    served.ask(text="Where?", max_looks=1)
    samples = scrape(served)
    assert samples["vpt_requests_total{finish_reason=length}"] == 1
    assert samples["vpt_requests_total{finish_reason=look_limit}"] == 1


def test_errors_are_counted_once_by_their_codes(serve: Serve) -> None:
    served = serve("A dog.")
    served.ask(temperature=-1)
    served.ask(tools=[{}])
    served.ask_about("data:image/png;base64,AA==")
    served.ask_about("http://example.org")
    served.client.get("/nowhere")
    served.client.get("/other")
    served.client.put("/v1/models")
    samples = scrape(served)
    assert samples["vpt_errors_total{code=unsupported_parameter}"] == 1
    assert samples["vpt_errors_total{code=invalid_image_format}"] == 1
    assert samples["vpt_errors_total{code=invalid_image_url}"] == 1
    assert samples["vpt_errors_total{code=not_found}"] == 2
    assert samples["vpt_errors_total{code=method_not_allowed}"] == 1
    total = sum(value for name, value in samples.items() if name.startswith("vpt_errors_total"))
    assert total == 7
    assert not [name for name in samples if name.startswith("vpt_requests_total")]


def test_an_error_in_a_stream_is_counted(serve: Serve) -> None:
    served = serve(f"I look: {REGION}")  # and then the script ends
    reply = served.ask(stream=True)
    assert reply.status_code == 200
    assert '"internal_error"' in reply.text
    wait_errors(served)


@pytest.mark.parametrize("stream", [False, True])
def test_a_fault_of_the_server_is_an_error_and_no_abort(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    served = serve("A dog.")

    def fail(*_: Any) -> None:
        raise RuntimeError("a fault")

    monkeypatch.setattr(served.script.sessions["decoder"], "run", fail)
    served.ask(stream=stream)
    wait_errors(served)
    samples = scrape(served)
    assert not [name for name in samples if name.startswith("vpt_requests_total")]


def test_a_client_that_goes_away_is_an_abort(serve: Serve) -> None:
    served = serve("A dog. " * 200)
    body = question(stream=True, perception="off")
    with served.client.stream("POST", "/v1/chat/completions", json=body) as reply:
        next(reply.iter_lines())
    served.wait_idle()
    served.wait_until(lambda: "vpt_requests_total{finish_reason=abort}" in scrape(served))
    samples = scrape(served)
    assert samples["vpt_requests_total{finish_reason=abort}"] == 1
    assert samples["vpt_e2e_request_latency_seconds_count"] == 0


def test_the_picture_cache_is_counted(serve: Serve) -> None:
    served = serve("One.", "Two.")
    served.ask()
    served.ask(stream=True)
    samples = scrape(served)
    assert samples["vpt_picture_cache_misses_total"] == 1
    assert samples["vpt_picture_cache_hits_total"] == 1
    assert samples["vpt_picture_cache_evictions_total"] == 0
    assert samples["vpt_picture_cache_pictures"] == 1
    assert samples["vpt_picture_cache_bytes"] > 64 * 96 * 4
    assert samples["vpt_cached_tokens_total"] > 0


def test_they_are_as_prometheus_reads_them(serve: Serve) -> None:
    reply = serve("A dog.").client.get("/metrics")
    assert reply.headers["content-type"] == "text/plain; version=1.0.0; charset=utf-8"
    assert "_created" not in reply.text
    samples = read(reply.text)
    assert samples["process_resident_memory_bytes"] > 0
    assert all(name.startswith(("vpt_", "process_")) for name in samples)


def test_two_servers_count_apart() -> None:
    one = new_metrics()
    other = new_metrics()
    one.count_error("a")
    assert "vpt_errors_total{code=a}" in rendered(one)
    assert "vpt_errors_total{code=a}" not in rendered(other)


def test_the_codes_of_errors_are_bounded() -> None:
    metrics = new_metrics()
    for number in range(2 * MOST_CODES):
        metrics.count_error(f"code-{number}")
        metrics.count_error(f"code-{number}")
    samples = rendered(metrics)
    codes = [name for name in samples if name.startswith("vpt_errors_total")]
    assert len(codes) == MOST_CODES + 1
    assert samples["vpt_errors_total{code=other}"] == 2 * MOST_CODES
    assert samples["vpt_errors_total{code=code-0}"] == 2


def test_sources_that_are_watched_are_counted(serve: Serve) -> None:
    served = serve("A dog.", watch=("testsrc://?pattern=ball",))
    served.wait_until(lambda: scrape(served).get("vpt_frames_total{source=testsrc-ball}", 0) > 1)
    samples = scrape(served)
    assert samples["vpt_camera_up{source=testsrc-ball}"] == 1
    assert samples["vpt_frame_age_seconds{source=testsrc-ball}"] >= 0
    assert "testsrc://" not in served.client.get("/metrics").text
