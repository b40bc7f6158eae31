"""What a model of letters on tags answers on this machine, for another to give again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from golden import TAGS

from vpt_edge.runtime import Answer, Pipeline

ANSWERS = "answers.jsonl"
QUESTIONS = 10  # about two scenes: seconds each, emulated


def describe(answer: Answer) -> dict[str, Any]:
    """What has to be the same on every machine: ids, boxes, text."""
    return {
        "ids": [list(turn.generated_ids) for turn in answer.turns],
        "looks": [look.to_dict() for look in answer.looks],
        "text": answer.text,
    }


def write_answers(folder: Path) -> None:
    """Into ``folder``, which `arm64.bundles` wrote: each of its questions to each bundle of
    that model, and the answer.
    """
    lines_of_data = (folder / "data.jsonl").read_text().splitlines()
    entries = list(map(json.loads, lines_of_data[:QUESTIONS]))
    with (folder / ANSWERS).open("w") as lines:
        for manifest in sorted(folder.glob(f"{TAGS.name}_*_onnxruntime_*/manifest.json")):
            bundle = manifest.parent
            with Pipeline(bundle) as pipeline:
                for entry in entries:
                    answer = pipeline.ask(
                        folder / entry["image"], entry["question"], perception=entry["perception"]
                    )
                    line = {"bundle": bundle.name, **entry, **describe(answer)}
                    lines.write(json.dumps(line) + "\n")


def read_answers(folder: Path) -> Iterator[dict[str, Any]]:
    yield from map(json.loads, (folder / ANSWERS).read_text().splitlines())
