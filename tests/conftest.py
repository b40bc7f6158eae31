"""Bundles exported once a session."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from vpt_edge.runtime import Bundle

if TYPE_CHECKING:
    from golden import Exporter


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exporter:
    """Exports a checkpoint folder; each combination once."""
    from vpt_edge.export.exporter import export

    root, made = tmp_path_factory.mktemp("bundles"), dict[tuple[str, str, str], Bundle]()

    def make(checkpoint: Path, precision: str = "fp32", target: str = "onnxruntime") -> Bundle:
        key = checkpoint.name, precision, target
        if key not in made:
            made[key] = export(str(checkpoint), root / "_".join(key), precision=precision, target=target)
        return made[key]

    return make
