"""Outcomes of scripted bundles, their agreement, and vpt-eval's verdict and pages."""

from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from zoom import call, zoom_bundle

from vpt_edge.calibration import evaluation, html, report
from vpt_edge.calibration.evaluation import compare, evaluate, latency
from vpt_edge.calibration.metrics import exact
from vpt_edge.calibration.outcome import Outcome
from vpt_edge.calibration.report import worst
from vpt_edge.calibration.sample import Sample
from vpt_edge.calibration.samples import Samples, read_samples
from vpt_edge.commands import eval as command
from vpt_edge.runtime import Bundle, Crop, Looked, Pipeline, Reencode, VptError
from vpt_edge.runtime.models.qwen2_vl import PROCESSOR
from vpt_edge.runtime.testing import Script, tiny_bundle

REGION = "<|region_token_start|><|x_2|><|y_3|><|region_token_end|>"
WIDER = "<|region_token_start|><|x_2|><|y_3|><|x_3|><|region_token_end|>"
ACTION = "<|clip_action_start|><|clip_action|><|clip_action_end|>"


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)).save(path)
    return path


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return tiny_bundle(tmp_path / "int8").path


def speak(bundle: Path, *turns: str) -> Pipeline:
    return Pipeline(bundle, opener=Script(*turns))


def outcome(
    text: str = "yes",
    score: float | None = None,
    cells: tuple[int, int, int, int] | None = None,
    kind: str = "",
    logits: list[float] | None = None,
) -> Outcome:
    looks = [Looked(Crop(cells, (0, 0, 1, 1)), 4)] if cells else []
    looks += [Looked(Reencode(kind), 4)] if kind else []
    first = None if logits is None else np.asarray(logits, np.float32)
    return Outcome(text, text, tuple(looks), score, {"decode": 1.0}, "stop", "", first)


def test_an_outcome_is_what_the_loop_gave(bundle: Path, picture: Path) -> None:
    samples = [
        Sample(picture, "Q", "cat"),
        Sample(picture, "Q", "cat", "region", (0, 0, 16, 16)),
        Sample(picture, "Q", None, "reencode"),
        Sample(picture, "Q", "bird", "off"),
    ]
    done: list[int] = []
    with speak(bundle, "cat", REGION, "cat", ACTION, "dog", f"bird{REGION}") as pipeline:
        found = evaluate(pipeline, samples, exact, done.append)
    assert [one.text for one in found] == ["cat", "cat", "dog", "bird"]
    assert [one.raw for one in found] == ["cat", "cat", "dog", f"bird{REGION}"]
    assert [one.score for one in found] == [1, 1, None, 1]
    assert [one.triggers for one in found] == [(), ("region",), ("clip",), ()]
    assert [one.cells for one in found] == [(), ((2, 3, 2, 3),), (), ()]
    assert found[1].looks[0].box == (2, 4, 8, 10)  # in the sample's crop
    assert found[1].looks[0].crop is None
    assert [one.finish_reason for one in found] == ["stop"] * 4
    assert set(found[0].seconds) == {
        "preprocess",
        "vision",
        "reencode",
        "prefill",
        "decode",
        "total",
    }
    assert found[0].first_logits is None
    assert done == [1, 2, 3, 4]


def test_max_new_tokens_reaches_the_pipeline(bundle: Path, picture: Path) -> None:
    with speak(bundle, "a long story") as pipeline:
        (one,) = evaluate(pipeline, [Sample(picture, "Q")], exact, max_new_tokens=3)
    assert (one.text, one.finish_reason) == ("a l", "length")


