"""Bundles exported once a session, and samples to calibrate the quantized ones with."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest
from exports import bundle_name, draw_samples, export_bundle

from vpt_edge.runtime import Bundle

if TYPE_CHECKING:
    from collections.abc import Callable

    from golden import Exporter

hypothesis.settings.register_profile("untimed", deadline=None)  # tests hold no times
hypothesis.settings.load_profile("untimed")

BROUGHT = os.environ.get("VPT_BUNDLES", "")  # a folder, where another machine exported


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve scenes of tags with four questions each."""
    return draw_samples(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Exporter:
    """Exports a checkpoint folder, quantized ones calibrated with ``data``; each combination once.

    Where VPT_BUNDLES is set it opens what another machine exported.
    """
    root = tmp_path_factory.mktemp("bundles")
    bundles = dict[str, Bundle]()

    def make(
        checkpoint: Path,
        precision: str = "fp32",
        target: str = "onnxruntime",
        kv_cache: str = "float",
    ) -> Bundle:
        name = bundle_name(checkpoint, precision, target, kv_cache)
        if name not in bundles and BROUGHT:
            shutil.copytree(Path(BROUGHT) / name, root / name)  # plans are written into it
            bundles[name] = Bundle.open(root / name)
        elif name not in bundles:
            bundles[name] = export_bundle(root, data, checkpoint, precision, target, kv_cache)
        return bundles[name]

    return make


@pytest.fixture(scope="session")
def family_bundle(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str, str], Bundle]:
    """Exports a tiny checkpoint of a family, in a precision and for a target; each once."""
    root = tmp_path_factory.mktemp("families")
    bundles = dict[tuple[str, str, str], Bundle]()

    def make(family: str, precision: str, target: str) -> Bundle:
        from families import export_family

        key = (family, precision, target)
        if key not in bundles:
            bundles[key] = export_family(root, *key)
        return bundles[key]

    return make
