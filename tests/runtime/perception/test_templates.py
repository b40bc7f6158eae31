"""Conversations by each rule, token for token as the family's chat template renders them."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import numpy as np
import pytest
from chat_templates import QWEN2, QWEN3, message, render
from conversations import ASKED, CASES, QWEN2_RULES, SIZE, TOOLS, ZOOM, Case
from descriptions import crop_view, view, way_of

from vpt_edge.runtime.chat import Chat
from vpt_edge.runtime.context import Encoded
from vpt_edge.runtime.perception.actions import Crop
from vpt_edge.runtime.perception.views import View
from vpt_edge.runtime.testing import tiny_bundle

if TYPE_CHECKING:
    from vpt_edge.runtime import Bundle
    from vpt_edge.runtime.chat import Message
    from vpt_edge.runtime.perception.text import TextPerception

TOKENS = 3  # of each picture


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("bundle"))


def converse(way: TextPerception, case: Case) -> tuple[list[Message], int]:
    """The messages when the model has said everything, and how many pictures were shown."""
    views = [View(number, (0, 0, *SIZE), SIZE, SIZE) for number in range(case.pictures)]
    messages = way.opening("What?", case.mode, case.history, case.system, case.pictures)
    for number, said in enumerate(case.said, 1):
        left = way.most_looks - number
        decision = way.read(said, views, left)
        assert decision.goes_on
        messages += way.follow_up(said, decision, views, left)
        for action in decision.actions:
            views.append(crop_view(action.box) if isinstance(action, Crop) else view(*SIZE))
    return messages, len(views)


def expand(prompt: str) -> str:
    """A template's prompt with a token for each visual token."""
    return prompt.replace("<|image_pad|>", "<|image_pad|>" * TOKENS)


def context_ids(chat: Chat, messages: list[Message], pictures: int) -> list[int]:
    encoded = Encoded(np.zeros((TOKENS, 4), np.float32), (1, 2, 2 * TOKENS))
    return chat.context(messages, [encoded] * pictures).ids


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_prompt_is_the_template_s(case: Case, bundle: Bundle) -> None:
    way = way_of(bundle.manifest, case.changes)
    chat = Chat(bundle.tokenizer_file, way.pads)
    messages, pictures = converse(way, case)
    ids = context_ids(chat, messages, pictures) + chat.encode(way.turn_prefix)
    prompt = expand(render(case.template, case.expected, case.tools, case.thinking))
    assert chat.decode(ids) == chat.decode(chat.encode(prompt))
    assert ids == chat.encode(prompt)


def test_a_turn_may_end_without_a_newline(bundle: Bundle) -> None:
    """As VisionThink goes on; a template would put one."""
    changes = {
        **QWEN2_RULES,
        "call.name": "resize_image",
        "look.picture": None,
        "look.box": None,
        "look.resize": None,
        "first_view": {"scale": 0.5, "least_side": 28, "resampling": "lanczos"},
        "hand_back.role": "user",
        "hand_back.text": "<tool_response>\nHere:\n{picture}\n</tool_response>\nGo on.",
        "turn.newline": False,
    }
    said = '<tool_call>{"name": "resize_image", "arguments": {"action": "resize"}}</tool_call>'
    back = message("user", "<tool_response>\nHere:\n", "", "\n</tool_response>\nGo on.")
    expected = [message("system", ZOOM), ASKED, message("assistant", said), back]
    case = Case("", QWEN2, changes, (said,), expected)
    way = way_of(bundle.manifest, changes)
    chat = Chat(bundle.tokenizer_file, way.pads)
    ids = context_ids(chat, *converse(way, case))
    with_newline = f"{said}<|im_end|>\n"
    prompt = expand(render(QWEN2, expected))
    assert prompt.count(with_newline) == 1
    assert ids == chat.encode(prompt.replace(with_newline, with_newline.rstrip("\n")))


def test_a_schema_given_as_text_stays_as_it_is(bundle: Bundle) -> None:
    """A template would write it with a space behind each comma and colon."""
    compact = json.dumps(TOOLS[0], separators=(",", ":"))
    way = way_of(bundle.manifest, {"tools": [compact]})
    chat = Chat(bundle.tokenizer_file, way.pads)
    prompt = expand(render(QWEN3, [ASKED], TOOLS))
    written = re.sub(r"(?<=<tools>\n).*(?=\n</tools>)", lambda _: compact, prompt)
    assert written != prompt
    messages = way.opening("What?", "free")
    assert context_ids(chat, messages, 1) == chat.encode(written)