def test_a_picture_that_goes_white_is_hinted_at(bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "wide.png"
    Image.fromarray(np.full((32, 32), 40000, np.uint16)).save(path)
    with speak(bundle, "a") as pipeline, pytest.warns(UserWarning, match="shown white"):
        evaluate(pipeline, [Sample(path, "Q")], exact)


def test_the_hint_at_perceptions_is_not_repeated(bundle: Path, picture: Path) -> None:
    opened = Bundle.open(bundle)
    manifest = opened.manifest
    waiting = {**manifest.perception, "prompt_triggered": True}
    told = replace(opened, manifest=replace(manifest, perception=waiting))
    pipeline = Pipeline(told, opener=Script("cat"))
    evaluate(pipeline, [Sample(picture, "Q")], exact)  # a warning would be an error


def test_first_logits_are_kept_as_far_as_they_fit(
    bundle: Path, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = [Sample(picture, "Q")] * 3
    with speak(bundle, REGION, "cat", "dog", "cat") as pipeline:
        size = pipeline.bundle.manifest.text.vocab_size
        monkeypatch.setattr(evaluation, "LOGITS_BYTES", 4 * size + 1)
        found = evaluate(pipeline, samples, exact, keep_logits=True)
    first, second, third = (one.first_logits for one in found)
    assert first is not None and second is not None and third is None
    assert first.shape == (size,) and first.dtype == np.float32
    assert first.base is None  # the other tokens' logits are let go
    start = json.loads((bundle / "tokenizer.json").read_text())
    (ident,) = (
        token["id"]
        for token in start["added_tokens"]
        if token["content"] == "<|region_token_start|>"
    )
    assert first.argmax() == ident != second.argmax()


def test_a_sample_that_cannot_be_asked_fails_alone(bundle: Path, picture: Path) -> None:
    long = Sample(picture, "why? " * 1000, "so")
    short = [Sample(picture, "Q", "so")] * 20
    with speak(bundle, *["so"] * 20) as pipeline:
        found = evaluate(pipeline, [*short, long], exact)
    assert [one.score for one in found] == [1] * 20 + [0]
    assert found[-1].finish_reason == "failed"
    assert "the cache takes 2048" in found[-1].error
    assert worst(found) == [20]
    assert set(latency(found)) == set(found[0].seconds)
    with (
        speak(bundle, *["so"] * 20) as pipeline,
        pytest.raises(VptError, match=r"1 of 20 samples cannot be asked.*a\.png"),
    ):
        evaluate(pipeline, [*short[:19], long], exact)


def test_agreement_counts_what_is_equal() -> None:
    box, wide = (0, 0, 0, 0), (0, 0, 1, 0)
    ours = [
        outcome("a"),
        outcome("b", cells=wide),
        outcome("c", cells=box),
        outcome("d", kind="clip"),
        outcome("e"),
    ]
    theirs = [
        outcome("a"),
        outcome("b", cells=box),
        outcome("c", cells=box),
        outcome("D"),
        outcome("e", cells=box),
    ]
    found = compare(ours, theirs)
    assert found.count == 5
    assert found.answers_equal == pytest.approx(0.8)
    assert found.triggers_equal == pytest.approx(0.6)
    assert found.regions == 3
    assert found.cells_equal == pytest.approx(1 / 3)
    assert found.cells_iou == pytest.approx((0.5 + 1 + 0) / 3)
    assert (found.accuracy, found.other_accuracy, found.labelled) == (None, None, 0)
    assert found.drop == pytest.approx(20)
    assert found.drop_interval[0] <= 0 < 20 < found.drop_interval[1] <= 100
    assert (found.first_token_kl, found.first_tokens) == (None, 0)


def test_the_drop_is_what_the_reference_has_more() -> None:
    scores, others = [1, 0, 0.5, None, 1], [1, 1, 1, None, 1]
    found = compare(
        [outcome(score=score) for score in scores], [outcome(score=score) for score in others]
    )
    assert (found.accuracy, found.other_accuracy, found.labelled) == (0.625, 1, 4)
    assert found.drop == 37.5
    assert found.drop_interval[0] >= 0
    better = compare([outcome(score=1)] * 4, [outcome(score=1), *[outcome(score=0)] * 3])
    assert better.drop == -75
    assert (better.cells_equal, better.cells_iou, better.regions) == (1, 1, 0)
    assert better.within(0)


def test_regions_without_cells_are_compared_by_their_pixels() -> None:
    """Of a model that names pixels: regions that differ must not pass for equal."""

    def look_at(box: tuple[int, int, int, int]) -> Outcome:
        looks = (Looked(Crop(None, box), 4), Looked(Reencode("clip"), 4))
        return Outcome("yes", "yes", looks, None, {"decode": 1.0}, "stop")

    assert look_at((10, 20, 30, 40)).cells == ((10, 20, 29, 39),)
    ours = [look_at((0, 0, 10, 10)), look_at((0, 0, 10, 10)), look_at((0, 0, 0, 0))]
    theirs = [look_at((0, 0, 10, 10)), look_at((0, 0, 10, 5)), look_at((0, 0, 0, 0))]
    found = compare(ours, theirs)
    assert found.regions == 3
    assert found.cells_equal == pytest.approx(2 / 3)
    assert found.cells_iou == pytest.approx((1 + 0.5 + 1) / 3)


def test_a_region_of_another_picture_is_another_region() -> None:
    def look_at(box: tuple[int, int, int, int], picture: int, area: Any = None) -> Outcome:
        looks = (Looked(Crop(None, box), 4, picture=picture, area=area),)
        return Outcome("yes", "yes", looks, None, {"decode": 1.0}, "stop")

    box = (0, 0, 10, 10)
    inner = look_at((2, 2, 4, 4), 1, area=(30, 30, 40, 40))
    assert inner.regions == ((1, (30, 30, 39, 39)),)  # in pixels of the picture, not of the crop
    found = compare(
        [look_at(box, 0), look_at(box, 1), inner], [look_at(box, 1), look_at(box, 1), inner]
    )
    assert found.cells_equal == pytest.approx(2 / 3)
    assert found.cells_iou == pytest.approx((0 + 1 + 1) / 3)


def test_a_rounding_error_exceeds_nothing() -> None:
    found = compare([outcome(score=0.7)], [outcome(score=1.0)])
    assert found.drop > 30
    assert found.within(30)
    assert not found.within(29.999)


def test_first_token_kl_is_the_mean_over_what_both_kept() -> None:
    even, skew = [0.0, 0.0], [float(np.log(3)), 0.0]
    ours = [outcome(logits=skew), outcome(logits=even), outcome(), outcome(logits=[0.0, 0.0, 0.0])]
    found = compare(ours, [outcome(logits=even)] * 4)
    assert found.first_tokens == 2
    assert found.first_token_kl == pytest.approx(
        (0.5 * np.log(0.5 / 0.75) + 0.5 * np.log(0.5 / 0.25)) / 2
    )


@pytest.mark.parametrize("counts", [(1, 2), (0, 0)])
def test_outcomes_of_other_samples_are_not_compared(counts: tuple[int, int]) -> None:
    with pytest.raises(VptError, match="expected as many"):
        compare(*([outcome()] * count for count in counts))


def test_latency_is_median_and_tail() -> None:
    runs = [replace(outcome(), seconds={"decode": float(second)}) for second in range(101)]
    assert latency(runs) == {"decode": (50, 95)}
    assert latency([]) == {}


def test_the_worst_come_first_and_the_good_not_at_all() -> None:
    box, near = (0, 0, 1, 1), (0, 0, 1, 2)
    theirs = [outcome("a", 1.0, box)] * 6
    ours = [
        outcome("a", 1.0, box),
        outcome("a", 1.0, near),
        outcome("b", 1.0, box),
        outcome("b", 0.0, box),
        outcome("b", 0.5, box),
        outcome("a", 1.0, kind="clip"),
    ]
    assert worst(ours, theirs) == [3, 4, 2, 5, 1]
    assert worst(ours, theirs, 2) == [3, 4]
    assert worst(ours) == [3, 4]
    assert worst(theirs, theirs) == []


class Page(HTMLParser):
    """Reads a page; remembers what it would load, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.tags: list[str] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attributes if name in ("src", "href")]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_page_is_whole_and_takes_text_for_text() -> None:
    evil = "<script>alert('&')</script>"
    picture = html.picture(Image.new("RGBA", (900, 300)), [(evil, evil)])
    parts = [
        html.paragraph(evil),
        html.table([evil], [[evil]]),
        html.bars([evil], {"a": [1], evil: [2]}),
        picture,
    ]
    page = Page(html.page(evil, [(evil, html.pair("".join(parts)))]))
    assert page.open == []
    assert "script" not in page.tags
    assert page.text.count(evil) == 3 + 3 + 2 + 2
    (source,) = page.sources
    head, data = source.split(",")
    assert head == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        assert image.size == (480, 160)


def test_bars_are_as_long_as_their_values() -> None:
    plot = html.bars(["one", "two"], {"a": [1, 4], "b": [2, 0]}, "{:.1f} ms")
    lengths = [float(width) for width in re.findall(r'x="170" y="\d+" width="(\d+\.\d)"', plot)]
    assert lengths == [105, 210, 420, 0]
    assert "4.0 ms" in plot
    assert "nan" not in html.bars(["none"], {"a": [0]})


@pytest.fixture
def other(tmp_path: Path) -> Path:
    return tiny_bundle(tmp_path / "fp32").path


@pytest.fixture
def data(tmp_path: Path, picture: Path) -> Path:
    """Four questions about one picture, the answers all "cat"."""
    path = tmp_path / "data.jsonl"
    modes = ("free", "region", "reencode", "off")
    lines = (
        {"image": "a.png", "question": f"<{mode}>", "answer": "cat", "perception": mode}
        for mode in modes
    )
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """What each bundle says, by its name, in place of its graphs."""
    said = {
        "int8": ["cat", WIDER, "dog", ACTION, "cat", "cat"],
        "fp32": ["cat", REGION, "cat", ACTION, "cat", "cat"],
    }
    monkeypatch.setattr(
        "vpt_edge.runtime.pipeline.Pipeline",
        lambda bundle, device: Pipeline(bundle, opener=Script(*said[bundle.path.name])),
    )
    return said


def judge(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, Any]:
    code = command.main([*map(str, arguments), "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_a_drop_ends_with_1(
    bundle: Path,
    other: Path,
    data: Path,
    scripts: dict[str, list[str]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = (bundle, "--data", data, "--compare", other, "--max-drop")
    code, found = judge(capsys, *arguments, 24.9)
    assert (code, found["passed"]) == (1, False)
    expected = {
        "count": 4,
        "accuracy": 0.75,
        "other_accuracy": 1.0,
        "answers_equal": 0.75,
        "triggers_equal": 1.0,
        "cells_equal": 0.0,
        "cells_iou": 0.5,
        "drop": 25.0,
        "labelled": 4,
        "looked": 0.5,
        "first_tokens": 4,
        "finish_reasons": {"stop": 4},
        "bundle": "int8",
        "other": "fp32",
    }
    assert {key: found[key] for key in expected} == expected
    assert found["first_token_kl"] == pytest.approx(0)
    assert (
        set(found["seconds"]["total"]) == set(found["other_seconds"]["total"]) == {"median", "p95"}
    )
    code, found = judge(capsys, *arguments, 25)
    assert (code, found["passed"]) == (0, True)


def test_without_labels_changed_answers_are_the_drop(
    bundle: Path,
    other: Path,
    data: Path,
    scripts: dict[str, list[str]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    data.write_text(data.read_text().replace(', "answer": "cat"', ""))
    code, found = judge(capsys, bundle, "--data", data, "--compare", other, "--max-drop", 24)
    assert (code, found["drop"], found["accuracy"]) == (1, 25.0, None)
    assert judge(capsys, bundle, "--data", data, "--compare", other)[0] == 0


def test_one_bundle_is_judged_by_the_true_answers(
    bundle: Path, data: Path, scripts: dict[str, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = judge(capsys, bundle, "--data", data, "--metric", "anls")
    assert (code, found["accuracy"], found["other"], found["answers_equal"]) == (
        0,
        0.75,
        None,
        None,
    )
    low, high = found["accuracy_interval"]
    assert low < 0.75 < high
    scripts["int8"] = ["cat."] * 4
    assert judge(capsys, bundle, "--data", data, "--metric", "vqa")[1]["accuracy"] == 1
    assert judge(capsys, bundle, "--data", data)[1]["accuracy"] == 0


def test_a_bundle_agrees_with_itself(
    bundle: Path, data: Path, scripts: dict[str, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = judge(capsys, bundle, "--data", data, "--compare", bundle, "--max-drop", 0)
    assert (code, found["answers_equal"], found["cells_equal"], found["drop"]) == (0, 1, 1, 0)
    assert found["other"] != found["bundle"]
    assert found["other_seconds"]


def test_the_text_says_the_same(
    bundle: Path,
    other: Path,
    data: Path,
    scripts: dict[str, list[str]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert (
        command.main([*map(str, (bundle, "--data", data, "--compare", other, "--max-drop", 1))])
        == 1
    )
    printed = capsys.readouterr()
    lines = [" ".join(line.split()) for line in printed.out.splitlines()]
    assert lines[0] == "int8 fp32"
    accuracies = "75.00 % (95 %: 25.00 to 100.00) 100.00 % (95 %: 100.00 to 100.00)"
    assert f"accuracy (exact, 4 true answers) {accuracies}" in lines
    assert "drop 25.00 points (95 %: 0.00 to 75.00)" in lines
    assert "triggers equal 100.00 %" in lines
    assert "region cells equal, of 1 0.00 %" in lines
    assert any(
        line.startswith("latency, ms int8 median int8 p95 fp32 median fp32 p95") for line in lines
    )
    assert any(re.fullmatch(r"prefill( \d+\.\d\d){4}", line) for line in lines)
    assert printed.err == "failed: the drop exceeds --max-drop 1\n"


def test_the_report_shows_the_worst_with_both_answers(
    bundle: Path, other: Path, data: Path, scripts: dict[str, list[str]], tmp_path: Path
) -> None:
    path = tmp_path / "report.html"
    arguments = (bundle, "--data", data, "--compare", other, "--max-drop", 1, "--report", path)
    assert command.main([*map(str, arguments)]) == 1
    page = Page(path.read_text("utf-8"))
    assert page.open == []
    assert len(page.sources) == 2  # one sample differs, and both bundles' looks are drawn
    assert all(source.startswith("data:image/jpeg;base64,") for source in page.sources)
    with Image.open(io.BytesIO(base64.b64decode(page.sources[0].split(",")[1]))) as overlay:
        assert overlay.width > 1.5 * overlay.height  # the crop beside the picture
    for text in (
        "a.png: <region> True answer: cat",
        "int8: dog",
        "fp32: cat",
        "cells (2,3)-(3,3)",
        "exceeded",
    ):
        assert text in page.text
    assert [entry.name for entry in tmp_path.glob("*.html")] == ["report.html"]


def test_the_report_of_a_single_bundle(
    bundle: Path,
    data: Path,
    scripts: dict[str, list[str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "report.html"
    assert command.main([*map(str, (bundle, "--data", data, "--report", path))]) == 0
    assert len(Page(path.read_text("utf-8")).sources) == 1
    scripts["int8"] = ["cat"] * 4
    assert command.main([*map(str, (bundle, "--data", data, "--report", path))]) == 0
    assert "No sample is wrong." in path.read_text("utf-8")
    assert "hint: no sample made the model look again" in capsys.readouterr().err


def test_a_look_without_pixels_is_reported_without_a_picture(picture: Path) -> None:
    flat = Sample(picture, "Q", "cat", "free", (5, 5, 5, 5))
    found = evaluation.Evaluation("int8", "exact", Samples((flat,)), [outcome("dog", 0.0)])
    page = Page(report.page(found))
    assert page.sources == []
    assert "int8: dog (no picture: " in page.text


def test_a_budget_is_that_of_the_judged_bundle(
    bundle: Path,
    other: Path,
    data: Path,
    scripts: dict[str, list[str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = []
    ask = Pipeline.ask

    def record(pipeline: Pipeline, *arguments: Any, **options: Any) -> Any:
        assert isinstance(pipeline.bundle, Bundle)
        name = pipeline.bundle.path.name
        asked.append((name, options.get("first_max_pixels"), options.get("look_max_pixels")))
        return ask(pipeline, *arguments, **options)

    monkeypatch.setattr(Pipeline, "ask", record)
    budget = ("--first-max-pixels", 3136, "--look-max-pixels", 5000)
    judge(capsys, bundle, "--data", data, "--compare", other, *budget)
    assert set(asked) == {("int8", 3136, 5000), ("fp32", None, None)}


def test_pictures_left_out_are_named(
    bundle: Path,
    picture: Path,
    scripts: dict[str, list[str]],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    lines = [{"image": "a.png", "question": "Q"}] * 20 + [{"image": "none.png", "question": "Q"}]
    data = tmp_path / "data.jsonl"
    data.write_text("\n".join(map(json.dumps, lines)))
    scripts["int8"] = ["cat"] * 20
    assert command.main([str(bundle), "--data", str(data)]) == 0
    printed = capsys.readouterr()
    assert "unreadable pictures, left out" in printed.out
    assert printed.err.startswith("left out: no picture at ")


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["--max-drop", "1"], "--max-drop needs --compare"),
        (["--compare", "BUNDLE", "--max-drop", "nan"], "--max-drop needs"),
        (["--compare", "BUNDLE", "--max-drop", "inf"], "--max-drop needs"),
        (["--compare", "BUNDLE", "--max-drop", "-1"], "--max-drop needs"),
        (["--compare", "missing"], "is not a bundle"),
        (["--report", "missing/report.html"], "cannot write"),
        (["--report", "/proc/report.html"], "cannot write"),
        (["--report", ""], "cannot write"),
        (["--compare", ""], "is not a bundle"),
        (["--report", "DATA"], "it holds the samples; choose another name"),
        (["--metric", "yesno"], "neither yes nor no"),
        (["--max-new-tokens", "0"], "cannot be asked"),
        (["--data", "missing.jsonl"], "no data at missing.jsonl"),
    ],
)
def test_bad_input_ends_with_2(
    arguments: list[str],
    fault: str,
    bundle: Path,
    data: Path,
    scripts: dict[str, list[str]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    places = {"BUNDLE": str(bundle), "DATA": str(data)}
    asked = [places.get(argument, argument) for argument in arguments]
    assert command.main([str(bundle), "--data", str(data), *asked]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ") and printed.err.count("\n") == 1
    assert fault in printed.err


def test_a_reader_that_goes_away_changes_no_verdict(
    bundle: Path,
    other: Path,
    data: Path,
    scripts: dict[str, list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(command, "exit_code", lambda run: (run(), 0)[1])
    monkeypatch.setattr(command, "_report", lambda *_: None)
    assert (
        command.main([*map(str, (bundle, "--data", data, "--compare", other, "--max-drop", 1))])
        == 1
    )


def test_samples_and_command_need_no_torch() -> None:
    import subprocess
    import sys

    code = (
        "import sys; heavy = ['torch', 'onnx', 'onnx_ir', 'onnxscript', 'rich', 'safetensors'];"
        "sys.modules |= dict.fromkeys(heavy);"
        "import vpt_edge.commands.eval, vpt_edge.calibration.report"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_dataset_of_the_authors_goes_through_the_loop(
    bundle: Path, picture: Path, tmp_path: Path
) -> None:
    talk = [{"role": "user", "content": "<image>\nQ"}, {"role": "assistant", "content": "cat"}]
    (tmp_path / "data.json").write_text(
        json.dumps([{"messages": talk, "images": ["a.png_8,8,48,40"]}])
    )
    script = Script("cat")
    with Pipeline(bundle, opener=script) as pipeline:
        (one,) = evaluate(pipeline, read_samples(tmp_path / "data.json").samples, exact)
    assert one.score == 1
    limits = pipeline.bundle.manifest.image
    with Image.open(picture) as whole:
        shown = PROCESSOR.preprocess(whole.crop((8, 8, 48, 40)), limits)
    np.testing.assert_array_equal(
        script.sessions["vision_encoder"].calls[0]["patches"].squeeze(), shown.values
    )


def test_several_pictures_are_asked_about_and_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, picture: Path
) -> None:
    other = tmp_path / "other.png"
    Image.new("RGB", (180, 60), "white").save(other)
    bundle = zoom_bundle(tmp_path / "zoom", monkeypatch)
    samples = (Sample(picture, "Q", "cat", others=(other,)),)
    script = Script(call((100, 10, 140, 50), source=1), "dog")
    with Pipeline(bundle, opener=script) as pipeline:
        (found,) = evaluate(pipeline, samples, exact)
    assert (found.text, found.score) == ("dog", 0)
    assert found.regions == ((1, (100, 10, 139, 49)),)
    page = report.page(evaluation.Evaluation("zoom", "exact", Samples(samples), [found]))
    assert "40x40 px from (100,10) of picture 2" in page
    assert "no picture:" not in page
