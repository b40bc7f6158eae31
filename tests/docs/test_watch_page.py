"""The page on watching has every key of a line, every counter and every sink."""

from __future__ import annotations

import dataclasses
import re

from answers import seen
from golden import ROOT

from vpt_edge.live.relay import PATIENCE
from vpt_edge.live.schedule import EVERY, Schedule
from vpt_edge.live.sinks import PICTURES, SINKS, jsonl, mqtt, rtsp_child, snapshots, webhook
from vpt_edge.live.sinks.queue import FLUSH
from vpt_edge.live.subject import WatchCounts
from vpt_edge.server import watch_service
from vpt_edge.server.source_metrics import SourceCollector, SourceStatus

PAGE = (ROOT / "docs" / "watch.md").read_text("utf-8")


def section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def test_every_key_of_a_line_is_named_and_no_other() -> None:
    named = re.findall(r"^\| `(\w+)` \|", section("A line of JSON"), re.MULTILINE)
    told = seen(truth={"Open?": "yes"})
    line = dataclasses.replace(told, same_as=told.frame).to_dict()
    assert named == list(line)
    for key in line["usage"]:
        assert f"`{key}`" in section("A line of JSON")


def test_every_counter_is_named() -> None:
    names = {field.name for field in dataclasses.fields(WatchCounts)} - {"source"}
    assert names <= set(re.findall(r"`(\w+)`", section("What is counted")))


def test_every_sink_is_described() -> None:
    described = re.findall(r"^\*\*`--(\w+) .*?`\*\*", section("Where answers go"), re.MULTILINE)
    assert list(dict.fromkeys(described)) == list(SINKS)
    for form in PICTURES.split(" or "):
        assert f"**`--output {form}`**" in section("Where answers go")
    assert f"apt-get install {rtsp_child.PACKAGES}" in re.sub(r"\s*\\?\s+", " ", PAGE)


def test_the_bounds_are_those_of_the_code() -> None:
    text = " ".join(section("Where answers go").split())
    assert f"At {jsonl.ROTATE >> 20} MiB" in text and f"up to FILE.{jsonl.KEEP}" in text
    assert f"newest {snapshots.COUNT} are kept" in text
    assert f"at most {snapshots.BYTES >> 30} GiB" in text
    assert f"up to {mqtt.COUNT} of them, with {mqtt.BYTES >> 20} MiB, wait" in text
    assert f"up to {webhook.COUNT:,} answers with {webhook.BYTES >> 20} MiB" in text
    assert f"no answer within {webhook.SECONDS:.0f} seconds" in text
    assert f"5xx are tried {webhook.TRIES} times" in text
    for status in webhook.AWAY:
        assert str(status) in text
    assert (FLUSH, PATIENCE) == (5, 60) and "five seconds" in text and "a minute" in text
    assert (EVERY, Schedule().name) == (2, "every 2 s")


def test_every_metric_is_named() -> None:
    status = SourceStatus("door", True, 0.0, WatchCounts("door", *[1] * 7))
    names = set[str]()
    for family in SourceCollector(lambda: [status]).collect():
        names.update(sample.name for sample in family.samples)
    assert names == set(re.findall(r"`(vpt_\w+)`", section("By HTTP")))
    assert watch_service.PATIENCE == 60 and "up to a minute" in section("By HTTP")
