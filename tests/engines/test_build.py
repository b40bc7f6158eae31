"""vpt-build: real plans with TensorRT-RTX, which needs no GPU to build, and every way in which a
build can end.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from golden import TAGS, Exporter
from manifests import altered

from vpt_edge.commands import build as command
from vpt_edge.engines import build, worker
from vpt_edge.engines.engine import Job, make_plan
from vpt_edge.engines.process import BuildProcess
from vpt_edge.engines.profiles import make_profiles
from vpt_edge.runtime import Bundle, host
from vpt_edge.runtime.errors import BundleError
from vpt_edge.runtime.exchange import exchange
from vpt_edge.runtime.files import sha256
from vpt_edge.runtime.manifest import write_manifest
from vpt_edge.runtime.sessions.plan import PLANS, digest, find_plan, read_plan

if TYPE_CHECKING:
    from collections.abc import Callable

rtx: Any = pytest.importorskip(
    "tensorrt_rtx_bindings", reason="the TensorRT-RTX wheel is not installed; see Makefile"
)

DEVICE = ["--device", "tensorrt-rtx"]
GRAPHS = ["vision_encoder", "decoder", "reencoder_projector"]

# Stands in for the module that is tried first. Its builder does what the variable STAND_IN says.
STAND_IN = """
import os, signal, sys, time
__version__ = "1.9.0"

class ILogger:
    class Severity: INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)
class IProgressMonitor: pass
class NetworkDefinitionCreationFlag: STRONGLY_TYPED = 1
class BuilderFlag: pass

class Network:
    num_inputs = 0

class OnnxParser:
    num_errors = 1
    def __init__(self, network, logger): pass
    def parse_from_file(self, path): return os.environ["STAND_IN"] != "parse"
    def get_error(self, index): return "In node 7: unsupported operator Frobnicate"

class Builder:
    def __init__(self, logger): self.logger = logger
    def create_network(self, flags): return Network()
    def create_builder_config(self): return type("Config", (), {})()
    def build_serialized_network(self, network, config):
        how = os.environ["STAND_IN"]
        monitor = config.progress_monitor
        monitor.phase_start("Timing", None, 1000)
        open(os.environ["MARK"], "w").write(str(os.getpid()))
        if how == "kill": os.kill(os.getpid(), signal.SIGKILL)
        if how == "abort": print("double free", file=sys.stderr, flush=True); os.abort()
        if how == "refuse":
            self.logger.log(ILogger.Severity.ERROR, "no tactic for node 7")
            return None
        while monitor.step_complete("Timing", 0) or how == "deaf": time.sleep(0.01)
"""


@pytest.fixture
def bundle(exported: Exporter, tmp_path: Path) -> Path:
    """A copy, to be built into."""
    return linked(exported(TAGS, "fp32", "tensorrt").path, tmp_path / "bundle")


@pytest.fixture(scope="module")
def made(exported: Exporter, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with all of its plans."""
    path = tmp_path_factory.mktemp("made") / "bundle"
    linked(exported(TAGS, "fp32", "tensorrt").path, path)
    assert command.main([str(path), *DEVICE]) == 0
    return path


@pytest.fixture
def built(made: Path, tmp_path: Path) -> Path:
    """A copy of it, whose plans may be damaged."""
    return Path(shutil.copytree(made, tmp_path / "built"))


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Lets child processes find the stand-in; returns the file that its builder writes."""

    def install(how: str) -> Path:
        (tmp_path / "modules" / "tensorrt_rtx").mkdir(parents=True)
        (tmp_path / "modules" / "tensorrt_rtx" / "__init__.py").write_text(STAND_IN)
        mark = tmp_path / "mark"
        for name, value in (
            ("PYTHONPATH", tmp_path / "modules"),
            ("STAND_IN", how),
            ("MARK", mark),
        ):
            monkeypatch.setenv(name, str(value))
        return mark

    return install


def build_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, dict[str, Any]]:
    """The plans that the command tells of, by graph."""
    capsys.readouterr()
    assert command.main([*arguments, *DEVICE, "--json"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    return {plan["graph"]: plan for plan in json.loads(printed.out)["plans"]}


def linked(source: Path, target: Path) -> Path:
    """A copy of a bundle without the plans that other tests have built into it."""
    ignore = shutil.ignore_patterns("plans")
    return Path(shutil.copytree(source, target, copy_function=os.link, ignore=ignore))


def fails(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line of a command that ended badly."""
    capsys.readouterr()
    assert command.main(list(arguments)) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
    return printed.err


