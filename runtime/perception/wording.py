"""What a description says, with its fields filled in, and what a question must not hold."""

from __future__ import annotations

import json
import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from vpt_edge.runtime.chat import PLACEHOLDER, Message, check_text, refuse_literals
from vpt_edge.runtime.errors import PromptError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vpt_edge.runtime.perception.actions import Mode

PAD = "<|image_pad|>"
PADS = MappingProxyType({"image": PAD, "video": "<|video_pad|>"})
RESERVED = tuple(PADS.values())  # what stands for visual tokens when it is encoded
PICTURE = "<image>"
MOST_PICTURES = 64  # with a question; a cache holds fewer of any size
PLAIN = "{pictures}{question}"  # as the families' templates have them
MODES: tuple[Mode, ...] = ("free", "off")
FIELD = re.compile(r"\{([a-z_]+)\}")


def fill(text: str, values: Mapping[str, object]) -> str:
    """``text`` with ``{name}`` replaced by each of ``values``; other braces stay.

    What is filled in is not looked at again.
    """

    def replace(match: re.Match[str]) -> str:
        return str(values.get(match[1], match[0]))

    return FIELD.sub(replace, text)


def render_tools(tools: Sequence[Any]) -> str:
    """The schemas one a line, as the families' templates write them; a text stays as it is."""
    lines = list[str]()
    for tool in tools:
        line = tool
        if not isinstance(tool, str):
            line = json.dumps(tool, ensure_ascii=False)
        lines.append(line)
    return "\n".join(lines)


def render_questions(
    history: Sequence[tuple[str, str]], question: str, pictures: int, template: str = PLAIN
) -> list[Message]:
    """The turns up to the question; ``pictures`` stand with the first one.

    ``template``: what a question becomes, with the fields ``{pictures}`` and ``{question}``.
    Raises PromptError for a text that stands for another picture.
    """
    messages = list[Message]()
    for number, (text, answer) in enumerate(history, 1):
        name = f"question {number} of the history"
        messages.append(_render_question(text, name, pictures, template))
        check_words(answer, f"answer {number} of the history")
        messages.append(Message("assistant", answer))
        pictures = 0
    return [*messages, _render_question(question, "question", pictures, template)]


def _render_question(text: str, name: str, pictures: int, template: str) -> Message:
    places = place_pictures(text, name, pictures)
    return Message("user", fill(template, {"pictures": places, "question": text}))


def place_pictures(question: str, name: str, count: int) -> str:
    """What stands for ``count`` pictures beside ``question``: nothing where it places each itself.

    Raises PromptError for another number of them, other placeholders and literal pads.
    """
    check_text(question, name, RESERVED)
    places = find_placeholders(question)
    if not places:
        return PICTURE * count
    if places != [PICTURE] * count:
        listed = ", ".join(places)
        problem = f"the {name} holds {listed}: each stands for a picture, expected {count}"
        raise PromptError(problem, f"place each {PICTURE} once, or none of them")
    return ""


def find_placeholders(text: str) -> list[str]:
    """The placeholders of pictures in ``text``, in order."""
    return [f"<{name}>" for name in PLACEHOLDER.findall(text)]


def stands_for_pictures(text: str) -> bool:
    """Whether ``text`` spells what would stand for a picture when it is encoded."""
    return bool(find_placeholders(text)) or any(pad in text for pad in RESERVED)


def check_words(text: str, name: str) -> None:
    """Raise PromptError for a ``text`` that stands for a picture; errors call it ``name``."""
    check_text(text, name, RESERVED)
    refuse_literals(name, find_placeholders(text))


def check_mode(mode: str) -> None:
    """Raise PromptError for a mode that is VPT's alone."""
    if mode not in MODES:
        known = ", ".join(MODES)
        raise PromptError(f"perception {mode!r} is unknown, expected one of: {known}")
