"""Sessions on TensorRT, on the emulated device: the authors' answers, what is copied, what is
refused, what fails.
"""

from __future__ import annotations

import dataclasses
import errno
import io
import json
import re
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from emulated import build_plans, emulated
from emulated.graphs import WIDTH, small_bundle
from emulated.memory import OUT_OF_MEMORY, UNKNOWN
from families import CONFIGS
from golden import CASES, TAGS, Case, Exporter, check_decisions, needs_golden
from pictures import noise

from vpt_edge import runtime
from vpt_edge.runtime.context import Context
from vpt_edge.runtime.decoder import Decoder
from vpt_edge.runtime.errors import SessionError
from vpt_edge.runtime.files import sha256
from vpt_edge.runtime.interface import BLOCK
from vpt_edge.runtime.kv_cache import KVCache
from vpt_edge.runtime.perception import open_perception
from vpt_edge.runtime.sessions import cuda, open_session
from vpt_edge.runtime.sessions.plan import plan_files
from vpt_edge.runtime.sessions.stream import Stream
from vpt_edge.runtime.sessions.tensorrt import load_tensorrt, read_platform
from vpt_edge.runtime.sessions.trt import TrtSession

if TYPE_CHECKING:
    from collections.abc import Callable

    from emulated.cuda import Driver

    from vpt_edge.runtime import Bundle
    from vpt_edge.runtime.sessions import Session

LOGITS = 5e-4
FEW = [
    name
    for name in CASES
    if name in ("clip_reencode_64x900", "det_reencode_333x517", "region_two_1280x720")
]


@pytest.fixture
def driver() -> Iterator[Driver]:
    with emulated() as driver:
        yield driver


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return small_bundle(tmp_path_factory.mktemp("small") / "bundle")


@pytest.fixture
def copy(small: Bundle, tmp_path: Path) -> Bundle:
    """A bundle that a test may spoil, without plans."""
    shutil.copytree(small.path, tmp_path / "bundle", ignore=shutil.ignore_patterns("plans"))
    return dataclasses.replace(small, path=tmp_path / "bundle")


def _planned(bundle: Bundle) -> Bundle:
    build_plans(bundle)
    return bundle


# The authors' answers


def check_answers(case: Case, bundle: Bundle, **options: Any) -> None:
    with runtime.Pipeline(bundle, device="tensorrt") as pipeline:
        for keep_logits in (True, False):
            answer = pipeline.ask(
                case.image, case.conversation["question"], keep_logits=keep_logits, **options
            )
            check_decisions(answer, case)
            for turn, name in zip(answer.turns, ("round1", "round2"), strict=False):
                if turn.logits is not None:
                    assert np.abs(turn.logits - case.arrays[f"{name}_step_logits"]).max() < LOGITS


@needs_golden
@pytest.mark.parametrize("name", CASES)
def test_answers(name: str, exported: Exporter) -> None:
    case = Case(name)
    bundle = exported(case.model, "fp32", "tensorrt")
    with emulated("10.3.0"):
        build_plans(bundle)
        check_answers(case, bundle)


@needs_golden
@pytest.mark.parametrize("name", FEW)
@pytest.mark.parametrize(
    ("version", "integrated"), [("10.3.0", True), ("10.16.2", False), ("11.4.1", False)]
)
def test_answers_of_other_versions(
    version: str, integrated: bool, name: str, exported: Exporter
) -> None:
    case = Case(name)
    bundle = exported(case.model, "fp32", "tensorrt")
    with emulated(version, integrated=integrated):
        build_plans(bundle)
        check_answers(case, bundle)


@needs_golden
@pytest.mark.parametrize("name", FEW)
def test_answers_in_half_precision(name: str, exported: Exporter) -> None:
    case = Case(name)
    bundle = exported(case.model, "fp16", "tensorrt")
    with emulated(), runtime.Pipeline(_planned(bundle), device="tensorrt") as pipeline:
        check_decisions(pipeline.ask(case.image, case.conversation["question"]), case)


