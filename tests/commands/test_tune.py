"""vpt-tune as a person uses it: what it prints, writes and leaves, and how it ends on bad input."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tuners import RuleOpener, write_samples

from vpt_edge.commands import tune as command
from vpt_edge.runtime import Bundle
from vpt_edge.runtime.manifest import MANIFEST, Budget
from vpt_edge.runtime.testing import tiny_bundle
from vpt_edge.tuning.search import TIMED, Search

HALF = 168 * 168
FULL = 224 * 224
COUNT = 30

Run = Callable[..., tuple[int, str, str]]


def needs_half(number: int, name: str, options: dict[str, Any]) -> str:
    """The first view may lose half of its pixels, and looks none."""
    is_enough = options.get("first_max_pixels", FULL) >= HALF
    return "yes" if is_enough and "look_max_pixels" not in options else "no"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return tiny_bundle(tmp_path / "bundle").path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_samples(tmp_path, COUNT)


@pytest.fixture
def opener(monkeypatch: pytest.MonkeyPatch) -> RuleOpener:
    opener = RuleOpener(needs_half)
    ticks = iter(range(10**9))
    monkeypatch.setattr("vpt_edge.calibration.metrics.DRAWS", 20)
    monkeypatch.setattr("vpt_edge.runtime.host.usable_cores", lambda: 1)
    monkeypatch.setattr("vpt_edge.tuning.tuning.Search", functools.partial(Search, opener=opener))
    monkeypatch.setattr("vpt_edge.tuning.tuning.measure_memory", lambda *task: 64 << 20)
    # Each answer is a little faster than the one before.
    monkeypatch.setattr("time.perf_counter", lambda: 1000 - 1000 * 0.999 ** next(ticks))
    return opener


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], opener: RuleOpener) -> Run:
    def tune(*arguments: object) -> tuple[int, str, str]:
        code = command.main([*map(str, arguments)])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return tune


def test_it_prints_the_table_and_writes_the_page(run: Run, bundle: Path, data: Path) -> None:
    before = (bundle / MANIFEST).read_bytes()
    code, out, err = run(bundle, "--data", data)
    assert (code, err) == (0, "")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert lines[0].startswith("accuracy drop answers equal boxes' IoU first token whole answer")
    assert lines[1].startswith("as exported 100.00 % (100.00 to 100.00) 100.0 % 1.000 1.0 ms")
    assert lines[2].startswith("first view 28,224 px * 100.00 % (100.00 to 100.00) 0.00 (0.00 to")
    assert any(line.startswith("given up after 1: first view 12,544 px: ") for line in lines)
    assert lines[-2].startswith("Chosen: first view 28,224 px: ")
    page = bundle.with_name("bundle.tune.html")
    assert lines[-1] == f"report: {page}"
    assert "Chosen: first view 28,224 px" in page.read_text("utf-8")
    assert (bundle / MANIFEST).read_bytes() == before


def test_json_says_the_same(run: Run, bundle: Path, data: Path) -> None:
    code, out, _ = run(bundle, "--data", data, "--json", "--report", bundle.parent / "r.html")
    summary = json.loads(out)
    assert (code, summary["max_drop"], summary["metric"]) == (0, 0.5, "exact")
    assert (summary["written"], summary["cores"]) == (False, None)
    chosen = summary["rows"][summary["chosen"]]
    expected = {
        "first_max_pixels": HALF,
        "look_max_pixels": None,
        "threads": None,
        "bundle": 0,
        "count": COUNT,
        "labelled": COUNT,
        "accuracy": 1.0,
        "drop": 0.0,
        "answers_equal": 1.0,
        "boxes_iou": 1.0,
        "memory": 64 << 20,
        "held": True,
        "stopped": "",
        "optimal": True,
    }
    assert {key: chosen[key] for key in expected} == expected
    assert chosen["whole"] < summary["rows"][0]["whole"]
    assert summary["report"] == str(bundle.parent / "r.html")


def test_write_puts_the_choice_into_the_manifest(
    run: Run, bundle: Path, data: Path, opener: RuleOpener
) -> None:
    code, out, _ = run(bundle, "--data", data, "--write")
    assert code == 0
    assert f"written into {bundle}\n" in out
    budget = Bundle.open(bundle).manifest.budget
    assert (budget.first_max_pixels, budget.look_max_pixels) == (HALF, None)
    assert budget.tuned is not None
    assert (budget.tuned.samples, budget.tuned.allowed) == (COUNT, 0.5)
    asked = len(opener.asked)
    code, out, _ = run(bundle, "--data", data, "--json")  # as it was exported, from the journal
    assert (code, len(opener.asked)) == (0, asked + 1 + 2 * TIMED)  # to time what held
    assert json.loads(out)["rows"][0]["first_max_pixels"] is None


def test_nothing_is_written_where_nothing_is_better(
    run: Run, bundle: Path, data: Path, opener: RuleOpener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opener, "_rule", lambda number, name, options: str(len(options)))
    before = (bundle / MANIFEST).read_bytes()
    data.write_text(data.read_text().replace('"yes"', '"3"'))
    code, out, err = run(bundle, "--data", data, "--write")
    assert code == 0
    assert "the bundle stays as it was exported" in out
    assert err == "hint: nothing was written: no bundle's own setting is better than as exported\n"
    assert (bundle / MANIFEST).read_bytes() == before


def test_the_choice_of_a_second_bundle_is_written_into_that(
    run: Run, bundle: Path, data: Path, tmp_path: Path
) -> None:
    small = tiny_bundle(tmp_path / "small", "detection").path
    code, out, _ = run(bundle, small, "--data", data, "--write", "--json")
    summary = json.loads(out)
    assert (code, summary["rows"][summary["chosen"]]["bundle"]) == (0, 1)
    assert Bundle.open(bundle).manifest.budget == Budget()
    assert Bundle.open(small).manifest.budget.first_max_pixels == HALF


def test_ctrl_c_leaves_what_was_answered_and_the_bundle(
    run: Run, bundle: Path, data: Path, opener: RuleOpener, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(number: int, name: str, options: dict[str, Any]) -> str:
        if len(opener.asked) == COUNT + 5:
            raise KeyboardInterrupt
        return needs_half(number, name, options)

    before = (bundle / MANIFEST).read_bytes()
    monkeypatch.setattr(opener, "_rule", interrupt)
    code, out, err = run(bundle, "--data", data, "--write")
    assert (code, out, err) == (130, "", "stopped\n")
    assert (bundle / MANIFEST).read_bytes() == before
    journal = bundle.with_name("bundle.tune.jsonl")
    assert len(journal.read_text().splitlines()) == 1 + COUNT + 4
    assert not bundle.with_name("bundle.tune.html").exists()
    monkeypatch.setattr(opener, "_rule", needs_half)
    asked = len(opener.asked)
    assert run(bundle, "--data", data, "--write")[0] == 0
    usual = [options for _, options in opener.asked[asked:] if options == opener.asked[0][1]]
    assert len(usual) == 1 + TIMED  # to time it: nothing is asked again for its answer
    assert Bundle.open(bundle).manifest.budget.first_max_pixels == HALF


def fails(result: tuple[int, str, str]) -> str:
    """The one line of a command that ended badly."""
    code, out, err = result
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize("drop", ["-1", "100", "nan", "inf"])
def test_a_drop_out_of_range(run: Run, bundle: Path, data: Path, drop: str) -> None:
    error = fails(run(bundle, "--data", data, f"--max-drop={drop}"))
    assert f"--max-drop is {drop}, expected a number from 0 to below 100" in error


def test_bad_input_is_one_line(run: Run, bundle: Path, data: Path, tmp_path: Path) -> None:
    assert "there is no such folder" in fails(run(tmp_path / "none", "--data", data))
    assert "no data at" in fails(run(bundle, "--data", tmp_path / "none.jsonl"))
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"image": "a.png"}\n')
    assert "bad.jsonl, line 1" in fails(run(bundle, "--data", bad))
    assert "a bundle was given twice" in fails(run(bundle, bundle, "--data", data))
    assert "--data" in fails(run(bundle))
    report = tmp_path / "data.html"
    assert "it holds the samples" in fails(run(bundle, "--data", data, "--report", report))
    report = tmp_path / "report.txt"
    assert "ends in .html" in fails(run(bundle, "--data", data, "--report", report))
    report = tmp_path / "none" / "r.html"
    assert "its folder does not exist" in fails(run(bundle, "--data", data, "--report", report))
    assert len(data.read_text().splitlines()) == COUNT


def test_write_is_refused_before_the_work(
    run: Run, bundle: Path, data: Path, opener: RuleOpener, tmp_path: Path
) -> None:
    (bundle / MANIFEST).rename(tmp_path / "blob")
    (bundle / MANIFEST).symlink_to(tmp_path / "blob")
    assert "is a symlink" in fails(run(bundle, "--data", data, "--write"))
    assert opener.asked == []
