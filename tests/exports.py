"""Checkpoints exported for tests, and the bundles under the names by which tests ask for them."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from golden import TAGS, own_samples

from vpt_edge.live import scenes

if TYPE_CHECKING:
    from vpt_edge.runtime import Bundle


def bundle_name(checkpoint: Path, precision: str, target: str, kv_cache: str) -> str:
    return f"{checkpoint.name}_{precision}_{target}_{kv_cache}"


def draw_samples(folder: Path) -> Path:
    """Twelve scenes of tags with four questions each, as calibration data."""
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


def export_bundle(
    folder: Path, data: Path, checkpoint: Path, precision: str, target: str, kv_cache: str
) -> Bundle:
    """Writes the bundle into ``folder`` under its name; one that is quantized is calibrated with
    ``data`` if it is TAGS, else with the questions that the model was over-fitted to.

    Blocks of 64 go into the golden models' widths.
    """
    from vpt_edge.export.exporter import export
    from vpt_edge.export.quantization.options import Calibration
    from vpt_edge.export.quantization.recipe import RECIPES

    samples = data
    if checkpoint != TAGS:
        samples = own_samples(checkpoint, folder)
    calibration = None
    if RECIPES[precision].quantized:
        calibration = Calibration(str(samples), max_drop=100, kv_cache=kv_cache, block=64)
    return export(
        str(checkpoint),
        folder / bundle_name(checkpoint, precision, target, kv_cache),
        precision=precision,
        target=target,
        calibration=calibration,
    )