@pytest.mark.parametrize("family", CONFIGS)
def test_answers_of_a_family(family: str, family_bundle: Callable[[str, str, str], Bundle]) -> None:
    """Windows cut at the right and below, and a prompt in one piece with them."""
    picture = noise(150, 90)
    options: Any = {"max_new_tokens": 4, "keep_logits": True}
    with runtime.Pipeline(family_bundle(family, "fp32", "onnxruntime")) as pipeline:
        expected = pipeline.ask(picture, "What?", **options)
    bundle = family_bundle(family, "fp32", "tensorrt")
    with emulated(), runtime.Pipeline(_planned(bundle), device="tensorrt") as pipeline:
        answer = pipeline.ask(picture, "What?", **options)
    assert answer.turns[0].generated_ids == expected.turns[0].generated_ids
    found, wanted = answer.turns[0].logits, expected.turns[0].logits
    assert found is not None and wanted is not None
    assert np.abs(found - wanted).max() < LOGITS


@needs_golden
def test_pipelines_beside_each_other(exported: Exporter) -> None:
    cases = [Case(name) for name in FEW]
    with emulated():
        pipelines = [
            runtime.Pipeline(_planned(exported(case.model, "fp32", "tensorrt")), device="tensorrt")
            for case in cases
        ]
        for _ in range(2):
            for case, pipeline in zip(cases, pipelines, strict=True):
                check_decisions(pipeline.ask(case.image, case.conversation["question"]), case)
        for pipeline in pipelines:
            pipeline.close()


# A step


class Talker:
    """The decoder of a bundle, fed with whatever ids."""

    def __init__(self, bundle: Bundle, driver: Driver, greedy: bool = True) -> None:
        self.driver = driver
        self.session: Session = open_session(_planned(bundle), "decoder", "tensorrt")
        perception = open_perception(bundle.manifest)
        self.decoder = Decoder(bundle, perception, self.session, lambda features, _: features)
        self.decoder.begin(greedy=greedy)

    def read(self, count: int) -> None:
        self.decoder.prefill(Context([index % 50 for index in range(count)]))

    def steps(self, count: int) -> Counter[str]:
        """Take steps; the bytes that each has copied, the copy into the cache that the step before
        has left, and the launches and executions.
        """
        driver = self.driver
        before = Counter(
            {**driver.copied, "launches": driver.launches, "executions": driver.executions}
        )
        for _ in range(count):
            self.decoder.step(7)
        after = Counter(
            {**driver.copied, "launches": driver.launches, "executions": driver.executions}
        )
        return Counter(
            {kind: after[kind] - before[kind] for kind in after if after[kind] != before[kind]}
        )


@pytest.fixture(scope="module")
def demo(exported: Exporter) -> Bundle:
    return exported(TAGS, "fp32", "tensorrt")


