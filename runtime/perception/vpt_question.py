"""The user's words around a picture, as the authors put them, and what they must not hold."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from vpt_edge.runtime.chat import PLACEHOLDER, Message, check_text, refuse_literals
from vpt_edge.runtime.errors import PromptError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vpt_edge.runtime.perception.actions import Mode

SENTENCES: dict[Mode, str | None] = {
    "region": "Identify the region that can help you answer the question, and then answer the "
    "question",
    "reencode": "Require additional perception features, and then answer the question",
    "free": None,
    "off": None,
}


def question_text(question: str, mode: Mode, kind: str) -> str:
    """The first user message: the picture, the question and the authors' sentence of ``mode``.

    Raises PromptError for what would crash the authors' code with a checkpoint of ``kind``.
    """
    return add_sentence(add_picture(question, "question", kind), mode)


def add_picture(question: str, name: str, kind: str) -> str:
    """``question``, which errors call ``name``, with the picture in front of it.

    One that places ``<image>`` itself keeps it there. Raises PromptError for other placeholders, a
    second ``<image>``, literal pad or action tokens.
    """
    check_text(question, name, literal_tokens(kind))
    places = find_placeholders(question)
    if len(places) > 1 or places not in ([], ["<image>"]):
        found = ", ".join(places)
        raise PromptError(
            f"the {name} holds {found}: each stands for a picture, and there is one", "remove it"
        )
    if places:
        return question
    return f"<image>\n{question}"


def add_sentence(question: str, mode: Mode) -> str:
    """``question`` and the authors' sentence of ``mode``. Raises PromptError for another mode."""
    if mode not in SENTENCES:
        known = ", ".join(SENTENCES)
        raise PromptError(f"perception {mode!r} is unknown, expected one of: {known}")
    sentence = SENTENCES[mode]
    if sentence is None:
        return question
    return f"{question} \n{sentence}."


def render_history(history: Sequence[tuple[str, str]], kind: str) -> list[Message]:
    """Earlier questions and their answers; the picture stands with the first question.

    A region that an answer names is only text here: none but the last turn is read for looks.
    Raises PromptError for what stands for another picture, or for an action.
    """
    messages = list[Message]()
    for number, (question, answer) in enumerate(history, 1):
        name = f"question {number} of the history"
        if number == 1:
            question = add_picture(question, name, kind)
        else:
            check_later_question(question, name, kind)
        check_words(answer, f"answer {number} of the history", kind)
        messages += [Message("user", question), Message("assistant", answer)]
    return messages


def number_turns(messages: Sequence[Message]) -> list[Message]:
    """``messages`` with the turn's number in the place of ``{{idx}}``, once in each of the user's.

    The authors' template does so (PROTOCOL Q6).
    """
    numbered = []
    turns = 0
    for message in messages:
        if message.role == "user":
            message = replace(message, text=message.text.replace("{{idx}}", str(turns), 1))
            turns += 1
        numbered.append(message)
    return numbered


def check_words(text: str, name: str, kind: str) -> None:
    """Raise PromptError for a ``text`` that stands for a picture or an action anywhere."""
    check_text(text, name, literal_tokens(kind))
    refuse_literals(name, find_placeholders(text))


def check_later_question(question: str, name: str, kind: str) -> None:
    """Raise PromptError for a question behind the first that stands for a picture or an action."""
    check_text(question, name, literal_tokens(kind))
    places = find_placeholders(question)
    if places:
        found = ", ".join(places)
        raise PromptError(
            f"the {name} holds {found}: the picture stands in the history's first question",
            "remove it",
        )


def literal_pads(kind: str) -> tuple[str, ...]:
    """What stands for visual tokens when it is encoded, and must not be spelled out."""
    return "<|image_pad|>", "<|video_pad|>", f"<|{kind}_image_pad|>"


def literal_tokens(kind: str) -> tuple[str, ...]:
    """What no question holds: the pads, and the token that becomes a state (PROTOCOL 5.1)."""
    return *literal_pads(kind), f"<|{kind}_action|>"


def find_placeholders(text: str) -> list[str]:
    """The placeholders of pictures in ``text``, in order."""
    return [f"<{name}>" for name in PLACEHOLDER.findall(text)]
