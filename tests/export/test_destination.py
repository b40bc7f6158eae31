"""Where a bundle may be put: nothing but an older bundle is replaced."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from golden import TAGS
from locks import held

from vpt_edge.export import exporter
from vpt_edge.export.destination import check_destination, check_ranges
from vpt_edge.export.quantization.options import Calibration
from vpt_edge.runtime import mounts
from vpt_edge.runtime.errors import CheckpointError, ExportError
from vpt_edge.runtime.lock import LockedError
from vpt_edge.runtime.testing import tiny_bundle


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return tiny_bundle(tmp_path / "bundle").path


def rewrite(folder: Path, **values: object) -> None:
    file = folder / "manifest.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def listing(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(place: Path, match: str) -> None:
    """By a whole export, before the checkpoint is looked at, and with everything where it was."""
    before = listing(place)
    with pytest.raises(ExportError, match=match):
        exporter.export("no/such/checkpoint", place, precision="fp32")
    assert listing(place) == before


def test_a_free_place_and_an_older_bundle_may_be_taken(old: Path) -> None:
    check_destination(old.with_name("new"))
    check_destination(old)
    (old / "plans" / "gpu").mkdir(parents=True)
    (old / "plans" / "gpu" / "decoder.plan").write_text("")
    (old / "decoder.onnx").unlink()
    for version in (1, 2, 99):
        rewrite(old, schema_version=version)
        check_destination(old)


def test_a_manifest_of_something_else_is_not_a_bundle(tmp_path: Path) -> None:
    app = tmp_path / "webapp"
    (app / "src").mkdir(parents=True)
    (app / "src" / "index.js").write_text("precious")
    manifests: list[object] = [
        {"name": "My web app", "start_url": "/", "icons": []},
        {"schema_version": 2, "files": {}},
        {"schema_version": 2, "files": ["src"], "precision": "fp32", "graphs": {}},
        {"schema_version": "2", "files": {}, "precision": "fp32", "graphs": {}},
        {"schema_version": True, "files": {}, "precision": "fp32", "graphs": {}},
        {"schema_version": 2, "files": {"src/index.js": ""}, "precision": "fp32", "graphs": {}},
        [],
        None,
    ]
    for manifest in manifests:
        (app / "manifest.json").write_text(json.dumps(manifest))
        refused(app, "webapp exists and is not a bundle: its manifest.json is not a bundle's")
    for text in ("{", "[" * 100_000):
        (app / "manifest.json").write_text(text)
        refused(app, "is not a bundle")
    (app / "manifest.json").write_bytes(b"\xff")
    refused(app, "is not a bundle")


def test_what_the_manifest_does_not_list_is_named(old: Path) -> None:
    (old / "NOTES.txt").write_text("mine")
    refused(
        old,
        "holds NOTES.txt, which is not part of a bundle and would be lost; "
        "move it, or choose another folder",
    )
    for name in "abcdef":
        (old / name).mkdir()
    refused(old, "holds NOTES.txt, a, b, c, d and 2 more, which are not part")


def test_a_folder_by_the_name_of_a_listed_file_is_not_part_of_a_bundle(old: Path) -> None:
    (old / "decoder.onnx").unlink()
    (old / "decoder.onnx").mkdir()
    (old / "decoder.onnx" / "mine").write_text("mine")
    refused(old, "holds decoder.onnx, which is not part")


def test_plans_are_a_folder(old: Path) -> None:
    (old / "plans").write_text("for the summer")
    refused(old, "holds plans, which is not part")


def test_folders_without_a_manifest_and_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "is not a bundle: it has no manifest.json")
    (tmp_path / "file").write_text("mine")
    refused(tmp_path / "file", "is not a folder")


def test_a_symlink_is_judged_by_what_it_points_to(old: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(old)
    check_destination(link)
    (old / "NOTES.txt").write_text("mine")
    refused(link, "holds NOTES.txt")


def test_a_mount_point_is_refused_at_once(
    old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(f"36 35 0:40 / {old} rw - tmpfs none rw\n")
    monkeypatch.setattr(mounts, "MOUNTS", table)
    refused(old, "is a mount point.* choose a folder in it")
    table.write_text(f"36 35 0:40 / {old}/plans/gpu rw - tmpfs none rw\n")
    refused(old, "holds the mount point .*plans/gpu.* unmount it")


def test_the_working_folder_is_refused_at_once(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(old)
    refused(Path(), "is the working folder")
    (old / "plans").mkdir()
    monkeypatch.chdir(old / "plans")
    refused(old, "is the working folder or holds it")


def test_a_parent_that_cannot_be_written_is_said_before_the_checkpoint_is_read(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Exception, match="cannot write into"):
        exporter.export("no/such/checkpoint", tmp_path / "file" / "bundle", precision="fp32")


def test_a_bundle_into_which_plans_are_built_is_refused(old: Path) -> None:
    """By the lock of vpt-build, held in a process of its own."""
    folder = old / "plans" / "gpu"
    folder.mkdir(parents=True)
    with held(folder, "vpt-build") as process:
        refused(old, rf"vpt-build is writing plans into it \(process {process}\)")
    check_destination(old)


def test_a_place_that_another_export_writes_is_refused(old: Path) -> None:
    with held(old, "export") as process:
        before = listing(old)
        with pytest.raises(
            LockedError, match=rf"another export is writing here \(process {process}\)"
        ):
            exporter.export("no/such/checkpoint", old, precision="fp32")
        assert listing(old) == before
    refused_by_checkpoint(old)


def refused_by_checkpoint(place: Path) -> None:
    with pytest.raises(CheckpointError):
        exporter.export("no/such/checkpoint", place, precision="fp32")


def test_an_export_that_fails_leaves_no_new_parent(tmp_path: Path) -> None:
    refused_by_checkpoint(tmp_path / "a" / "b" / "bundle")
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_that_was_moved_away_is_back_though_the_export_fails(old: Path) -> None:
    """As a kill between two renames leaves it."""
    before = listing(old)
    old.rename(old.with_name(".bundle.123.abcdefgh.vpt-old"))
    old.with_name(".bundle.123.abcdefgh.vpt-partial").mkdir()
    refused_by_checkpoint(old)
    assert listing(old) == before
    assert [path.name for path in old.parent.iterdir()] == ["bundle"]


def test_notes_that_come_during_the_export_are_kept(old: Path) -> None:
    def note(stage: str, done: float) -> None:
        if stage == "sealing the bundle":
            (old / "NOTES.txt").write_text("mine")

    with pytest.raises(ExportError, match=r"holds NOTES.txt"):
        exporter.export(str(TAGS), old, precision="fp32", progress=note)
    assert (old / "NOTES.txt").read_text() == "mine"
    assert [path.name for path in old.parent.iterdir()] == ["bundle"]


def test_what_vpt_build_does_not_write_among_the_plans_is_named(old: Path) -> None:
    folder = old / "plans" / "gpu"
    folder.mkdir(parents=True)
    for name in ("decoder.plan", "decoder.json", "timing.cache"):
        (folder / name).write_text("")
    (folder / ".decoder.plan.12.abcdefgh.vpt-partial").write_text("")
    (old / "plans" / ".gpu.vpt-lock").write_text("")
    check_destination(old)
    (folder / "mine.json").write_text("mine")
    (folder / "results").mkdir()
    (old / "plans" / "notes.txt").write_text("mine")
    refused(old, "holds plans/gpu/mine.json, plans/gpu/results, plans/notes.txt, which are not")


@pytest.mark.parametrize(
    "text", ["mine", "", "[]", '{"key": 1, "passes": {}}', '{"key": "k", "passes": []}']
)
def test_ranges_of_something_else_are_not_replaced(text: str, tmp_path: Path) -> None:
    options = Calibration(str(tmp_path))
    ranges = tmp_path / "bundle.ranges.json"
    ranges.write_text(text)
    with pytest.raises(ExportError, match=r"bundle\.ranges\.json does not hold ranges"):
        exporter.export("no/such", tmp_path / "bundle", precision="int8", calibration=options)
    assert ranges.read_text() == text
    ranges.write_text('{"key": "k", "passes": {}}')
    check_ranges(ranges)
    ranges.unlink()
    ranges.mkdir()
    with pytest.raises(ExportError, match="not a regular file"):
        exporter.export("no/such", tmp_path / "bundle", precision="int8", calibration=options)


@pytest.mark.parametrize("name", [300 * "x", "a\0b"])
def test_a_name_that_no_folder_has_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"cannot write .*choose another name"):
        check_destination(tmp_path / name)
