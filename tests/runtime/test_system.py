"""A system message in place of the one with which the model was trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from scripted import FIRST, PICTURE, PICTURE_TOKENS, answer_of, chat_of, conversation

from vpt_edge.runtime import Pipeline
from vpt_edge.runtime.errors import PromptError
from vpt_edge.runtime.perception.vpt import SYSTEM
from vpt_edge.runtime.testing import Script

if TYPE_CHECKING:
    from scripted import Tiny


def system_ids(system: str, tiny: Tiny) -> list[int]:
    return chat_of(tiny()).encode(f"<|im_start|>system\n{system}<|im_end|>\n")


@pytest.mark.parametrize("system", ["Be brief. {{idx}}", "", SYSTEM])
def test_it_is_what_the_model_reads_first(system: str, tiny: Tiny) -> None:
    answer = answer_of(Script("Yes."), tiny(), system=system)
    usual = conversation(tiny(), FIRST, tokens=[PICTURE_TOKENS])
    rest = usual[len(system_ids(SYSTEM, tiny)) :]
    assert list(answer.turns[0].prompt_ids) == system_ids(system, tiny) + rest


def test_none_is_the_authors(tiny: Tiny) -> None:
    answer = answer_of(Script("Yes."), tiny(), system=None)
    usual = conversation(tiny(), FIRST, tokens=[PICTURE_TOKENS])
    assert list(answer.turns[0].prompt_ids) == usual


def test_another_one_costs_tokens_but_no_encode(tiny: Tiny) -> None:
    script = Script("Yes.", "No.", "Hm.")
    with Pipeline(tiny(), opener=script) as pipeline, pipeline.encode(PICTURE) as encoded:
        encoded.ask("What?", system="Be brief.")
        other = encoded.ask("What?", system="Explain.")
        same = encoded.ask("Why?", system="Explain.")
    assert other.usage.reused_tokens == len(system_ids("", tiny)) - 2  # <|im_end|> and newline
    assert same.usage.reused_tokens > other.usage.reused_tokens + PICTURE_TOKENS
    assert (other.usage.vision_runs, same.usage.vision_runs) == (0, 0)


def test_one_that_stands_for_a_picture_encodes_nothing(tiny: Tiny) -> None:
    script = Script()
    with (
        Pipeline(tiny(), opener=script) as pipeline,
        pytest.raises(PromptError, match="the system message holds <image>"),
    ):
        pipeline.stream(PICTURE, "What?", system="See <image>.")
    assert not script.sessions["vision_encoder"].calls