def plans(path: Path) -> list[str]:
    """The names of all files below ``plans``."""
    return sorted(file.name for file in (path / PLANS).glob("*/*"))


def job(path: Path, name: str, **changes: Any) -> Job:
    bundle = Bundle.open(path)
    graph = bundle.graph(name)
    here = build.survey(bundle, "tensorrt-rtx").platform
    plan = Job(
        graph=str(bundle.file(graph.file)),
        digest=digest(bundle, name),
        plan=str(path / f"{name}.plan"),
        side_car=str(path / f"{name}.json"),
        timing_cache=None,
        workspace=None,
        platform=here,
        profiles=make_profiles(graph, "tensorrt-rtx"),
    )
    return dataclasses.replace(plan, **changes)


def test_all_plans_are_made(made: Path) -> None:
    assert plans(made) == sorted(f"{name}.{end}" for name in GRAPHS for end in ("plan", "json"))
    bundle, here = Bundle.open(made), build.survey(Bundle.open(made), "tensorrt-rtx").platform
    for name in GRAPHS:
        path, plan = find_plan(bundle, here, name)
        assert plan.bytes == path.stat().st_size
        assert plan.sha256 == sha256(path)
        assert plan.profiles == make_profiles(bundle.graph(name), "tensorrt-rtx")
        assert plan.seconds > 0
        assert path.read_bytes()[:4] != b"{"


