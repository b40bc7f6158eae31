"""All sinks together, and the table that opens them."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from answers import seen
from sources import frame

from vpt_edge.live.seen import Seen
from vpt_edge.live.sinks import SINKS, Setting, open_outputs
from vpt_edge.live.sinks.outputs import Outputs
from vpt_edge.runtime.errors import SinkError

ONE = Setting(("test",), ("Open?",), Path("bundle"), {})


class ListSink:
    wants: tuple[type, ...] = (Seen,)
    dropped = 0

    def __init__(self) -> None:
        self.items = list[Any]()
        self.closed = False

    def put(self, item: Any) -> None:
        if item.frame.number == 1:
            raise SinkError("not this one")
        self.items.append(item)

    def close(self) -> None:
        self.closed = True


def test_each_sink_gets_everything(capsys: pytest.CaptureFixture[str]) -> None:
    sinks = [ListSink(), ListSink()]
    with Outputs([("a", sinks[0]), ("b", sinks[1])]) as outputs:
        assert not outputs.wants_frames
        for number in range(3):
            outputs.put(seen(number))
        outputs.put(frame(0))
    for sink in sinks:
        assert [item.frame.number for item in sink.items] == [0, 2]
        assert sink.closed
    assert outputs.losses == {"a": 1, "b": 1}
    assert "a: not this one" in capsys.readouterr().err


def test_an_address_may_lie_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VPT_WEBHOOK_SECRET", "key")
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    for name, scheme in (("mqtt", "mqtt"), ("webhook", "https")):
        file = tmp_path / name
        file.write_text(f"{scheme}://me:s3cret@host.invalid/x\n")
        with open_outputs({name: f"@{file}"}, ONE) as outputs:
            outputs.put(frame(0))
        file.write_text("s3cret")
        with pytest.raises(SinkError, match="has no scheme") as error:
            open_outputs({name: f"@{file}"}, ONE)
        assert "s3cret" not in str(error.value)


def test_a_sink_of_frames_makes_them_wanted(tmp_path: Path) -> None:
    with open_outputs({"output": str(tmp_path / "out.mp4")}, ONE) as outputs:
        assert outputs.wants_frames


def test_all_targets_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    targets = {
        "jsonl": str(tmp_path / "a.jsonl"),
        "output": str(tmp_path / "out.mp4"),
        "snapshots": str(tmp_path / "shots"),
    }
    assert set(targets) <= set(SINKS)
    with open_outputs(targets, ONE) as outputs:
        outputs.put(frame(0))
        outputs.put(seen(0))
    assert json.loads((tmp_path / "a.jsonl").read_text())["answer"] == "yes"
    assert (tmp_path / "out.mp4").stat().st_size > 500
    assert (tmp_path / "shots" / "00000000" / "picture.jpg").exists()
    assert capsys.readouterr().out.endswith("  yes  (0.4 s)\n")
    assert outputs.losses == {}


def test_each_source_has_its_video(tmp_path: Path) -> None:
    two = Setting(("a", "b"), ("Open?",), Path("bundle"), {})
    with open_outputs({"output": str(tmp_path / "out.mp4")}, two) as outputs:
        outputs.put(frame(0, source="a"))
        outputs.put(frame(0, source="b"))
    assert {file.name for file in tmp_path.iterdir()} == {"out.mp4", "out.2.mp4"}


def test_lines_of_json_take_the_place_of_the_terminal(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    with open_outputs({"jsonl": "-"}, ONE) as outputs:
        outputs.put(seen(3))
    assert json.loads(capfdbinary.readouterr().out)["frame"] == 3


def test_the_scheme_of_an_output_chooses_its_sink(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = list[str]()
    for name in ("Video", "Rtsp", "Display"):
        recorder = partial(record, opened, name)
        monkeypatch.setattr(f"vpt_edge.live.sinks.{name}", recorder)
    for target in (str(tmp_path / "out.mp4"), "rtsp://@:8554/door", "RTSP://@/x", "display://0"):
        open_outputs({"output": target}, ONE).close()
    assert opened == ["Video", "Rtsp", "Rtsp", "Display"]


def record(opened: list[str], name: str, *_: object) -> ListSink:
    opened.append(name)
    return ListSink()
