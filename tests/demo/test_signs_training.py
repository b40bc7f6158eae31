"""A training that was interrupted ends with the weights of one that was not."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from signs import train
from signs.recipe import Stage
from signs.state import Stop, load_state, stop_between_steps
from signs.training import Training, rate
from signs.workshop import Workshop
from signs_tiny import RECIPE

from vpt_edge.commands.bar import Bar
from vpt_edge.commands.console import exit_code
from vpt_edge.runtime.errors import VptError

Lines = list[dict[str, Any]]


@pytest.fixture(name="finished", scope="module")
def fixture_finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training that was left alone."""
    folder = tmp_path_factory.mktemp("training")
    run(folder)
    return folder


def run(folder: Path, stop: Stop | None = None) -> None:
    torch.set_num_threads(1)
    Training(RECIPE, folder, folder / "log").run(stop or Stop(), Bar())


def begin(finished: Path, folder: Path) -> Path:
    """A folder with what was drawn alone."""
    folder.mkdir()
    for pool in ("windows", "scenes", "unseen"):
        for path in finished.glob(f"{pool}*"):
            shutil.copytree(path, folder / path.name)
    return folder


def read_log(folder: Path) -> Lines:
    lines = [json.loads(line) for line in (folder / "log").read_text("utf-8").splitlines()]
    for line in lines:
        del line["minutes"]
    return lines


def assert_same(folder: Path, finished: Path) -> None:
    mine = load_state(folder / "state.pt")
    expected = load_state(finished / "state.pt")
    assert mine["progress"]["stage"] == len(RECIPE.stages)
    for part in ("network", "heads"):
        for name, tensor in expected[part].items():
            assert torch.equal(mine[part][name], tensor), name
    assert read_log(folder) == read_log(finished)


def test_every_stage_learns_its_part(finished: Path) -> None:
    assert [line["stage"] for line in read_log(finished)] == [stage.name for stage in RECIPE.stages]
    before = Workshop(RECIPE, finished).network.state_dict()
    after = load_state(finished / "state.pt")["network"]
    for name in ("visual.blocks.0.mlp.fc1.weight", "decoder.layers.1.mlp.up_proj.weight"):
        assert not torch.equal(before[name], after[name])
    assert not torch.equal(
        before["projector.linear_condition.weight"], after["projector.linear_condition.weight"]
    )


class Counted(Stop):
    """Asks after so many looks at it."""

    def __init__(self, looks: int) -> None:
        self._left = looks

    @property
    def asked(self) -> bool:  # type: ignore[override]
        self._left -= 1
        return self._left < 0


@pytest.mark.parametrize("looks", [1, 2, 4, 9, 14])
def test_stopped_between_steps_it_goes_on(finished: Path, tmp_path: Path, looks: int) -> None:
    folder = begin(finished, tmp_path / "work")
    with pytest.raises(KeyboardInterrupt):
        run(folder, Counted(looks))
    run(folder)
    assert_same(folder, finished)


def test_killed_it_goes_on_from_the_last_state(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = begin(finished, tmp_path / "work")
    with pytest.raises(KeyboardInterrupt):
        run(folder, Counted(2))
    with monkeypatch.context() as patch:
        patch.setattr(Workshop, "take_step", fail_at("see", Workshop.take_step))
        with pytest.raises(OSError, match="killed"):
            run(folder)
    assert (folder / "log").stat().st_size
    run(folder)
    assert_same(folder, finished)


def fail_at(name: str, take_step: Any) -> Any:
    def fail(workshop: Workshop, stage: Stage, step: int) -> Any:
        if stage.name == name and step == 1:
            raise OSError("killed")
        return take_step(workshop, stage, step)

    return fail


def test_sigterm_ends_it_with_130_and_the_command_writes_a_checkpoint(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = begin(finished, tmp_path / "work")
    out = tmp_path / "checkpoint"
    options = ["--out", str(out), "--work", str(folder), "--log", str(folder / "log")]
    monkeypatch.setattr(sys, "argv", ["train.py", *options, "--threads", "1"])
    monkeypatch.setattr(train, "FULL", RECIPE)
    monkeypatch.setattr(train, "find_typefaces", lambda folder: ())
    take_step = Workshop.take_step

    def interrupt(workshop: Workshop, stage: Stage, step: int) -> Any:
        if stage.name == "speak":
            os.kill(os.getpid(), signal.SIGTERM)
        return take_step(workshop, stage, step)

    with monkeypatch.context() as patch:
        patch.setattr(Workshop, "take_step", interrupt)
        assert exit_code(train.main) == 130
    assert not out.exists()
    assert exit_code(train.main) == 0
    assert_same(folder, finished)
    assert json.loads((out / "config.json").read_text("utf-8"))["torch_dtype"] == "float16"
    assert len(list(out.iterdir())) == 10


def test_another_file_is_not_taken_for_a_state(tmp_path: Path) -> None:
    (tmp_path / "state.pt").write_bytes(b"no state")
    with pytest.raises(VptError, match=r"not the state of a training.*begins anew"):
        Training(RECIPE, tmp_path, tmp_path / "log")


def test_signals_ask_within_the_block_alone() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with stop_between_steps() as stop:
        assert not stop.asked
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.asked
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_rate_warms_up_and_falls() -> None:
    stage = Stage("letters", 1000, 1, 2.0, warm=100)
    rates = [rate(stage, step) for step in range(1000)]
    assert rates[0] == pytest.approx(0.02) and max(rates) == pytest.approx(2.0, rel=0.03)
    assert rates[99] > rates[500] > rates[999] > 0.03
