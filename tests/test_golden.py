"""The authors' own answers, end to end through the exported graphs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from golden import CASES, GOLDEN, Case, Exporter, check_decisions, needs_golden, needs_ort_131

from vpt_edge import runtime
from vpt_edge.runtime.image import open_picture
from vpt_edge.runtime.stopwatch import Stopwatch

if TYPE_CHECKING:
    from numpy.typing import NDArray

pytestmark = needs_golden

LOGITS = 5e-4
ARRAYS = 2e-5  # relative to the largest value


@pytest.mark.parametrize("target", ["onnxruntime", "tensorrt"])
@pytest.mark.parametrize("name", CASES)
def test_answers(name: str, target: str, exported: Exporter) -> None:
    case = Case(name)
    answer = case.ask(exported(case.model, "fp32", target))
    check_decisions(answer, case)
    for turn, round_name in zip(answer.turns, ("round1", "round2"), strict=False):
        assert turn.logits is not None
        difference = np.abs(turn.logits - case.arrays[f"{round_name}_step_logits"]).max()
        assert difference < LOGITS, f"{round_name} differs by {difference}"


@pytest.mark.parametrize("name", CASES)
def test_answers_in_half_precision(name: str, exported: Exporter) -> None:
    case = Case(name)
    check_decisions(case.ask(exported(case.model, "fp16")), case)


@pytest.mark.parametrize("kv_cache", ["float", pytest.param("int8", marks=needs_ort_131)])
@pytest.mark.parametrize("name", CASES)
def test_answers_in_int8(name: str, kv_cache: str, exported: Exporter) -> None:
    """Calibrated on their own pictures: the models are over-fitted to them."""
    case = Case(name)
    check_decisions(case.ask(exported(case.model, "int8", kv_cache=kv_cache)), case)


@pytest.mark.parametrize("model", ["clip", "clip_untied", "det", "seg"])
def test_half_precision_takes_half_the_bytes(model: str, exported: Exporter) -> None:
    sizes = dict[str, int]()
    for precision in ("fp32", "fp16"):
        files = exported(GOLDEN / "models" / model, precision).path.iterdir()
        weights = [path for path in files if path.suffix in (".bin", ".data")]
        sizes[precision] = sum(path.stat().st_size for path in weights)
    assert sizes["fp16"] <= 0.505 * sizes["fp32"]


@pytest.mark.parametrize("name", [name for name in CASES if "clip" not in name or "64x900" in name])
def test_features(name: str, exported: Exporter) -> None:
    """The vision encoder and the re-encoders give the authors' features."""
    case = Case(name)
    with runtime.Pipeline(exported(case.model)) as pipeline:
        vision = pipeline._vision
        picture = open_picture(case.image)
        features = vision.encode(picture, Stopwatch()).features
        check_close(features, case.arrays["visual_features"][: len(features)])
        reencoded = vision.reencode(picture, Stopwatch())
        if pipeline.bundle.manifest.perception["kind"] == "clip":
            assert reencoded is None  # the features are those of the vision encoder
        elif "projector_out_unconditioned" in case.arrays:
            assert reencoded is not None
            check_close(reencoded, case.arrays["projector_out_unconditioned"])
            projected = vision.project(reencoded, case.arrays["action_condition"])
            check_close(projected, case.arrays["projector_out_conditioned"])


def check_close(values: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    np.testing.assert_allclose(values, expected, rtol=0, atol=ARRAYS * np.abs(expected).max())


def test_cost_of_a_reencode(exported: Exporter) -> None:
    """The authors' code computes 3,590 language-model tokens and 6 vision encodes for this
    answer.
    """
    case = Case("clip_reencode_640x480")
    usage = case.ask(exported(case.model)).usage
    assert usage.computed_tokens == 586
    assert (usage.vision_runs, usage.reencoder_runs) == (1, 1)
    assert usage.reused_tokens == 315  # the first round, its action included


def test_a_preamble_rewinds_to_the_common_prefix(exported: Exporter) -> None:
    case = Case("clip_preamble_64x900")
    answer = case.ask(exported(case.model))
    first, second = answer.turns
    generated = len(first.generated_ids) - 1  # the end token is not computed
    new = len(second.prompt_ids) - len(first.prompt_ids)
    assert answer.usage.reused_tokens == len(first.prompt_ids)
    assert (
        answer.usage.computed_tokens
        == len(first.prompt_ids) + generated + new + len(second.generated_ids) - 1
    )
