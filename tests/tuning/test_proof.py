"""The choice goes into the manifest with its proof: whole, or not at all."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest
from locks import held

from vpt_edge.calibration.sample import Sample
from vpt_edge.runtime import Bundle, VptError
from vpt_edge.runtime.errors import BundleError
from vpt_edge.runtime.lock import LockedError
from vpt_edge.runtime.manifest import MANIFEST, Budget, read_manifest, write_manifest
from vpt_edge.runtime.testing import tiny_bundle
from vpt_edge.runtime.tuned import Tuned
from vpt_edge.tuning.candidate import DEFAULT, Candidate, Setting
from vpt_edge.tuning.proof import check_writable, prove, write_budget
from vpt_edge.tuning.search import Task
from vpt_edge.tuning.table import Row
from vpt_edge.tuning.untuned import fingerprint, open_untuned

SETTING = Setting(28224, 12544)
DATA = "ab" * 32


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_bundle(tmp_path / "bundle").path


@pytest.fixture
def tuned(folder: Path) -> Tuned:
    task = Task((open_untuned(folder),), ("bundle",), (Sample(Path("a.png"), "Q"),), "vqa", 1.5)
    usual = Row("as exported", DEFAULT, True, "", accuracy=0.98, whole=0.04)
    chosen = Row(
        name="small",
        candidate=Candidate(setting=SETTING),
        held=True,
        stopped="",
        count=500,
        labelled=400,
        accuracy=0.976,
        drop=0.4,
        drop_interval=(-0.2, 1.0),
        answers_equal=0.99,
        whole=0.025,
    )
    return prove(chosen, usual, task, DATA)


def put(folder: Path, tuned: Tuned) -> None:
    write_budget(folder, open_untuned(folder).manifest, SETTING, tuned)


def test_the_bundle_opens_with_the_choice_and_its_proof(folder: Path, tuned: Tuned) -> None:
    before = Bundle.open(folder).manifest
    put(folder, tuned)
    manifest = Bundle.open(folder).manifest
    assert manifest.budget == Budget(28224, 12544, tuned=tuned)
    assert replace(manifest, budget=Budget()) == before
    assert manifest.budget.tuned == Tuned(
        default=fingerprint(before),
        data=DATA,
        samples=500,
        labelled=400,
        metric="vqa",
        accuracy=0.976,
        default_accuracy=0.98,
        answers_equal=0.99,
        drop=0.4,
        drop_interval=(-0.2, 1.0),
        allowed=1.5,
        seconds=0.025,
        default_seconds=0.04,
        threads=None,
    )
    assert sorted(path.suffix for path in folder.iterdir() if path.name.startswith(".")) == []


def test_a_tuned_bundle_is_tuned_again_as_it_was_exported(folder: Path, tuned: Tuned) -> None:
    before = fingerprint(read_manifest(folder))
    put(folder, tuned)
    again = open_untuned(folder)
    assert again.manifest.budget == Budget()
    assert fingerprint(read_manifest(folder)) == fingerprint(again.manifest) == before
    write_budget(folder, again.manifest, Setting(look_max_pixels=12544), tuned)
    assert read_manifest(folder).budget == Budget(look_max_pixels=12544, tuned=tuned)


def test_drafts_stay(folder: Path, tuned: Tuned) -> None:
    write_manifest(replace(read_manifest(folder), budget=Budget(draft_tokens=4)), folder)
    assert open_untuned(folder).manifest.budget == Budget(draft_tokens=4)
    put(folder, tuned)
    assert read_manifest(folder).budget.draft_tokens == 4


@pytest.mark.parametrize("fault", ["sync", "_sync_folder"])
def test_a_fault_leaves_a_whole_manifest(
    folder: Path, tuned: Tuned, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (folder / MANIFEST).read_bytes()

    def fail(path: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(f"vpt_edge.runtime.files.{fault}", fail)
        with pytest.raises(OSError, match="No space"):
            put(folder, tuned)
    if fault == "sync":
        assert (folder / MANIFEST).read_bytes() == before
    Bundle.open(folder)
    put(folder, tuned)
    names = sorted(path.name for path in folder.iterdir())
    assert [name for name in names if name.startswith(".")] == []


def test_an_interrupt_leaves_the_old_manifest(
    folder: Path, tuned: Tuned, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (folder / MANIFEST).read_bytes()

    def interrupt(path: Path, data: bytes) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", interrupt)
    with pytest.raises(KeyboardInterrupt):
        put(folder, tuned)
    monkeypatch.undo()
    assert (folder / MANIFEST).read_bytes() == before


def test_another_bundle_in_the_place_is_left_alone(folder: Path, tuned: Tuned) -> None:
    tried = open_untuned(folder).manifest
    write_manifest(replace(read_manifest(folder), source="another"), folder)
    before = (folder / MANIFEST).read_bytes()
    with pytest.raises(BundleError, match="was replaced while it was tuned"):
        write_budget(folder, tried, SETTING, tuned)
    assert (folder / MANIFEST).read_bytes() == before


def test_a_bundle_that_is_being_written_is_left_alone(folder: Path, tuned: Tuned) -> None:
    with held(folder, "export"), pytest.raises(LockedError):
        put(folder, tuned)


def test_a_manifest_of_many_bundles_is_not_replaced(folder: Path, tmp_path: Path) -> None:
    store = tmp_path / "blob"
    (folder / MANIFEST).rename(store)
    (folder / MANIFEST).symlink_to(store)
    with pytest.raises(VptError, match="is a symlink") as error:
        check_writable(folder)
    assert error.value.fix == f"copy what it points to, cp -rL {folder} COPY"
