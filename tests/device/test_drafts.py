"""vpt-bench --draft-tokens: the same question with drafts and without, in turn."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from scripted import PICTURE
from speaking import speak

from vpt_edge.device.bench import Prompt, measure
from vpt_edge.device.drafts import Drafts, compare_drafts
from vpt_edge.runtime import Answer, Bundle, Pipeline
from vpt_edge.runtime.errors import PromptError
from vpt_edge.runtime.testing import Script, tiny_bundle

if TYPE_CHECKING:
    from pathlib import Path

SONG = "abcdefgh abcdefgh abcdefgh"


class Run(NamedTuple):
    answer: Answer


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return tiny_bundle(tmp_path / "bundle")


class Asked:
    """Asks one question; its time is told. ``changed``: other words with drafts."""

    def __init__(self, pipeline: Pipeline, changed: bool = False) -> None:
        self._pipeline = pipeline
        self._changed = changed
        self.order: list[int] = []

    def __call__(self, **options: Any) -> Run:
        self.order.append(options["draft_tokens"])
        answer = self._pipeline.ask(PICTURE, "What?", perception="off", **options)
        seconds = {"decode": 1.0 / (1 + len(self.order) % 2)}
        answer = replace(answer, usage=replace(answer.usage, seconds=seconds))
        if self._changed and options["draft_tokens"]:
            answer = replace(answer, turns=())
        return Run(answer)


def test_pairs_are_asked_in_turn_and_know_nothing_of_each_other(bundle: Bundle) -> None:
    with Pipeline(bundle, opener=speak(bundle, *[SONG] * 6)) as pipeline:
        asked = Asked(pipeline)
        drafts = compare_drafts(pipeline, asked, 4, 3)
    assert asked.order == [0, 4, 0, 4, 0, 4]
    assert drafts is not None
    assert (drafts.decode, drafts.equal, drafts.most) == (2.0, True, 4)
    assert drafts.generated == len(SONG) + 1
    assert 0 < drafts.accepted <= drafts.drafted < drafts.generated  # not of the answer before


def test_other_tokens_are_said(bundle: Bundle) -> None:
    with Pipeline(bundle, opener=speak(bundle, *[SONG] * 2)) as pipeline:
        drafts = compare_drafts(pipeline, Asked(pipeline, changed=True), 4, 1)
    assert drafts is not None
    assert not drafts.equal
    assert "OTHER TOKENS" in drafts.describe()


def test_the_words() -> None:
    drafts = Drafts(4, 20, 15, 30, 0.625, equal=True)
    assert drafts.describe() == (
        "15 of 20 drafted tokens accepted, of 30; decode takes 0.62 times as long; the same tokens"
    )
    assert replace(drafts, decode=None).describe() == "nothing was decoded"


def test_the_report_has_them_where_they_are_asked_for(bundle: Bundle) -> None:
    script = Script(*["x", SONG] * 5)
    report = measure(bundle, prompt=Prompt(draft_tokens=4), runs=1, opener=script)
    assert report.drafts is not None
    assert report.to_dict()["drafts"]["most"] == 4
    assert "drafts of 4" in report.text()
    plain = measure(bundle, runs=1, opener=Script(*["x", SONG] * 3))
    assert plain.drafts is None
    assert "drafts" not in plain.text()


def test_more_than_the_bundle_takes_is_refused_before_the_runs(bundle: Bundle) -> None:
    for most in (16, -1):
        with pytest.raises(PromptError, match="this bundle's decoder takes 0 to 15"):
            measure(bundle, prompt=Prompt(draft_tokens=most), opener=Script())
