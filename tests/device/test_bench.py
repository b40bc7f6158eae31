"""vpt-bench: what it times, counts and prints; and the waits that it reads from an answer."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import astuple, replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from descriptions import rules_of
from golden import TAGS, Exporter
from PIL import Image

from vpt_edge.commands import bench as command
from vpt_edge.device import bench, power
from vpt_edge.device.bench import WARM_UP, Prompt, measure
from vpt_edge.device.power import Meter
from vpt_edge.device.tables import TITLES, Figure, Report
from vpt_edge.runtime import Bundle, Finished, Looked, Pipeline, host
from vpt_edge.runtime.perception import none, rules
from vpt_edge.runtime.perception.vpt import MIDDLE
from vpt_edge.runtime.sessions import cuda
from vpt_edge.runtime.testing import Script, tiny_bundle

if TYPE_CHECKING:
    from vpt_edge.runtime.bundle import Model
    from vpt_edge.runtime.sessions import Arrays, Session

PICTURE = Image.new("RGB", (96, 64))
CLIP = "<|clip_action_start|><|clip_action|><|clip_action_end|>"
ENCODE, PROJECT, PREFILL, STEP, OPEN = 4.0, 2.0, 1.0, 0.25, 8.0  # seconds


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Slow:
    """A scripted session whose runs take time by the clock."""

    def __init__(self, session: Session, seconds: Callable[[int], float]) -> None:
        self._session, self._seconds, self.zeros, self.close = (
            session,
            seconds,
            session.zeros,
            session.close,
        )

    def run(self, inputs: Arrays, outputs: Arrays) -> None:
        self._session.run(inputs, outputs)
        CLOCK.now += self._seconds(inputs["embeds"].shape[1] if "embeds" in inputs else 0)


CLOCK = Clock()


class SlowScript(Script):
    """``factors``: how many times longer each request with a region takes."""

    def __init__(self, *turns: str, factors: Sequence[float] = ()) -> None:
        super().__init__(*turns)
        self._factors = factors

    def __call__(self, model: Model, name: str, /) -> Session:
        CLOCK.now += OPEN
        costs = {"vision_encoder": ENCODE, "reencoder_projector": PROJECT}

        def seconds(tokens: int) -> float:
            request = (len(self.sessions["vision_encoder"].calls) - 1) // 2
            factor = self._factors[request] if self._factors else 1
            return factor * costs.get(name, PREFILL if tokens > 1 else STEP)

        return Slow(super().__call__(model, name), seconds)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    for module in ("runtime.stopwatch", "device.bench"):
        monkeypatch.setattr(f"vpt_edge.{module}.time", SimpleNamespace(perf_counter=CLOCK))
    return CLOCK


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("clip"))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of which nothing is known."""
    monkeypatch.setattr(host, "ROOT", tmp_path / "root")
    return tmp_path / "root"


def write(path: Path, text: str, mode: int = 0o644) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


def rail(
    root: Path, channel: int, name: str, millivolts: str = "5000", milliamperes: str | None = "2000"
) -> Path:
    folder = root / "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1"
    write(folder / f"in{channel}_label", f"{name}\n")
    write(folder / f"in{channel}_input", f"{millivolts}\n")
    amperes = folder / f"curr{channel}_input"
    return write(amperes, f"{milliamperes}\n") if milliamperes else amperes


def script(runs: int, answer: str = "A sign.", first: str = "") -> SlowScript:
    return SlowScript(*[first, answer] * (WARM_UP + runs))


# --- waits of an answer


@pytest.mark.parametrize(("said", "look"), [(f"Hm. {MIDDLE}", ENCODE), (CLIP, PROJECT)])
def test_a_turn_waits_from_the_end_of_the_one_before(
    said: str, look: float, tiny: Bundle, clock: Clock
) -> None:
    with Pipeline(tiny, opener=SlowScript(said, "A sign.")) as pipeline:
        usage = pipeline.ask(PICTURE, "What?").usage
    assert usage.first_token_seconds == (ENCODE + PREFILL, look + PREFILL)


def test_an_answer_at_once_waited_once(tiny: Bundle, clock: Clock) -> None:
    with Pipeline(tiny, opener=SlowScript("A sign.")) as pipeline:
        assert pipeline.ask(PICTURE, "What?").usage.first_token_seconds == (ENCODE + PREFILL,)


def test_a_picture_that_was_seen_is_not_waited_for(tiny: Bundle, clock: Clock) -> None:
    with (
        Pipeline(tiny, opener=SlowScript("A sign.", "Red.")) as pipeline,
        pipeline.encode(PICTURE) as encoded,
    ):
        encoded.ask("What?")
        assert encoded.ask("Which colour?").usage.first_token_seconds == (PREFILL,)


