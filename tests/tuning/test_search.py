"""Trials by scripted pipelines: what is asked, given up, combined, and taken up again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tuners import Clock, Rule, RuleOpener, timed, write_samples

from vpt_edge.calibration.samples import read_samples
from vpt_edge.runtime import VptError
from vpt_edge.runtime.testing import tiny_bundle
from vpt_edge.tuning import search as module
from vpt_edge.tuning.candidate import DEFAULT, Candidate, Setting
from vpt_edge.tuning.journal import Journal
from vpt_edge.tuning.search import Search, Task, Trial
from vpt_edge.tuning.table import choose, describe_trials
from vpt_edge.tuning.untuned import open_untuned

WIDE = Setting(first_max_pixels=168 * 168)
NARROW = Setting(first_max_pixels=112 * 112)
FULL = 224 * 224
COUNT = 60

Tune = Callable[..., tuple[list[Trial], RuleOpener]]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("time.perf_counter", clock)
    monkeypatch.setattr("vpt_edge.calibration.metrics.DRAWS", 20)
    monkeypatch.setattr("vpt_edge.runtime.host.usable_cores", lambda: 1)
    return clock


def seconds(options: dict[str, Any]) -> float:
    first = options.get("first_max_pixels", FULL)
    look = options.get("look_max_pixels", FULL)
    return float(first + look) / FULL


def right(number: int, name: str, options: dict[str, Any]) -> str:
    return "yes"


def needs_pixels(number: int, name: str, options: dict[str, Any]) -> str:
    """The first view may lose half of its pixels, and looks none."""
    is_enough = options.get("first_max_pixels", FULL) >= WIDE.first_max_pixels
    return "yes" if is_enough and "look_max_pixels" not in options else "no"


@pytest.fixture
def tune(tmp_path: Path, clock: Clock) -> Tune:
    tiny_bundle(tmp_path / "fp32")

    def run(rule: Rule, count: int = COUNT, **changes: Any) -> tuple[list[Trial], RuleOpener]:
        data = read_samples(write_samples(tmp_path, count, changes.pop("answers", True)))
        names = changes.pop("names", ("fp32",))
        progress = changes.pop("progress", lambda stage, done, detail: None)
        bundles = tuple(open_untuned(tmp_path / name) for name in names)
        task = Task(bundles, names, data.samples, **changes)
        opener = RuleOpener(timed(rule, clock, seconds))
        with Journal(tmp_path / "tune.jsonl").open() as journal:
            return Search(task, journal, progress, opener).run(), opener

    return run


def find(trials: list[Trial], setting: Setting) -> Trial:
    (trial,) = (trial for trial in trials if trial.candidate == Candidate(setting=setting))
    return trial


def test_the_default_is_asked_everything_first_and_as_exported(tune: Tune) -> None:
    trials, opener = tune(needs_pixels)
    assert trials[0].candidate == DEFAULT
    assert len(trials[0].replies) == COUNT
    first = opener.asked[:COUNT]
    assert sorted(number for number, _ in first) == list(range(COUNT))
    assert [number for number, _ in first] != list(range(COUNT))  # in an order drawn by lot
    usual = {"perception": "region", "temperature": 0.0, "max_new_tokens": 1024}
    assert all(options == usual for _, options in first)


def test_what_cannot_hold_is_given_up_early(tune: Tune) -> None:
    trials, opener = tune(needs_pixels)
    wide = find(trials, WIDE)
    narrow = find(trials, NARROW)
    assert wide.holds(trials[0], 0.5)
    assert len(wide.replies) == COUNT
    assert not narrow.holds(trials[0], 0.5)
    assert narrow.stopped.startswith("the drop is too large")
    assert len(narrow.replies) < 6
    assert opener.pipelines[0].closed


def test_the_cheapest_that_holds_is_chosen(tune: Tune) -> None:
    trials, _ = tune(needs_pixels)
    rows = describe_trials(trials, ["fp32"], 0.5, {}, {})
    chosen = choose(rows)
    assert chosen.candidate.setting == WIDE
    assert chosen.whole == pytest.approx(1.5625)
    assert rows[0].whole == pytest.approx(2.0)
    assert (chosen.accuracy, chosen.drop, chosen.answers_equal) == (1.0, 0.0, 1.0)
    assert [row.candidate.setting for row in rows if row.optimal] == [WIDE]


def test_what_held_alone_is_tried_together(tune: Tune) -> None:
    def rule(number: int, name: str, options: dict[str, Any]) -> str:
        lost = options.get("look_max_pixels", FULL) < 140 * 140 and number == 0
        return "no" if lost else "yes"

    trials, _ = tune(rule, max_drop=2.0)
    smallest = Setting(112 * 112, 112 * 112)
    assert find(trials, smallest).holds(trials[0], 2.0)
    rows = describe_trials(trials, ["fp32"], 2.0, {}, {})
    assert choose(rows).candidate.setting == smallest
    assert choose(rows).drop == pytest.approx(100 / 60)


def test_a_dearer_one_is_not_tried_where_a_cheaper_one_lost_nothing(tune: Tune) -> None:
    trials, opener = tune(right)
    skipped = find(trials, WIDE)
    assert (skipped.stopped, len(skipped.replies)) == (
        "not tried: first view 12,544 px is cheaper and held",
        0,
    )
    tried = [trial for trial in trials if trial.replies]
    assert [trial.candidate.setting for trial in tried] == [
        Setting(),
        NARROW,
        Setting(None, 112 * 112),
        Setting(112 * 112, 112 * 112),
    ]
    assert len(opener.asked) == 4 * COUNT


def test_without_true_answers_the_default_is_the_truth(tune: Tune) -> None:
    trials, _ = tune(needs_pixels, answers=False, max_drop=1.0)
    assert find(trials, WIDE).holds(trials[0], 1.0)
    assert "drop is too large" in find(trials, NARROW).stopped
    row = describe_trials(trials, ["fp32"], 1.0, {}, {})[0]
    assert (row.accuracy, row.labelled) == (None, 0)


def test_a_second_bundle_is_tried_alone_and_with_settings(tune: Tune, tmp_path: Path) -> None:
    tiny_bundle(tmp_path / "int8", "detection")

    def rule(number: int, name: str, options: dict[str, Any]) -> str:
        return needs_pixels(number, name, options)

    trials, opener = tune(rule, names=("fp32", "int8"))
    others = [trial.candidate for trial in trials if trial.candidate.bundle]
    assert Candidate(1) in others
    assert Candidate(1, WIDE) in others
    assert [one.bundle.path.name for one in opener.pipelines] == ["fp32", "int8"]
    assert all(pipeline.closed for pipeline in opener.pipelines)
    names = [row.name for row in describe_trials(trials, ["fp32", "int8"], 0.5, {}, {})]
    assert names[0] == "fp32, as exported"
    assert "int8, first view 28,224 px" in names


def test_a_second_run_asks_nothing_again(tune: Tune) -> None:
    before, _ = tune(needs_pixels)
    after, opener = tune(right)  # whose answers would be others
    assert opener.pipelines == []
    assert after == before


def test_a_stopped_run_goes_on_where_it_was(tune: Tune) -> None:
    class Stop(KeyboardInterrupt):
        pass

    done = list[str]()

    def stop(stage: str, share: float, detail: str) -> None:
        done.append(detail)
        if len(done) == COUNT + 20:
            raise Stop

    with pytest.raises(Stop):
        tune(right, progress=stop)
    trials, opener = tune(right)
    first = [options for _, options in opener.asked if options.get("first_max_pixels")]
    assert len(opener.asked) == 4 * COUNT - (COUNT + 20)
    assert len([one for one in first if "look_max_pixels" not in one]) == COUNT - 20
    assert all(len(trial.replies) == COUNT for trial in trials if not trial.stopped)


def test_other_questions_or_another_bundle_are_asked_anew(tune: Tune, tmp_path: Path) -> None:
    tune(right)
    _, opener = tune(right, count=COUNT + 1)
    assert len(opener.asked) == 4 * (COUNT + 1)
    _, opener = tune(right, max_new_tokens=8)
    assert len(opener.asked) == 4 * COUNT


def test_another_metric_needs_no_new_answers(tune: Tune) -> None:
    def shout(number: int, name: str, options: dict[str, Any]) -> str:
        return "Yes!"

    trials, _ = tune(shout)
    assert describe_trials(trials, ["fp32"], 0.5, {}, {})[0].accuracy == 0.0
    trials, opener = tune(shout, metric="vqa")
    assert opener.asked == []
    assert describe_trials(trials, ["fp32"], 0.5, {}, {})[0].accuracy == 1.0


def test_a_line_that_was_cut_is_written_again(tune: Tune, tmp_path: Path) -> None:
    tune(right)
    journal = tmp_path / "tune.jsonl"
    whole = journal.read_bytes()
    journal.write_bytes(whole[:-20])
    _, opener = tune(right)
    assert len(opener.asked) == 1
    lines = [json.loads(line) for line in journal.read_bytes().splitlines()]
    assert len(lines) == 1 + 4 * COUNT


def test_a_file_of_somebody_else_is_left_alone(tune: Tune, tmp_path: Path) -> None:
    journal = tmp_path / "tune.jsonl"
    for text in ('{"image": "a.png"}\n', "not JSON\n", '{"vpt-tune": 1}\n{}\n'):
        journal.write_text(text)
        with pytest.raises(VptError, match="is not a"):
            tune(right)
        assert journal.read_text() == text


def test_questions_that_cannot_be_asked(tune: Tune) -> None:
    def few(number: int, name: str, options: dict[str, Any]) -> str:
        return "?" if number < 2 else "yes"

    trials, _ = tune(few)
    assert describe_trials(trials, ["fp32"], 0.5, {}, {})[0].accuracy == pytest.approx(58 / 60)
    assert trials[0].replies[0].outcome.error == "this cannot be asked"
    with pytest.raises(VptError, match="60 of 60 samples cannot be asked, expected less than 5 %"):
        tune(lambda number, name, options: "?", max_new_tokens=2)


def test_progress_names_the_stage_and_its_share(tune: Tune) -> None:
    told = list[tuple[str, float, str]]()
    tune(right, progress=lambda *each: told.append(each))
    assert list(dict.fromkeys(stage for stage, _, _ in told)) == [
        "the default",
        "one by one",
        "together",
    ]
    assert told[COUNT - 1] == ("the default", 1.0, "as exported: 60 of 60")
    assert all(0 < share <= 1 for _, share, _ in told)


def test_what_held_is_timed_in_turn(tmp_path: Path, clock: Clock) -> None:
    """A machine that slows down from answer to answer tells the same shares."""
    tiny_bundle(tmp_path / "fp32")
    samples = read_samples(write_samples(tmp_path, COUNT)).samples
    task = Task((open_untuned(tmp_path / "fp32"),), ("fp32",), samples)
    opener = RuleOpener(timed(right, clock, lambda options: seconds(options) + clock.now / 100))
    wide = Candidate(setting=WIDE)
    with Journal(tmp_path / "tune.jsonl").open() as journal:
        replies = Search(task, journal, opener=opener).time([DEFAULT, wide])
    assert [len(each) for each in replies.values()] == [module.TIMED, module.TIMED]
    settings = ["first_max_pixels" in options for _, options in opener.asked[1:]]
    assert settings == [False, True] * module.TIMED
    numbers = [number for number, _ in opener.asked[1:]]
    assert numbers[::2] == numbers[1::2]
    assert opener.pipelines[0].closed
    assert len((tmp_path / "tune.jsonl").read_text().splitlines()) == 1


def test_fewer_threads_are_tried_on_a_processor(
    tune: Tune, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vpt_edge.runtime.host.usable_cores", lambda: 2)
    limits = list[int | None]()

    @contextmanager
    def limit(count: int | None) -> Iterator[None]:
        limits.append(count)
        yield

    monkeypatch.setattr(module, "limit_threads", limit)
    monkeypatch.setattr(module, "HAS_AFFINITY", True)
    trials, _ = tune(right)
    assert limits[:2] == [None, 1]
    assert Candidate(threads=1) in [trial.candidate for trial in trials]
    _, opener = tune(right, device="cuda")
    assert len(opener.pipelines) == 1
