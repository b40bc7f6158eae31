"""Statistics of samples: a stopped run goes on, and worthless ones are not taken."""

from __future__ import annotations

import hashlib
import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
from golden import TAGS, Exporter
from locks import held

from vpt_edge.calibration import collect
from vpt_edge.calibration.collect import Collector, StatisticsFile, statistics_key
from vpt_edge.calibration.model import BundleModel
from vpt_edge.calibration.recorder import ActivationRecorder
from vpt_edge.calibration.samples import read_samples
from vpt_edge.runtime.lock import LockedError
from vpt_edge.runtime.testing import tiny_bundle


def test_a_stopped_calibration_goes_on_where_it_was(
    data: Path, exported: Exporter, tmp_path: Path
) -> None:
    model = BundleModel(exported(TAGS))
    samples = read_samples(data).samples[:36]

    def run(name: str, stop_at: int | None = None) -> ActivationRecorder:
        def progress(done: int) -> None:
            if done == stop_at:
                raise KeyboardInterrupt

        recorder = ActivationRecorder()
        Collector(model, samples, tmp_path / name).run("ranges", recorder, progress)
        return recorder

    whole = run("whole")
    with pytest.raises(KeyboardInterrupt):
        run("stopped", stop_at=21)
    assert json.loads((tmp_path / "stopped").read_text())["passes"]["ranges"]["done"] == 16
    again = run("stopped")
    assert whole.statistics.keys() == again.statistics.keys()
    for key, statistics in whole.statistics.items():
        assert statistics.to_dict() == again.statistics[key].to_dict()
    assert whole.largest.keys() == again.largest.keys() != set()
    for part, largest in whole.largest.items():
        assert largest.tolist() == again.largest[part].tolist()


def test_other_samples_make_the_file_worthless(
    data: Path, exported: Exporter, tmp_path: Path
) -> None:
    model = BundleModel(exported(TAGS))
    samples = read_samples(data).samples
    path = tmp_path / "ranges.json"
    collector = Collector(model, samples[:4], path)
    collector.run("ranges", ActivationRecorder())
    assert collector.file.load()
    assert not Collector(model, samples[:5], path).file.load()


def test_another_capacity_makes_the_file_worthless(data: Path, exported: Exporter) -> None:
    """A prompt that does not fit is not recorded, and an answer ends where the cache does."""
    bundle = exported(TAGS)
    samples = read_samples(data).samples[:1]
    cache = replace(bundle.manifest.cache, capacity=64)
    other = replace(bundle, manifest=replace(bundle.manifest, cache=cache))
    keys = {statistics_key(BundleModel(model), samples, 8) for model in (bundle, other)}
    assert len(keys) == 2


@pytest.mark.parametrize(
    "text",
    ["", "[", "[]", '{"key": "k", "passes": []}', '{"key": ' + "[" * 5000 + "]" * 5000 + "}"],
)
def test_a_damaged_file_holds_nothing(text: str, tmp_path: Path) -> None:
    (tmp_path / "statistics").write_text(text, "utf-8")
    assert StatisticsFile(tmp_path / "statistics", "k").load() == {}


def test_two_calibrations_with_one_file_know_of_each_other(tmp_path: Path) -> None:
    path = tmp_path / "ranges.json"
    collector = Collector(BundleModel(tiny_bundle(tmp_path / "bundle")), [], path)
    with (
        held(path, "calibration") as process,
        pytest.raises(LockedError, match=rf"another calibration is writing here .*{process}"),
    ):
        collector.run("ranges", ActivationRecorder())


def test_ranges_that_cannot_be_read_are_not_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = StatisticsFile(tmp_path / "ranges.json", "key")
    file.save("one", {"done": 1})

    def fail(self: Path) -> bytes:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", fail)
        with pytest.raises(OSError, match="Input/output"):
            file.save("two", {"done": 2})
    assert file.load() == {"one": {"done": 1}}


@pytest.mark.parametrize(
    "change",
    [
        {"statistics": {"decoder": {"x": {"count": 1}}}},
        {"statistics": []},
        {"largest": {"image": ["x"]}},
        {"done": "1"},
        {"done": 99},
        {"done": -1},
        {"looks": None},
    ],
)
def test_a_damaged_pass_starts_afresh(
    change: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collect, "open_pipeline", lambda model, recorder: nullcontext())
    model = BundleModel(tiny_bundle(tmp_path / "bundle"))
    collector = Collector(model, [], tmp_path / "ranges.json")
    recorder = ActivationRecorder()
    divisors = hashlib.sha256().hexdigest()
    entry = {"divisors": divisors, "done": 0, "looks": 0, "statistics": {}, "largest": {}}
    collector.file.save("ranges", {**entry, **change})
    collector.run("ranges", recorder)
    assert not recorder.statistics
    assert not recorder.largest