@pytest.mark.parametrize("integrated", [False, True])
@pytest.mark.parametrize("greedy", [False, True])
def test_a_step_copies_the_same_whatever_the_cache_holds(
    greedy: bool, integrated: bool, demo: Bundle
) -> None:
    """One row of each layer's keys and values within the device, what goes in, and what was asked
    for.
    """
    text, costs = demo.manifest.text, []
    with emulated(integrated=integrated) as driver:
        talker = Talker(demo, driver, greedy)
        for length in (300, 3000):
            talker.read(length)
            talker.steps(3)
            costs.append(talker.steps(5))
        talker.session.close()
    embeds, angles = 4 * text.hidden_size, 2 * 4 * (text.head_dim // 2)
    expected = {
        "DtoD": 5 * 2 * text.layers * 4 * text.kv_heads * text.head_dim,
        "HtoD": 5 * (embeds + angles + 4),
        "DtoH": 5 * (4 * text.hidden_size + (8 if greedy else 4 * text.vocab_size)),
        "launches": 5,
        "executions": 5,
    }
    if integrated:
        del expected["HtoD"], expected["DtoH"]
    assert costs == [expected, expected]


def test_a_step_is_one_launch_from_the_second_of_its_block_on(demo: Bundle, driver: Driver) -> None:
    talker = Talker(demo, driver)
    talker.read(BLOCK - 2)
    assert [talker.steps(1)["launches"] for _ in range(7)] == [0, 1, 1, 0, 1, 1, 1]
    talker.read(10)  # back in the block that was captured first
    assert [talker.steps(1)["launches"] for _ in range(3)] == [1, 1, 1]
    talker.session.close()


def test_a_step_runs_in_the_profile_of_steps(demo: Bundle, driver: Driver) -> None:
    talker = Talker(demo, driver)
    talker.read(20)
    assert driver.profiles == {("decoder", 1): 1}
    talker.steps(6)
    assert driver.profiles == {("decoder", 1): 1, ("decoder", 0): 6}
    talker.read(18)
    talker.session.close()


def test_a_picture_runs_in_the_smallest_profile_that_holds_it(demo: Bundle, driver: Driver) -> None:
    session = open_session(_planned(demo), "vision_encoder", "tensorrt")
    graph = demo.graph("vision_encoder")
    width, half, hidden = (
        graph.inputs[0].shape[2],
        graph.inputs[1].shape[1],
        graph.outputs[0].shape[2],
    )
    assert isinstance(width, int) and isinstance(half, int) and isinstance(hidden, int)
    largest = graph.bounds["patches"][2]
    for patches in (4, largest):
        inputs = {
            "patches": np.zeros((1, patches, width), np.float32),
            "cos": np.ones((patches, half), np.float32),
            "sin": np.zeros((patches, half), np.float32),
        }
        session.run(inputs, {"features": np.empty((1, patches // 4, hidden), np.float32)})
    session.close()
    indices = sorted(index for _, index in driver.profiles)
    assert indices[0] == 0 and len(indices) == 2


def test_more_shapes_than_graphs_are_kept(small: Bundle, driver: Driver) -> None:
    session = open_session(_planned(small), "double", "tensorrt")
    for count in [*range(1, 50), *range(1, 50)]:
        x, twice = (
            np.full((1, count, WIDTH), count, np.float32),
            np.empty((1, count, WIDTH), np.float32),
        )
        for _ in range(3):
            session.run({"x": x}, {"twice": twice})
            assert (twice == 2 * count).all()
    assert len(driver.ready_graphs) <= 32
    session.close()


def test_memory_is_allocated_once(demo: Bundle, driver: Driver) -> None:
    talker = Talker(demo, driver)
    before = driver.calls["cuMemAlloc_v2"] + driver.calls["cuMemHostAlloc"]
    talker.read(300)
    talker.steps(5)
    talker.read(2000)
    talker.steps(5)
    assert driver.calls["cuMemAlloc_v2"] + driver.calls["cuMemHostAlloc"] == before
    talker.session.close()


# What is refused


def refused(bundle: Bundle, name: str = "double") -> str:
    with pytest.raises(SessionError) as caught:
        open_session(bundle, name, "tensorrt").close()
    return str(caught.value)


def test_an_old_tensorrt_is_refused(small: Bundle) -> None:
    with emulated("8.6.2"):
        assert "TensorRT 8.6.2 is too old, expected 10.3 or later" in refused(small)


def test_no_tensorrt(small: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    with emulated():
        monkeypatch.setitem(sys.modules, "tensorrt", None)
        text = refused(small)
    assert "tensorrt cannot be imported" in text and "JetPack" in text and "pip install" in text


def test_no_driver(small: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorRT's runtime crashes a process without a driver: nobody must have touched it."""

    class Crash:
        def __init__(self, *arguments: Any) -> None:
            raise AssertionError("TensorRT's runtime was touched")

    module = ModuleType("tensorrt")
    module.__version__ = "10.3.0"  # type: ignore[attr-defined]
    module.Runtime = Crash  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    monkeypatch.setattr(cuda.Device, "_one", None)
    monkeypatch.setattr(cuda, "LIBRARIES", ("libcuda-that-is-not-there.so.1",))
    assert "no CUDA driver" in refused(small)


def test_an_old_driver_is_refused(small: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    with emulated() as driver:
        monkeypatch.setattr(
            cuda, "load_library", lambda: driver.library("cuGraphInstantiateWithFlags")
        )
        assert "the CUDA driver has no cuGraphInstantiateWithFlags" in refused(small)


def test_a_bundle_for_another_target_is_refused(tmp_path: Path, driver: Driver) -> None:
    text = refused(small_bundle(tmp_path / "other", target="onnxruntime"))
    assert "was exported for onnxruntime" in text and "--target tensorrt" in text


def test_no_plans(copy: Bundle, driver: Driver) -> None:
    text = refused(copy)
    assert "has no plan of double for tensorrt 10.3.0" in text and "found none at all" in text
    assert f"vpt-build {copy.path}" in text


def test_plans_of_another_tensorrt(copy: Bundle) -> None:
    with emulated("10.16.2"):
        build_plans(copy)
    with emulated("10.3.0"):
        text = refused(copy)
    assert "has no plan of double for tensorrt 10.3.0" in text and "tensorrt-10.16.2" in text


def side_car(bundle: Bundle, name: str = "double") -> Path:
    return plan_files(bundle, read_platform(load_tensorrt("tensorrt"), "tensorrt"), name)[1]


def test_plans_moved_from_another_tensorrt(copy: Bundle) -> None:
    with emulated("10.16.2"):
        build_plans(copy)
        foreign = side_car(copy).parent
    with emulated("10.3.0"):
        foreign.rename(side_car(copy).parent)
        text = refused(copy)
    assert "was built with tensorrt 10.16.2" in text and "this is tensorrt 10.3.0" in text


@pytest.mark.parametrize(
    "options", [{"driver": 13000}, {"capability": (8, 9)}, {"name": "Another"}]
)
def test_plans_of_another_device(options: dict[str, Any], copy: Bundle) -> None:
    with emulated():
        build_plans(copy)
    with emulated(**options):
        assert "plan of double" in refused(copy) or "was built with" in refused(copy)


def test_a_plan_of_a_changed_graph(copy: Bundle, driver: Driver) -> None:
    build_plans(copy)
    files = {**copy.manifest.files, "double.onnx": "0" * 64}
    changed = dataclasses.replace(copy, manifest=dataclasses.replace(copy.manifest, files=files))
    assert "was built from another double" in refused(changed)


def test_a_plan_cut_short(copy: Bundle, driver: Driver) -> None:
    build_plans(copy)
    plan = side_car(copy).with_suffix(".plan")
    plan.write_bytes(plan.read_bytes()[:-1])
    assert "expected" in refused(copy) and "vpt-build" in refused(copy)


def test_a_plan_of_other_bytes_is_never_loaded(copy: Bundle, driver: Driver) -> None:
    """It is native code: TensorRT does not see what was not built here."""
    build_plans(copy)
    plan = side_car(copy).with_suffix(".plan")
    data = bytearray(plan.read_bytes())
    data[-1] ^= 1
    plan.write_bytes(data)
    text = refused(copy)
    assert f"{plan} is altered: its sha256 is not that of double.json; build it here" in text


def test_an_empty_plan_is_refused(copy: Bundle, driver: Driver) -> None:
    build_plans(copy)
    side_car(copy).with_suffix(".plan").write_bytes(b"")
    change(side_car(copy), bytes=0)
    assert "double.plan is empty; build it here" in refused(copy)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"seconds": "1"}, "seconds is '1', expected"),
        ({"sha256": 3}, "sha256 is 3, expected"),
        ({"profiles": [{"name": "x", "shapes": {"x": [[-1], [1], [1]]}}]}, "is -1, expected"),
        ({"colour": "red"}, "unknown colour"),
    ],
)
def test_a_side_car_of_another_kind(
    changes: dict[str, Any], problem: str, copy: Bundle, driver: Driver
) -> None:
    build_plans(copy)
    change(side_car(copy), **changes)
    text = refused(copy)
    assert "is damaged" in text and problem in text


@pytest.mark.parametrize(
    "profiles",
    [
        [{"name": "a", "shapes": {}}],
        [{"name": "a", "shapes": {"y": [[1, 1, WIDTH]] * 3}}],
        [{"name": "a", "shapes": {"x": [[1, 1, WIDTH]] * 3, "y": [[1]] * 3}}],
        [{"name": "a", "shapes": {"x": [[1, 1], [1, 4], [1, 64]]}}],
        [{"name": "a", "shapes": {"x": [[1, 1, WIDTH], [1, 4, WIDTH], [1, 64]]}}],
    ],
)
def test_profiles_of_other_inputs_are_a_damaged_side_car(
    profiles: list[Any], copy: Bundle, driver: Driver
) -> None:
    build_plans(copy)
    change(side_car(copy), profiles=profiles)
    assert "double.json is damaged (its profiles are not of the inputs of double)" in refused(copy)


@pytest.mark.parametrize("suffix", [".json", ".plan"])
def test_a_plan_that_cannot_be_read_is_one_error(
    suffix: str, copy: Bundle, driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where another user has built it."""
    build_plans(copy)
    file = side_car(copy).with_suffix(suffix)
    original = io.open

    def refuse(path: Any, *arguments: Any, **options: Any) -> Any:
        if str(path) == str(file):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return original(path, *arguments, **options)

    monkeypatch.setattr(io, "open", refuse)
    monkeypatch.setattr("builtins.open", refuse)
    assert "Permission denied" in refused(copy)


def test_a_deep_side_car(copy: Bundle, driver: Driver) -> None:
    build_plans(copy)
    side_car(copy).write_text("[" * 100_000 + "]" * 100_000)
    assert "double.json is damaged (it is nested too deeply)" in refused(copy)


def change(side_car: Path, **values: Any) -> None:
    data = json.loads(side_car.read_text("utf-8"))
    side_car.write_text(json.dumps({**data, **values}))


def test_a_damaged_plan_ends_with_what_tensorrt_said(copy: Bundle, driver: Driver) -> None:
    build_plans(copy)
    plan = side_car(copy).with_suffix(".plan")
    plan.write_bytes(b"x" * plan.stat().st_size)
    change(side_car(copy), sha256=sha256(plan))
    text = refused(copy)
    assert f"does not load {plan}" in text and "kMAGIC_TAG" in text


def test_a_refused_shape_ends_with_what_tensorrt_said(copy: Bundle, driver: Driver) -> None:
    """A side-car that promises more than its engine holds; the session stays usable."""
    build_plans(copy)
    data = json.loads(side_car(copy).read_text())
    for profile in data["profiles"]:
        profile["shapes"]["x"] = [[1, 1, WIDTH], [1, 4, WIDTH], [1, 64, WIDTH]]
    side_car(copy).write_text(json.dumps(data))
    session = open_session(copy, "double", "tensorrt")

    def run(count: int) -> None:
        x, twice = np.ones((1, count, WIDTH), np.float32), np.empty((1, count, WIDTH), np.float32)
        session.run({"x": x}, {"twice": twice})
        assert (twice == 2).all()

    for _ in range(3):
        for _ in range(2):
            run(3)
        with pytest.raises(
            SessionError, match=r"refuses \(1, 60, 8\) as x \(double\): .*not within profile 0"
        ):
            run(60)
    session.close()


# What fails


def test_no_memory_is_said_with_numbers(demo: Bundle) -> None:
    """Wherever memory ends, the pipeline gives all of it back."""
    with emulated() as driver, runtime.Pipeline(_planned(demo), device="tensorrt"):
        needed = sum(block.size for block in driver.memory.live)
    for share in (0.1, 0.5, 0.95):
        total = int(share * needed)
        with emulated(total=total), pytest.raises(SessionError) as caught:
            runtime.Pipeline(demo, device="tensorrt")
        assert re.search(rf"out of memory; \d+ of {total >> 20} MiB are free", str(caught.value))
    with emulated(total=needed), runtime.Pipeline(demo, device="tensorrt"):
        pass


@pytest.mark.parametrize(
    "function", ["cuMemAlloc_v2", "cuMemHostAlloc", "cuStreamCreate", "cuMemsetD8Async"]
)
def test_whatever_fails_at_the_opening_is_given_back(function: str, small: Bundle) -> None:
    with emulated():
        build_plans(small)
    for after in range(100):
        with emulated() as driver:
            driver.fail(function, OUT_OF_MEMORY, after)
            problem = ""
            try:
                open_session(small, "decoder", "tensorrt").close()
            except SessionError as error:
                problem = str(error)
        if not problem:
            break
        assert "CUDA_ERROR_OUT_OF_MEMORY" in problem
    assert 0 < after < 99


def test_a_cache_without_memory(demo: Bundle, driver: Driver) -> None:
    session = open_session(_planned(demo), "decoder", "tensorrt")
    driver.fail("cuMemAlloc_v2", OUT_OF_MEMORY, after=1)
    with pytest.raises(SessionError, match="out of memory"):
        KVCache(demo.manifest, session.zeros)
    session.close()


@pytest.mark.parametrize(
    "function",
    [
        *(
            "cuMemcpyHtoDAsync_v2",
            "cuMemcpyDtoHAsync_v2",
            "cuStreamSynchronize",
            "cuStreamBeginCapture_v2",
        ),
        *("cuStreamEndCapture", "cuGraphInstantiateWithFlags", "cuGraphLaunch", "cuCtxSetCurrent"),
    ],
)
def test_whatever_fails_in_a_run_the_next_one_is_right(
    function: str, small: Bundle, driver: Driver
) -> None:
    """An error of CUDA's that is not for ever (most are) leaves no half-bound state behind."""
    for after in range(4):
        session, failed = open_session(_planned(small), "double", "tensorrt"), list[str]()
        driver.fail(function, UNKNOWN, after)
        for count in (3, 3, 3, 4, 4, 4, 3, 3, 5, 5, 6, 6):
            x, twice = (
                np.full((1, count, WIDTH), count, np.float32),
                np.zeros((1, count, WIDTH), np.float32),
            )
            try:
                session.run({"x": x}, {"twice": twice})
            except SessionError as error:
                failed.append(str(error))
            else:
                assert (twice == 2 * count).all()
        assert len(failed) == 1 and function in failed[0]
        session.close()


def test_a_stream_ends_its_work_before_it_gives_memory_back(driver: Driver) -> None:
    stream = Stream(cuda.Device.open())
    array = stream.zeros((2, 8), np.float32)
    array[:1] = array[1:]
    stream.close()
    assert driver.copied == {"DtoD": 32}


def test_an_opened_session_lets_the_module_go(small: Bundle, driver: Driver) -> None:
    """After the close neither engine nor context is left, whoever still holds the session."""
    session = TrtSession(_planned(small), "double")
    x, twice = np.ones((1, 3, WIDTH), np.float32), np.empty((1, 3, WIDTH), np.float32)
    for _ in range(3):
        session.run({"x": x}, {"twice": twice})
    assert driver.leaks() and driver.living
    session.close()
    assert not driver.leaks() and not driver.living