def test_what_the_caller_does_counts_from_the_request_on(tiny: Bundle, clock: Clock) -> None:
    with Pipeline(tiny, opener=SlowScript(MIDDLE, "A sign.")) as pipeline:
        events = pipeline.stream(PICTURE, "What?")
        clock.now += 100
        for event in events:
            clock.now += 10 if isinstance(event, Looked) else 0
    assert isinstance(event, Finished)
    assert event.answer.usage.first_token_seconds == (ENCODE + PREFILL, 10 + ENCODE + PREFILL)


# --- figures


def values(figure: Figure | None) -> tuple[Any, ...]:
    return astuple(figure) if figure else ()


def test_percentiles() -> None:
    figure = Figure.of([float(value) for value in range(101)])
    assert figure == Figure("s", 50.0, 95.0, 101)
    assert values(Figure.of([0.02, 0.01, 0.03])) == ("s", 0.02, pytest.approx(0.029), 3)
    assert Figure.of([0.5]) == Figure("s", 0.5, None, 1)
    assert Figure.of([None, 0.5, None]) == Figure("s", 0.5, None, 1)
    assert Figure.of([None]) is None


def test_the_p95_of_a_rate_is_of_the_slow_runs() -> None:
    figure = Figure.of([0.1] * 10 + [1.0] * 10, rate=True)
    assert values(figure) == ("tokens/s", pytest.approx(1 / 0.55), pytest.approx(1.0), 20)


@pytest.mark.parametrize(
    ("figure", "shown"),
    [
        (Figure("s", 0.0123, 0.9994, 3), ("12.3 ms", "999.4 ms")),
        (Figure("s", 1.5, None, 1), ("1.50 s", "-")),
        (Figure("tokens/s", 31.25, 20.0, 3), ("31.2 tokens/s", "20.0 tokens/s")),
    ],
)
def test_figures_are_shown_with_units(figure: Figure, shown: tuple[str, str]) -> None:
    assert figure.shown() == shown


# --- runs


def test_runs_are_timed_and_warm_up_is_not(tiny: Bundle, clock: Clock) -> None:
    turns = SlowScript(*["", "ABC"] * (WARM_UP + 3), factors=[100] * WARM_UP + [1, 2, 3])
    report = measure(tiny, runs=3, opener=turns)
    assert len(turns.sessions["vision_encoder"].calls) == 2 * (WARM_UP + 3)
    assert (report.runs, report.warm_up) == (3, WARM_UP)
    assert report.tokens["generated"] == [1, 4]
    answer, first = 2 * ENCODE + 2 * PREFILL + 3 * STEP, ENCODE + PREFILL

    def seconds(one: float) -> tuple[Any, ...]:
        return "s", 2 * one, pytest.approx(2.9 * one), 3

    assert {name: values(figure) for name, figure in report.figures.items()} == {
        "start_up": ("s", 3 * OPEN, None, 1),
        "first_token": seconds(first),
        "decode": ("tokens/s", pytest.approx(1 / (2 * STEP)), pytest.approx(1 / (2.9 * STEP)), 3),
        "vision_encode": seconds(ENCODE),
        "look": seconds(first),
        "answer": seconds(answer),
    }
    assert list(report.figures) == list(TITLES)
    expected = {"vision": 2 * ENCODE, "prefill": 2 * PREFILL, "decode": 3 * STEP}
    assert {
        stage: share * answer for stage, share in report.shares.items() if share
    } == pytest.approx(expected)
    assert all(session.closed for session in turns.sessions.values())


