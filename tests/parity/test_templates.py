"""The templates of these tests, rendered by transformers' own renderer."""

from __future__ import annotations

import pytest
from chat_templates import QWEN3, SYSTEM, render
from conversations import CASES, Case

utils = pytest.importorskip("transformers.utils.chat_template_utils")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_transformers_renders_the_same(case: Case) -> None:
    tools = None
    if case.template == QWEN3 and case.tools:
        tools = list(case.tools)
    texts, _ = utils.render_jinja_template(
        conversations=[case.expected],
        chat_template=case.template,
        tools=tools,
        add_generation_prompt=True,
        default=SYSTEM,
        thinking=case.thinking,
    )
    assert texts == [render(case.template, case.expected, case.tools, case.thinking)]