def test_a_quantized_bundle_builds(
    exported: Exporter, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bundle"
    linked(exported(TAGS, "int8", "tensorrt").path, path)
    found = build_json(capsys, str(path))
    assert [plan["built"] for plan in found.values()] == [True] * len(GRAPHS)


@pytest.mark.parametrize("back", [True, False])
def test_a_plan_is_built_of_the_bundle_that_was_read(
    back: bool, exported: Exporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever takes the bundle's place meanwhile, be it for a moment."""
    path = tmp_path / "bundle"
    shutil.copytree(exported(TAGS, "fp32", "tensorrt").path, path)
    other = shutil.copytree(path, tmp_path / "other")
    write_manifest(dataclasses.replace(Bundle.open(other).manifest, source="other"), other)
    survey = build.survey(Bundle.open(path), "tensorrt-rtx")
    task = survey.tasks[0]
    folder = path.stat().st_ino

    def build_meanwhile(process: BuildProcess, watch: Any) -> dict[str, Any]:
        assert exchange(path, other)
        graph = Path(process._work["job"]["graph"])
        assert graph.parent.stat().st_ino == folder
        assert graph.read_bytes()[:1]
        task.side_car.parent.mkdir(parents=True, exist_ok=True)
        task.side_car.write_text("{}")
        if back:
            assert exchange(path, other)
            task.side_car.parent.mkdir(parents=True, exist_ok=True)
            task.side_car.write_text("{}")
        return {"built": {"bytes": 1, "seconds": 1}}

    monkeypatch.setattr(BuildProcess, "run", build_meanwhile)
    if back:
        assert build.build(survey, task, None, lambda *_: None)["bytes"] == 1
        assert task.side_car.is_file()
        return
    with pytest.raises(BundleError, match="was replaced while it was in use"):
        build.build(survey, task, None, lambda *_: None)
    assert not task.side_car.exists()


def test_the_summary_names_the_next_command(
    built: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main([str(built), *DEVICE]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert printed.out.count("up to date") == len(GRAPHS)
    assert printed.out.endswith(f"next: vpt-run {built} PICTURE 'QUESTION' --device tensorrt-rtx\n")


def test_json_tells_all(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = build_json(capsys, str(bundle))
    assert list(first) == GRAPHS
    assert first["decoder"]["profiles"] == ["step", "prefill"]
    for plan in first.values():
        assert plan["built"] and plan["reason"] == "not built yet"
        assert plan["bytes"] == Path(plan["plan"]).stat().st_size
        assert 50 << 20 < plan["peak_memory"] < 2 << 30
    again = build_json(capsys, str(bundle))
    assert not any(plan["built"] or plan["reason"] for plan in again.values())


def test_a_dry_run_builds_nothing(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = build_json(capsys, str(bundle), "--dry-run")
    assert {plan["reason"] for plan in found.values()} == {"not built yet"}
    assert not (bundle / PLANS).exists()
    assert command.main([str(bundle), *DEVICE, "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "3 of 3 plans to build" in printed
    assert "profiles: step, prefill" in printed
    assert "MiB of memory" in printed
    assert not (bundle / PLANS).exists()


@pytest.mark.parametrize(
    "change", ["graph", "platform", "profiles", "plan", "cut", "missing", "side-car"]
)
def test_a_plan_that_does_not_fit_is_built_again(
    change: str, built: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = next(built.glob(f"{PLANS}/*/reencoder_projector.plan"))
    side_car = plan.with_suffix(".json")
    good, data = side_car.read_text(), json.loads(side_car.read_text())
    if change == "graph":
        bundle = Bundle.open(built)
        file = bundle.file("reencoder_projector.onnx")
        file.write_bytes(file.read_bytes() + b"\x72\x00")
        digest = sha256(file)
        altered(bundle, lambda data: data["files"].update({file.name: digest}))
    elif change == "platform":
        side_car.write_text(
            json.dumps({**data, "platform": {**data["platform"], "version": "1.0.0"}})
        )
    elif change == "profiles":
        data["profiles"][0]["name"] = "to 3 tokens"
        side_car.write_text(json.dumps(data))
    elif change == "plan":
        content = bytearray(plan.read_bytes())
        content[100] ^= 1
        plan.write_bytes(content)
    elif change == "cut":
        plan.write_bytes(plan.read_bytes()[:-1])
    elif change == "missing":
        plan.unlink()
    else:
        side_car.write_text(good[:100])
    found = build_json(capsys, str(built))
    assert [name for name, each in found.items() if each["built"]] == ["reencoder_projector"]
    expected = {
        "graph": "the graph has changed",
        "platform": "built with tensorrt-rtx 1.0.0, this is tensorrt-rtx ",
        "profiles": "the profiles have changed",
        "plan": "the plan is damaged",
        "cut": "the plan is damaged",
        "missing": "not built yet",
        "side-car": "reencoder_projector.json is not readable",
    }
    assert found["reencoder_projector"]["reason"].startswith(expected[change])
    assert read_plan(side_car).sha256 == sha256(plan)
    assert not any(plan["built"] for plan in build_json(capsys, str(built)).values())


def test_progress_rises_from_nothing_to_all(bundle: Path) -> None:
    reports: list[tuple[str, float]] = []
    plan = make_plan(
        rtx, job(bundle, "decoder"), lambda *report: reports.append(report), threading.Event()
    )
    fractions = [fraction for _, fraction in reports]
    assert fractions == sorted(fractions)
    assert fractions[0] == 0 and fractions[-1] == 1
    assert len(set(fractions)) > 50
    assert {"Reading the graph", "Timing graph nodes", "Writing the plan"} <= {
        stage for stage, _ in reports
    }
    written = (bundle / "decoder.plan").read_bytes()
    assert (
        hashlib.sha256(written).hexdigest()
        == plan.sha256
        == read_plan(bundle / "decoder.json").sha256
    )


def test_a_build_ends_when_it_is_asked_to(bundle: Path) -> None:
    stop = threading.Event()
    stop.set()
    before = sorted(bundle.iterdir())
    with pytest.raises(KeyboardInterrupt):
        make_plan(rtx, job(bundle, "decoder"), lambda *report: None, stop)
    assert sorted(bundle.iterdir()) == before


def test_the_timing_cache_is_kept(bundle: Path) -> None:
    """TensorRT-RTX makes and takes one as well, though it does nothing with it."""
    path = bundle / "timing.cache"
    for _ in range(2):
        make_plan(
            rtx,
            job(bundle, "reencoder_projector", timing_cache=str(path)),
            lambda *report: None,
            threading.Event(),
        )
        assert path.stat().st_size > 0


def test_a_workspace_that_is_too_small_is_named(
    bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = fails(capsys, str(bundle), *DEVICE, "--workspace", "1")
    assert "building vision_encoder failed" in line
    assert "limited to 1 MiB: --workspace" in line
    assert plans(bundle) == []


def test_a_killed_process_is_out_of_memory(
    bundle: Path, stand_in: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in("kill")
    line = fails(capsys, str(bundle), *DEVICE)
    assert "building vision_encoder was killed" in line
    assert "out of memory" in line
    assert "swapon" in line
    assert plans(bundle) == []


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ("abort", "building vision_encoder crashed with signal 6: double free"),
        ("refuse", "tensorrt-rtx 1.9.0 does not build"),
        ("refuse", "no tactic for node 7"),
        ("parse", "unsupported operator Frobnicate"),
    ],
)
def test_a_failure_tells_its_cause(
    how: str,
    text: str,
    bundle: Path,
    stand_in: Callable[[str], Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    stand_in(how)
    assert text in fails(capsys, str(bundle), *DEVICE)
    assert plans(bundle) == []


def test_a_failed_build_leaves_the_old_plan(
    built: Path, stand_in: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    old = plans(built)
    stand_in("refuse")  # it is of another version, with a folder of its own
    fails(capsys, str(built), *DEVICE)
    assert plans(built) == old


def wait_for(condition: Callable[[], bool]) -> None:
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("waited in vain")


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("whom", ["terminal", "parent", "deaf"])
def test_ctrl_c_and_sigterm_end_both_processes(
    whom: str, number: int, bundle: Path, stand_in: Callable[[str], Path]
) -> None:
    """A terminal and a service manager signal the whole group, ``kill`` the parent alone; a deaf
    builder is killed.
    """
    mark = stand_in("deaf" if whom == "deaf" else "block")
    code = (
        "import signal, sys; from vpt_edge.commands import build as command;"
        "from vpt_edge.engines import process;"
        # A background shell has it ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler);"
        "process.PATIENCE = 0.3 if sys.argv.pop(1) == 'deaf' else 60;"
        "sys.exit(command.main(sys.argv[1:]))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, whom, str(bundle), *DEVICE],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_for(lambda: mark.is_file() and mark.read_text() != "")
    (os.kill if whom == "parent" else os.killpg)(process.pid, number)
    try:
        out, err = process.communicate(timeout=30)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    assert (process.returncode, out, err) == (130, "", "stopped\n")
    assert not alive(int(mark.read_text()))
    assert plans(bundle) == []


def test_an_interrupt_within_an_interrupt_is_the_same_one() -> None:
    """A terminal's and the parent's; the first is still setting the event, whose lock the second
    would wait for.
    """
    calls = list[str]()

    class Interrupted(threading.Event):
        def set(self) -> None:
            calls.append("set")
            signal.raise_signal(signal.SIGINT)
            super().set()

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    try:
        worker.stop_at_interrupt(stop := Interrupted())
        for number in numbers:
            signal.raise_signal(number)
        assert (stop.is_set(), calls) == (True, ["set"])
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def test_two_builds_of_one_platform_know_of_each_other(
    bundle: Path, stand_in: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    mark = stand_in("block")
    command_line = [sys.executable, "-m", "vpt_edge.commands.build", str(bundle), *DEVICE]
    process = subprocess.Popen(command_line, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: mark.is_file() and mark.read_text() != "")
        line = fails(capsys, str(bundle), *DEVICE)
        assert f"another vpt-build is writing here (process {process.pid})" in line
    finally:
        process.terminate()
        process.wait()
    assert not (bundle / PLANS).exists()


def test_a_plan_that_cannot_be_written_costs_no_older_one(
    built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old plan has other profiles, say; it still runs."""
    folder = next(built.glob(f"{PLANS}/*"))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def fail(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    side_car = str(folder / "decoder.json")
    work = job(built, "decoder", plan=str(folder / "decoder.plan"), side_car=side_car)
    with pytest.raises(OSError, match="No space"):
        make_plan(rtx, work, lambda *report: None, threading.Event())
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_process_without_parent_ends(bundle: Path, stand_in: Callable[[str], Path]) -> None:
    mark = stand_in("block")
    process = subprocess.Popen(
        [sys.executable, "-m", "vpt_edge.commands.build", str(bundle), *DEVICE]
    )
    wait_for(lambda: mark.is_file() and mark.read_text() != "")
    process.kill()
    process.wait()
    wait_for(lambda: not alive(int(mark.read_text())))


def test_a_full_disk_leaves_nothing(bundle: Path) -> None:
    """A limit on the size of files stands in for the disk."""
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000));"
        "from vpt_edge.commands.build import main; sys.exit(main(sys.argv[1:]))"
    )
    arguments = [sys.executable, "-c", code, str(bundle), *DEVICE]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: building vision_encoder failed: ")
    assert "too large" in done.stderr
    assert done.stderr.count("\n") == 1
    assert plans(bundle) == []


def test_what_a_killed_process_left_is_removed(
    built: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = next(built.glob(f"{PLANS}/*/reencoder_projector.plan"))
    plan.with_name(".decoder.plan.12.x1y2z3w4.vpt-partial").write_text("half")
    plan.unlink()
    build_json(capsys, str(built))
    assert plans(built) == sorted(f"{name}.{end}" for name in GRAPHS for end in ("plan", "json"))


def test_too_little_memory_is_said_before_it_starts(
    bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "root/proc").mkdir(parents=True)
    meminfo = tmp_path / "root/proc/meminfo"
    monkeypatch.setattr(host, "ROOT", tmp_path / "root")
    text = "MemTotal: 900000 kB\nMemAvailable: 204800 kB\nSwapTotal: {0} kB\nSwapFree: {0} kB\n"
    meminfo.write_text(text.format(51200))
    line = fails(capsys, str(bundle), *DEVICE)
    assert "building decoder" in line  # the largest
    assert "200 MiB available and 50 MiB of free swap" in line
    assert "swapon" in line
    assert not (bundle / PLANS).exists()
    meminfo.write_text(text.format(104857600))
    assert command.main([str(bundle), *DEVICE]) == 0


def test_other_bundles_and_devices_are_refused(
    exported: Exporter, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = fails(capsys, str(exported(TAGS).path), *DEVICE)
    assert "was exported for onnxruntime" in line
    assert "--target tensorrt" in line
    assert "'abacus' is unknown, expected one of: tensorrt, tensorrt-rtx" in fails(
        capsys, str(bundle), "--device", "abacus"
    )
    assert "expected at least 1" in fails(capsys, str(bundle), *DEVICE, "--workspace", "0")
    assert "is not a bundle" in fails(capsys, str(bundle / "nothing"), *DEVICE)


def test_a_missing_tensorrt_is_named(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = fails(capsys, str(bundle))
    assert "tensorrt cannot be imported" in line
    assert "pip install 'vpt-edge[tensorrt]'" in line


def test_a_terminal_sees_a_bar(bundle: Path) -> None:
    ours, theirs = pty.openpty()
    arguments = [sys.executable, "-m", "vpt_edge.commands.build", str(bundle), *DEVICE]
    done = subprocess.run(arguments, stderr=theirs, stdout=subprocess.PIPE, text=True, check=False)
    os.close(theirs)
    shown = os.read(ours, 1 << 20).decode()
    os.close(ours)
    assert done.returncode == 0
    assert "1/3 vision_encoder [" in shown and "3/3 reencoder_projector [" in shown
    assert shown.endswith("\r\x1b[K")
    assert "\n" not in shown


def test_the_command_starts_without_tensorrt() -> None:
    code = (
        "import sys, vpt_edge.engines.build, vpt_edge.commands.build;"
        "print(any(name.startswith('tensorrt') for name in sys.modules))"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout
        == "False\n"
    )
