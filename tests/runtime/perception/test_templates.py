"""Conversations by each rule, token for token as the family's chat template renders them."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
from chat_templates import QWEN2, QWEN3, SYSTEM, message, render
from descriptions import SHIPPED, call, crop_view, view, way_of

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
TOOLS = SHIPPED["tools"]
SIZE = (800, 600)
LEFT = call([0, 0, 500, 1000])
RIGHT = call([500, 0, 1000, 1000])
BAD = "<tool_call>{</tool_call>"
FAILED = "Error: the call is not JSON."
THINKING = {"opening": "<think>", "closing": "</think>", "prompted": True}
FIRST = {
    "by": "first",
    "argument": None,
    "base": 0,
    "original": None,
    "crop": None,
    "missing": "refuse",
}
QWEN2_RULES = {"opening.plain": SYSTEM, "opening.system": "{system}Zoom.", "tools": []}
ZOOM = f"{SYSTEM}\n\nZoom."


class Case(NamedTuple):
    """A conversation: what the model says in each turn, and the messages that a client has then."""

    name: str
    template: str
    changes: dict[str, Any]
    said: tuple[str, ...]
    expected: list[dict[str, Any]]
    pictures: int = 1
    system: str | None = None
    history: tuple[tuple[str, str], ...] = ()
    mode: Any = "free"
    thinking: bool = False

    @property
    def tools(self) -> Any:
        """What a client gives the template."""
        if self.template == QWEN2 or self.mode == "off":
            return ()
        return TOOLS


ASKED = message("user", "", "What?")
LOOKED = message("tool", "")
CASES = [
    Case("qwen3: the question", QWEN3, {}, (), [ASKED]),
    Case("qwen3: several pictures", QWEN3, {}, (), [message("user", "", "", "What?")], pictures=2),
    Case(
        "qwen3: a system message",
        QWEN3,
        {},
        (),
        [message("system", "Be brief."), ASKED],
        system="Be brief.",
    ),
    Case("qwen3: no looks", QWEN3, {}, (), [ASKED], mode="off"),
    Case(
        "qwen3: an earlier question",
        QWEN3,
        {},
        (),
        [message("user", "", "Which?"), message("assistant", "That."), message("user", "What?")],
        history=(("Which?", "That."),),
    ),
    Case("qwen3: a look", QWEN3, {}, (LEFT,), [ASKED, message("assistant", LEFT), LOOKED]),
    Case(
        "qwen3: two looks",
        QWEN3,
        {},
        (LEFT, f"So.\n{RIGHT}"),
        [
            ASKED,
            message("assistant", LEFT),
            LOOKED,
            message("assistant", f"So.\n{RIGHT}"),
            LOOKED,
        ],
    ),
    Case(
        "qwen3: two looks at once",
        QWEN3,
        {},
        (f"{LEFT}\n{RIGHT}",),
        [ASKED, message("assistant", f"{LEFT}\n{RIGHT}"), LOOKED, LOOKED],
    ),
    Case(
        "qwen3: a bad call beside a good one",
        QWEN3,
        {},
        (f"{BAD}{LEFT}",),
        [ASKED, message("assistant", f"{BAD}{LEFT}"), message("tool", FAILED), LOOKED],
    ),
    Case(
        "qwen3: a bad call",
        QWEN3,
        {},
        (BAD,),
        [ASKED, message("assistant", BAD), message("tool", FAILED)],
    ),
    Case(
        "qwen3: thoughts that the template opens",
        QWEN3,
        {"turn.thoughts": THINKING},
        (f"<think>\n{RIGHT}</think>\n\n{LEFT}",),
        [ASKED, message("assistant", f"<think>\n{RIGHT}</think>\n\n{LEFT}"), LOOKED],
        thinking=True,
    ),
    Case(
        "qwen2: the template's own system message",
        QWEN2,
        {**QWEN2_RULES, "opening.system": None},
        (),
        [ASKED],
    ),
    Case("qwen2: no looks", QWEN2, QWEN2_RULES, (), [ASKED], mode="off"),
    Case(
        "qwen2: words around a question",
        QWEN2,
        {**QWEN2_RULES, "opening.user": "{pictures}Question: {question} Think."},
        (),
        [message("system", ZOOM), message("user", "", "Question: What? Think.")],
    ),
    Case(
        "qwen2: a look in a user's turn, with words around",
        QWEN2,
        {
            **QWEN2_RULES,
            "hand_back.role": "user",
            "hand_back.text": "<tool_response>{picture}Go on.</tool_response>",
        },
        (LEFT,),
        [
            message("system", ZOOM),
            ASKED,
            message("assistant", LEFT),
            message("user", "<tool_response>", "", "Go on.</tool_response>"),
        ],
    ),
    Case(
        "qwen2: looks that are counted",
        QWEN2,
        {
            **QWEN2_RULES,
            "rounds": 2,
            "hand_back.role": "user",
            "hand_back.text": "Action {index}, observation {number}, {width}x{height}:\n{picture}",
            "hand_back.last": "\nAnswer now.",
            "look.resize": None,
        },
        (LEFT, RIGHT),
        [
            message("system", ZOOM),
            ASKED,
            message("assistant", LEFT),
            message("user", "Action 0, observation 1, 400x600:\n", ""),
            message("assistant", RIGHT),
            message("user", "Action 1, observation 2, 400x600:\n", "", "\nAnswer now."),
        ],
    ),
    Case(
        "qwen2: the whole picture for a bad call",
        QWEN2,
        {
            **QWEN2_RULES,
            "hand_back.role": "user",
            "hand_back.bad_call": "whole",
            "hand_back.error": "",
        },
        (BAD,),
        [message("system", ZOOM), ASKED, message("assistant", BAD), message("user", "")],
    ),
    Case(
        "qwen2: a box in brackets",
        QWEN2,
        {
            **QWEN2_RULES,
            "opening.system": None,
            "opening.user": "{question}{pictures}",
            "call.opening": "<bbox>",
            "call.closing": "</bbox>",
            "call.form": "box",
            "call.name": None,
            "look.picture": {**FIRST, "by": "last"},
            "look.box.argument": None,
            "hand_back.role": "user",
        },
        ("<bbox>[0, 0, 500, 500]</bbox>", "<bbox>[1, 2]</bbox>"),
        [
            message("user", "What?", ""),
            message("assistant", "<bbox>[0, 0, 500, 500]</bbox>"),
            message("user", ""),
            message("assistant", "<bbox>[1, 2]</bbox>"),
            message("user", "Error: the box is not a list of four numbers."),
        ],
    ),
]


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
