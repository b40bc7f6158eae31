"""A client's messages, as what is asked about one picture."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, TypeAlias

from vpt_edge.runtime.options import Exchange
from vpt_edge.server.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Sequence

Role: TypeAlias = Literal["system", "user", "assistant"]
ONE_PICTURE = "send one picture in the last message that has any (Frigate: use_snapshot: true)"


@dataclass(frozen=True)
class ChatMessage:
    """``pictures``: their addresses, as the client wrote them."""

    role: Role
    text: str
    pictures: tuple[str, ...] = ()


@dataclass(frozen=True)
class Conversation:
    """``question`` about ``picture``, behind the ``history`` of earlier ones about the same.

    ``passed_over``: how many messages before the newest picture are not shown to the model: it sees
    one picture, and they are about another.
    """

    picture: str
    question: str
    history: tuple[Exchange, ...] = ()
    system: str | None = None
    passed_over: int = field(default=0, compare=False)

    def forget_address(self) -> Conversation:
        """The same without the picture's address, which may be as large as the picture."""
        return replace(self, picture="")


def read_conversation(messages: Sequence[ChatMessage], fix: str) -> Conversation:
    """The conversation about the newest picture in ``messages``.

    Neighbours of one role are one message; what the system says counts for all of it, wherever it
    stands. Raises RequestError where there is no picture, and then ``fix`` says how to send one, or
    more than one at a time, and where the last word is not the user's.
    """
    systems = [message.text for message in messages if message.role == "system"]
    spoken = [message for message in messages if message.role != "system"]
    newest = find_newest_picture(spoken, fix)
    first = find_first(spoken, newest)
    turns = join_neighbours(spoken[first:])
    *earlier, last = turns
    if last.role != "user":
        problem = "the last message is the assistant's, expected the user's"
        fix = "text that the answer begins with goes into assistant_prefix"
        raise RequestError(400, "invalid_value", problem, fix, param="messages")
    questions = [turn.text for turn in earlier[0::2]]
    answers = [turn.text for turn in earlier[1::2]]
    pairs = zip(questions, answers, strict=True)
    return Conversation(
        picture=spoken[newest].pictures[0],
        question=last.text,
        history=tuple(Exchange(question, answer) for question, answer in pairs),
        system=join_texts(systems) or None,
        passed_over=first,
    )


def find_newest_picture(messages: Sequence[ChatMessage], fix: str) -> int:
    """The index of the last message with pictures. Raises RequestError unless it has just one."""
    for index in reversed(range(len(messages))):
        count = len(messages[index].pictures)
        if count > 1:
            problem = f"the newest message with pictures has {count}, this model takes one"
            raise RequestError(400, "too_many_images", problem, ONE_PICTURE, param="messages")
        if count == 1:
            return index
    problem = "no message has a picture, and this model answers questions about pictures"
    raise RequestError(400, "image_required", problem, fix, param="messages")


def find_first(messages: Sequence[ChatMessage], newest: int) -> int:
    """The index of the first message about the picture of the ``newest``: what the same side says
    before it, back to another picture, belongs to it.
    """
    first = newest
    while first > 0:
        before = messages[first - 1]
        if before.role != "user" or before.pictures:
            break
        first -= 1
    return first


def join_neighbours(messages: Sequence[ChatMessage]) -> list[ChatMessage]:
    """``messages`` with the roles in turn."""
    joined = list[ChatMessage]()
    for message in messages:
        if joined and joined[-1].role == message.role:
            before = joined.pop()
            text = join_texts([before.text, message.text])
            message = ChatMessage(message.role, text, before.pictures + message.pictures)
        joined.append(message)
    return joined


def join_texts(texts: Sequence[str]) -> str:
    """``texts`` in lines of their own, but for empty ones."""
    return "\n".join(text for text in texts if text)
