"""Mount points: at a place and below it, bind mounts of the same device included."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vpt_edge.runtime import mounts
from vpt_edge.runtime.mounts import find_mount

if TYPE_CHECKING:
    import pytest


def test_mount_points_are_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "place"
    spaced = place / "a b\\c"
    spaced.mkdir(parents=True)
    assert find_mount(Path("/")) == Path("/")
    assert find_mount(place) is None
    table = tmp_path / "mountinfo"
    escaped = str(spaced).replace("\\", "\\134").replace(" ", "\\040")
    table.write_text(f"36 35 98:0 / {escaped} rw,noatime master:1 - ext4 /dev/root rw\n")
    monkeypatch.setattr(mounts, "MOUNTS", table)  # a bind mount of the same device
    assert find_mount(spaced) == spaced
    assert find_mount(tmp_path / "pl") is None
    table.write_text(f"36 35 98:0 / {place}/plans/gpu rw - ext4 /dev/root rw\n")
    assert find_mount(place) == place / "plans" / "gpu"
