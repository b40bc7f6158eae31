"""Questions about signs, and what is true."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import pytest

from vpt_edge.live.scenes import COLOURS
from vpt_edge.live.signs.layout import Conditions, lay_out
from vpt_edge.live.signs.questions import ASK, FORMS, answers, ask_each

if TYPE_CHECKING:
    from vpt_edge.live.signs.sign import Scene


@pytest.fixture(name="scenes")
def fixture_scenes() -> list[Scene]:
    rng = Random(11)
    return [lay_out(rng, 512, Conditions()) for _ in range(60)]


def test_the_truth_is_that_of_every_question(scenes: list[Scene]) -> None:
    rng = Random(1)
    for scene in scenes:
        true = answers(scene)
        for ask in ASK.values():
            for form in range(FORMS):
                sample = ask(scene, rng, form)
                assert true[sample.question] == sample.answer


def test_what_is_asked_about_is_there_and_its_text_is_the_answer(scenes: list[Scene]) -> None:
    rng = Random(2)
    for scene in scenes:
        read, place, colour, there = ask_each(scene, rng)
        assert [each.perception for each in (read, place, colour, there)] == [
            *("region", "reencode", "free", "free")
        ]
        assert read.about in scene.signs and read.about is not None
        assert read.answer == read.about.card.text
        assert read.about.card.colour in read.question
        assert colour.answer in COLOURS
        assert (there.about is None) == (there.answer == "no")


def test_yes_is_as_often_right_as_no(scenes: list[Scene]) -> None:
    rng = Random(3)
    answers = [ASK["there"](scene, rng, 0).answer for scene in scenes for _ in range(10)]
    assert 0.4 < answers.count("yes") / len(answers) < 0.6


def test_an_orange_sign_has_its_article(scenes: list[Scene]) -> None:
    true = answers(scenes[0])
    assert "Is there an orange sign?" in true and "Is there a red sign?" in true
