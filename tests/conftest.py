"""Bundles exported once a session, and samples to calibrate the quantized ones with."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import hypothesis
import pytest
from golden import DEMO, own_samples

from vpt_edge.live import scenes
from vpt_edge.runtime import Bundle

if TYPE_CHECKING:
    from golden import Exporter

hypothesis.settings.register_profile("untimed", deadline=None)  # tests hold no times
hypothesis.settings.load_profile("untimed")


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve scenes of the demo with five questions each."""
    folder = tmp_path_factory.mktemp("data")
    rng = Random(31)
    with (folder / "data.jsonl").open("w") as lines:
        for index in range(12):
            picture, samples = scenes.scene(rng)
            picture.save(folder / f"{index}.png")
            for sample in samples:
                entry = {
                    "image": f"{index}.png",
                    "question": sample.question,
                    "answer": sample.answer,
                }
                lines.write(json.dumps({**entry, "perception": sample.perception}) + "\n")
    return folder / "data.jsonl"


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Exporter:
    """Exports a checkpoint folder, quantized ones calibrated with ``data``; each combination once.

    Blocks of 64 go into the golden models' widths.
    """
    from vpt_edge.export.exporter import export
    from vpt_edge.export.quantization.options import Calibration
    from vpt_edge.export.quantization.recipe import RECIPES

    root = tmp_path_factory.mktemp("bundles")
    bundles = dict[tuple[str, ...], Bundle]()

    def make(
        checkpoint: Path,
        precision: str = "fp32",
        target: str = "onnxruntime",
        kv_cache: str = "float",
    ) -> Bundle:
        key = (checkpoint.name, precision, target, kv_cache)
        if key not in bundles:
            samples = data if checkpoint == DEMO else own_samples(checkpoint, root)
            calibration = None
            if RECIPES[precision].quantized:
                calibration = Calibration(str(samples), max_drop=100, kv_cache=kv_cache, block=64)
            bundles[key] = export(
                str(checkpoint),
                root / "_".join(key),
                precision=precision,
                target=target,
                calibration=calibration,
            )
        return bundles[key]

    return make