def test_the_rest_is_the_hosts(tiny: Bundle, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    decide = Pipeline._answer

    def slow(*arguments: Any) -> Any:
        clock.now += 2 * ENCODE + 2 * PREFILL  # as long as all stages
        yield from decide(*arguments)

    monkeypatch.setattr(Pipeline, "_answer", slow)
    report = measure(tiny, runs=2, opener=script(2, answer=""))
    assert report.shares["host"] == pytest.approx(0.5)
    assert sum(report.shares.values()) == pytest.approx(1)
    assert report.figures["decode"] is None  # end tokens alone
    assert re.search(r"^decode +- +-$", report.text(), re.MULTILINE)
    assert re.search(r"^host work \(the rest\) +50\.0%$", report.text(), re.MULTILINE)


def test_the_region_is_said_to_be_given(tiny: Bundle) -> None:
    request = measure(tiny, runs=1, opener=script(1)).request
    assert request["picture"] == "drawn by vpt-bench, 640x480"
    assert request["look"] == (
        "looked again at cells (3,3)-(4,4), 320x240 px: "
        "this look was given, the model did not choose it"
    )


def test_a_look_that_did_not_happen_is_said(tiny: Bundle) -> None:
    report = measure(tiny, runs=1, opener=SlowScript(*[CLIP] * (WARM_UP + 1)))
    assert (report.figures["look"], report.request["look"]) == (None, "none: mixed_triggers")


def test_a_checkpoint_without_triggers_answers_at_once(tiny: Bundle) -> None:
    silent: dict[str, Any] = {"action_start": None, "action": None, "triggers": []}
    perception = {**tiny.manifest.perception, **silent}
    bundle = replace(tiny, manifest=replace(tiny.manifest, perception=perception))
    report = measure(bundle, runs=1, opener=SlowScript(*["A sign."] * (WARM_UP + 1)))
    assert (report.figures["look"], report.request["look"]) == (
        None,
        "none: this model does not look again",
    )
    assert report.tokens["generated"] == [8]


@pytest.mark.parametrize(
    ("changes", "look"),
    [
        ({}, "240x240 px from (200,120)"),
        ({"look.box.coordinates": "pixels_shown", "call.which": "last"}, "240x240 px from (200,"),
        ({"turn.stop": ["</tool_call>"]}, "240x240 px from (200,120)"),
        ({"look.picture": None, "look.box": None, "look.resize": None}, "the whole picture (whole"),
    ],
)
def test_a_call_is_given_to_a_model_that_looks_by_calls(
    changes: dict[str, Any], look: str, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    way = rules.block(rules_of(changes))
    bundle = tiny_bundle(tmp_path, model="qwen3_vl", perception=way)
    turns = [" And so on.", "A sign. <tool_call>"] * (WARM_UP + 1)
    report = measure(bundle, runs=1, opener=SlowScript(*turns))
    assert report.request["look"].startswith(f"looked again at {look}")
    assert report.request["look"].endswith(": this look was given, the model did not choose it")
    assert report.tokens["look"] >= 256
    assert report.figures["look"] is not None
    assert not recwarn.list  # of the sampling that its makers recommend


def test_a_first_view_of_few_pixels_is_timed_with_the_same_look(tiny: Bundle) -> None:
    usual = measure(tiny, runs=1, opener=script(1))
    small = measure(
        tiny, runs=1, opener=script(1), prompt=Prompt(budget={"first_max_pixels": 9000})
    )
    assert (usual.tokens["picture"], small.tokens["picture"]) == (14 * 18, 2 * 3)
    assert small.tokens["look"] == usual.tokens["look"]
    assert small.request["look"] == usual.request["look"]


def test_one_look_is_timed_however_many_the_model_wants(tmp_path: Path) -> None:
    short = {"call.form": "arguments", "call.name": None, "look.picture.missing": "first"}
    bundle = tiny_bundle(tmp_path, model="qwen3_vl", perception=rules.block(rules_of(short)))
    turns = ["", '<tool_call>{"bbox_2d": [0,0,9,9]}</tool_call>'] * (WARM_UP + 1)
    report = measure(bundle, runs=1, opener=SlowScript(*turns))
    assert len(report.tokens["generated"]) == 2
    assert report.request["finish_reason"] == "look_limit"


def test_a_plain_model_answers_at_once(tmp_path: Path) -> None:
    plain = none.block(none.NoneConfig(system=None, thoughts=None))
    bundle = tiny_bundle(tmp_path, perception=plain)
    report = measure(bundle, runs=1, opener=SlowScript(*["A sign."] * (WARM_UP + 1)))
    assert report.request["look"] == "none: this model does not look again"
    assert (report.figures["look"], len(report.tokens["generated"])) == (None, 1)


def test_the_drawn_picture_is_always_the_same() -> None:
    picture = bench.draw_picture()
    assert (picture.mode, picture.size, picture.tobytes()) == (
        "RGB",
        (640, 480),
        bench.draw_picture().tobytes(),
    )
    assert len(set(picture.resize((8, 6)).getdata())) == 48


def test_sessions_are_closed_on_ctrl_c(tiny: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    turns = script(1)

    def interrupt(*arguments: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Pipeline, "ask", interrupt)
    with pytest.raises(KeyboardInterrupt):
        measure(tiny, opener=turns)
    assert len(turns.sessions) == 3
    assert all(session.closed for session in turns.sessions.values())


# --- power and machine


def test_energy_is_counted_by_rail(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rail(root, 1, "VDD_IN")
    rail(root, 2, "VDD_SOC", "1000", "-500")
    rail(root, 3, "NC")
    rail(root, 7, "sum of shunt voltages", "1", None)
    monkeypatch.setattr(power, "INTERVAL", 60)
    monkeypatch.setattr(power, "time", SimpleNamespace(perf_counter=iter((10.0, 13.0)).__next__))
    with Meter() as meter:
        pass
    assert (meter.joules, meter.seconds) == ({"VDD_IN": 30.0, "VDD_SOC": -1.5}, 3.0)


def test_a_rail_that_fails_is_left_out(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rail(root, 1, "VDD_IN")
    failing = rail(root, 2, "VDD_SOC")
    monkeypatch.setattr(power, "INTERVAL", 60)
    with Meter() as meter:
        failing.unlink()
    assert list(meter.joules) == ["VDD_IN"]


def test_the_meter_ends_with_its_block(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rail(root, 1, "VDD_IN")
    meter = Meter()
    with pytest.raises(KeyboardInterrupt), meter:
        raise KeyboardInterrupt
    assert not meter._thread.is_alive()


def test_without_sensors_there_is_no_energy(root: Path) -> None:
    with Meter() as meter:
        assert not meter._thread.is_alive()
    assert meter.joules == {}
    assert power.read_clocks() == ""


def test_an_orin(root: Path, tiny: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    write(root / "etc/nv_tegra_release", "# R36 (release), REVISION: 4.3, GCID: 38968081\n")
    write(root / "proc/device-tree/model", "NVIDIA Jetson Orin Nano\0")
    write(root / "proc/cpuinfo", "processor\t: 0\nFeatures\t: fp asimd asimddp\n")
    write(root / "proc/self/status", "Name:\tpython\nVmHWM:\t  2048 kB\nVmRSS:\t 1024 kB\n")
    monkeypatch.setenv(
        "PATH",
        str(write(root / "bin/nvpmodel", "#!/bin/sh\necho 'NV Power Mode: 15W'\n", 0o755).parent),
    )
    for place, name, unit in (
        ("devices/system/cpu/cpufreq/policy0/scaling_", "schedutil", 1000),
        ("devices/system/cpu/cpufreq/policy4/scaling_", "schedutil", 1000),
        ("class/devfreq/17000000.gpu/", "nvhost_podgov", 1000_000),
    ):
        write(root / f"sys/{place}governor", name)
        write(root / f"sys/{place}min_freq", str(306 * unit))
        write(root / f"sys/{place}max_freq", str(624 * unit))
    rail(root, 1, "VDD_IN")
    gpu = SimpleNamespace(name="Orin", capability="8.7", driver="12.6", integrated=True)
    gpu.memory = lambda: (3 << 30, 8 << 30)
    monkeypatch.setattr(cuda.Device, "open", lambda: gpu)
    report = measure(tiny, device="tensorrt", runs=2, opener=script(2))
    assert report.machine["power mode"] == "15W"
    assert "L4T 36.4.3" in report.machine["JetPack"]
    assert report.machine["board"].startswith("NVIDIA Jetson Orin Nano")
    assert report.machine["CPU"].endswith("cores, dot product")
    assert report.machine["device"].startswith(
        "tensorrt, CUDA 12.6, Orin, compute 8.7, 3.0 of 8.0 GiB free"
    )
    assert (
        report.machine["clocks"]
        == "CPU 306 to 624 MHz (schedutil), GPU 306 to 624 MHz (nvhost_podgov)"
    )
    assert "memory" not in report.machine  # there is no meminfo here
    assert (report.peak_memory, report.device_memory) == (2 << 20, 5 << 30)
    assert report.watts["VDD_IN"] == pytest.approx(10)
    text = report.text()
    assert re.search(r"^energy, VDD_IN +\d+\.\d\d J an answer, [\d.]+ W$", text, re.MULTILINE)
    assert re.search(r"^device memory in use +5120\.0 MiB, all programs$", text, re.MULTILINE)


def test_peak_memory_is_that_of_the_process(tiny: Bundle) -> None:
    block = np.ones(64 << 20, np.uint8)
    del block
    peak = measure(tiny, runs=1, opener=script(1)).peak_memory
    assert peak is not None
    assert 64 << 20 < peak < 64 << 30


# --- the command


@pytest.fixture(scope="module")
def demo(exported: Exporter) -> str:
    return str(exported(TAGS).path)


def test_it_prints_json(demo: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([demo, "--runs", "2", "--json"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""  # no progress where no person looks
    data = json.loads(printed.out)
    assert set(data) == set(Report.__dataclass_fields__)
    assert set(data["figures"]) == set(TITLES)
    assert all(
        set(figure) == {"unit", "p50", "p95", "count"}
        for figure in data["figures"].values()
        if figure
    )
    assert {
        name: figure["count"]
        for name, figure in data["figures"].items()
        if name not in ("start_up", "decode")
    } == {
        "first_token": 2,
        "vision_encode": 2,
        "look": 2,
        "answer": 2,
    }
    assert data["figures"]["first_token"]["p50"] < data["figures"]["answer"]["p50"]
    assert set(data["shares"]) == {"preprocess", "vision", "reencode", "prefill", "decode", "host"}
    assert sum(data["shares"].values()) == pytest.approx(1)
    assert min(data["shares"].values()) >= 0
    assert data["bundle"] == {
        "path": demo,
        "source": "tags",
        "kind": "clip",
        "precision": "fp32",
        "target": "onnxruntime",
        "cache": "4,096 tokens of float32, 8.0 MiB (2,048 bytes a token)",
    }
    assert {"device", "board", "CPU", "memory"} <= set(data["machine"])
    assert {"Python", "vpt-edge", "numpy", "onnxruntime"} <= set(data["versions"])
    assert data["tokens"]["picture"] > 0
    assert data["tokens"]["look"] > 0


def test_it_prints_a_table(demo: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "picture.png"
    PICTURE.save(path)
    assert (
        command.main([demo, "--image", str(path), "--question", "Is there a star?", "--runs", "1"])
        == 0
    )
    out = capsys.readouterr().out
    assert out.startswith(
        f"{demo} (clip, fp32, for onnxruntime), 1 run after {WARM_UP} to warm up\n\n"
    )
    for title in TITLES.values():
        assert f"\n{title}  " in out
    assert (
        f"\npicture    {path}, 96x64\nquestion   Is there a star?\nlook       looked again at"
        in out
    )
    assert not re.search(r"[ \t]$", out, re.MULTILINE)


def test_its_markdown_parses(demo: str, capsys: pytest.CaptureFixture[str]) -> None:
    question = "Is `a|b` <b>a</b>\nstar \\| or *not*?"
    assert command.main([demo, "--question", question, "--runs", "1", "--markdown"]) == 0
    title, *tables = capsys.readouterr().out.strip().split("\n\n")
    assert title.startswith(demo.replace("_", "\\_"))
    heads = []
    for table in tables:
        head, rule, *rows = (
            [cell.strip() for cell in re.split(r"(?<!\\)(?:\\\\)*\|", line)]
            for line in table.split("\n")
        )
        heads.append(head[1:-1])
        assert all(re.fullmatch("---|--:", cell) for cell in rule[1:-1])
        assert rows
        for row in (head, rule, *rows):
            assert (row[0], row[-1], len(row)) == ("", "", len(head))
    assert heads == [
        ["", "p50", "p95"],
        *([name, ""] for name in ("share of the answer", "cost", "asked", "machine")),
    ]
    assert "\\`a\\|b\\` \\<b>a\\</b> star \\\\\\| or \\*not\\*?" in tables[3]


def test_progress_is_for_a_person(
    demo: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert command.main([demo, "--runs", "1", "--json"]) == 0
    printed = capsys.readouterr()
    stages = re.findall(r"\r([a-z][\w -]*) \[", printed.err)
    assert stages == ["warm-up 1 of 2", "warm-up 2 of 2", "run 1 of 1"]
    assert printed.err.endswith("\r\033[K")
    json.loads(printed.out)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--device", "abacus"], "'abacus' is unknown, expected one of: cpu"),
        (["--runs", "0"], "found 0 runs, expected 1 or more"),
        (["--runs", "-3"], "found -3 runs"),
        (["--image", "missing.png"], "picture at missing.png"),
        (["--question", "why? " * 20_000], "the cache takes 4096"),
        (["--question", "<video>"], "<video>"),
    ],
)
def test_it_refuses(
    arguments: list[str], text: str, demo: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main([demo, *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
    assert text in printed.err


@pytest.mark.parametrize("arguments", [["--runs", "many"], ["--json", "--markdown"], ["--no-look"]])
def test_it_refuses_options(
    arguments: list[str], demo: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main([demo, *arguments]) == 2
    assert capsys.readouterr().err.endswith(", see vpt-bench --help\n")


def test_it_stops_on_ctrl_c(
    demo: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(bench, "_answer", interrupt)
    assert command.main([demo]) == 130
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "stopped\n")


def test_the_module_runs_as_a_command() -> None:
    command = [sys.executable, "-m", "vpt_edge.commands.bench", "/nowhere"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("error: /nowhere is not a bundle")
