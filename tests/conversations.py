"""Conversations by each rule of a description, and the messages that a client would have then."""

from __future__ import annotations

from typing import Any, NamedTuple

from chat_templates import QWEN2, QWEN3, SYSTEM, message
from descriptions import SHIPPED, call

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
