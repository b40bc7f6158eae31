"""What the tests of an export share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from checkpoints import MODELS, Copy


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    """Copies a golden checkpoint, to be broken."""

    def make(name: str) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        for file in (MODELS / name).iterdir():
            shutil.copyfile(file, folder / file.name)
        return folder

    return make
