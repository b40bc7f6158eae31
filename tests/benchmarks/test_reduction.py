"""The table that holds a reduced first view against a smaller picture of as many tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
from PIL import Image

from benchmarks.reduction import Comparison, table, verdicts
from vpt_edge.calibration.metrics import exact
from vpt_edge.calibration.sample import Sample
from vpt_edge.runtime import Pipeline, reduction
from vpt_edge.runtime.testing import Script, tiny_bundle

if TYPE_CHECKING:
    from pathlib import Path

WAYS = ("whole", "77% smaller picture", "77% DART", "77% at random")


@pytest.fixture
def comparison(tmp_path: Path, request: pytest.FixtureRequest) -> Comparison:
    """Of four questions, whose answers are the parameter's: of each question in every way."""
    turns, truth = request.param
    Image.new("RGB", (224, 224)).save(tmp_path / "a.png")
    with (
        Pipeline(tiny_bundle(tmp_path / "bundle"), opener=Script(*turns)) as pipeline,
        mock.patch.object(reduction, "LEAST_TOKENS", 1),
    ):
        comparison = Comparison(pipeline, exact, [0.77])
        for number in range(4):
            comparison.ask(Sample(tmp_path / "a.png", f"{number}?", truth, "free"))
    return comparison


RIGHT: list[Any] = [["Yes.", "No.", "Yes.", "No."] * 4, "Yes."]
UNLABELLED: list[Any] = [["Red.", "Blue.", "Red.", "Green."] * 4, None]
ALIKE: list[Any] = [["Yes.", "No.", "No.", "Yes."] * 4, "Yes."]


@pytest.mark.parametrize("comparison", [RIGHT, UNLABELLED], indirect=True)
def test_as_many_tokens_are_shown_and_the_better_way_is_named(comparison: Comparison) -> None:
    assert [comparison.tokens[way] for way in WAYS] == [[64] * 4, [49] * 4, [49] * 4, [49] * 4]
    (line,) = verdicts(comparison)
    assert line == "77%: DART less a smaller picture +100.00 points (+100.00 to +100.00): beats it"
    lines = table(comparison)
    assert [line.split(" | ")[0].strip("| ") for line in lines[2:]] == list(WAYS)


@pytest.mark.parametrize("comparison", [ALIKE], indirect=True)
def test_what_is_no_better_beats_nothing(comparison: Comparison) -> None:
    (line,) = verdicts(comparison)
    assert line.endswith("+0.00 points (+0.00 to +0.00): does not beat it")
    assert "| 77% at random | 49.0 | 100.0% (100.0 to 100.0) |" in table(comparison)[-1]
