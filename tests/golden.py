"""The golden cases, the authors' own answers, and how an answer is held against one."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from vpt_edge import runtime

ROOT = Path(__file__).parent.parent
SHARED = Path(os.environ.get("VPT_SHARED", ROOT.parent / "shared"))
GOLDEN = SHARED / "golden"
DEMO = ROOT / "demo" / "checkpoint"
TAGS = ROOT / "tests" / "tags"  # smaller, and quicker to export

needs_golden = pytest.mark.skipif(
    not GOLDEN.is_dir(), reason=f"no golden cases at {GOLDEN}; set VPT_SHARED"
)

needs_ort_131 = pytest.mark.skipif(
    tuple(map(int, onnxruntime.__version__.split(".")[:2])) < (1, 31),
    reason=f"ONNX Runtime is {onnxruntime.__version__}; int8 caches and signed Gemms need 1.31",
)

Exporter = Callable[..., runtime.Bundle]
CASES = sorted(path.parent.name for path in GOLDEN.glob("*/expected.npz"))


class Case:
    def __init__(self, name: str) -> None:
        folder = GOLDEN / name
        self.image = folder / "image.png"
        self.conversation: dict[str, Any] = json.loads((folder / "conversation.json").read_text())
        self.expected: dict[str, Any] = json.loads((folder / "expected.json").read_text())
        self.arrays = np.load(folder / "expected.npz")
        self.model = (folder / self.conversation["model"]).resolve()

    @property
    def boxes(self) -> list[list[int]]:
        """The crops, from the path suffixes of the second round."""
        if not self.expected["second_round"]:
            return []
        suffixes = [image.rsplit("_", 1)[1] for image in self.expected["item2"]["images"][1:]]
        return [list(map(int, suffix.split(","))) for suffix in suffixes]

    def ask(self, bundle: runtime.Bundle) -> runtime.Answer:
        with runtime.Pipeline(bundle) as pipeline:
            return pipeline.ask(self.image, self.conversation["question"], keep_logits=True)


def own_samples(model: Path, folder: Path) -> Path:
    """The questions of a golden model about its own pictures, to which it is over-fitted, as
    calibration data.
    """
    cases = [case for case in map(Case, CASES) if case.model.name == model.name]
    lines = [
        {"image": str(case.image), "question": case.conversation["question"]} for case in cases
    ]
    path = folder / f"{model.name}.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def check_decisions(answer: runtime.Answer, case: Case) -> None:
    """Ids, boxes, decisions and texts are the authors'."""
    rounds = ["round1"]
    if case.expected["second_round"]:
        rounds.append("round2")
    assert len(answer.turns) == len(rounds)
    for turn, name in zip(answer.turns, rounds, strict=True):
        assert list(turn.prompt_ids) == case.arrays[f"{name}_prompt_ids"].tolist()
        assert list(turn.generated_ids) == case.arrays[f"{name}_generated_ids"].tolist()
        assert turn.text == case.expected[name]["predict"]
    assert [list(look.box) for look in answer.looks if look.box] == case.boxes
    assert answer.raw == case.expected["final_answer"]
