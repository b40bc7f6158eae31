"""How a model marks its thoughts, in the form in which the loop asks for it."""

from __future__ import annotations

from vpt_edge.runtime.perception.thoughts import Thoughts, prefix_of, tags_of

SPOKEN = Thoughts("<think>", "</think>", prompted=False)
PROMPTED = Thoughts("<think>", "</think>", prompted=True)


def test_the_template_may_open_them() -> None:
    assert [prefix_of(marks) for marks in (PROMPTED, SPOKEN, None)] == ["<think>\n", "", ""]


def test_another_model_has_no_tags() -> None:
    assert tags_of(SPOKEN) == tags_of(PROMPTED) == ("<think>", "</think>")
    assert tags_of(None) is None
