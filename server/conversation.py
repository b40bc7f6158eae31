"""A client's messages, as what is asked about a picture, or about several."""

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
    """``question`` about ``pictures``, behind the ``history`` of earlier ones about the same.

    ``passed_over``: how many messages before the newest pictures are not shown to the model: they
    are about others.
    """

    pictures: tuple[str, ...]
    question: str
    history: tuple[Exchange, ...] = ()
    system: str | None = None
    passed_over: int = field(default=0, compare=False)

    def forget_addresses(self) -> Conversation:
        """The same without the pictures' addresses, which may be as large as the pictures."""
        return replace(self, pictures=())


def read_conversation(
    messages: Sequence[ChatMessage], fix: str, most_pictures: int = 1
) -> Conversation:
    """The conversation about the newest pictures in ``messages``, those of one message.

    Neighbours of one role are one message; what the system says counts for all of it, wherever it
    stands. Raises RequestError where there is no picture, and then ``fix`` says how to send one, or
    more than ``most_pictures`` at a time, and where the last word is not the user's.
    """
    systems = [message.text for message in messages if message.role == "system"]
    spoken = [message for message in messages if message.role != "system"]
    newest = find_newest_pictures(spoken, fix, most_pictures)
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
        pictures=spoken[newest].pictures,
        question=last.text,
        history=tuple(Exchange(question, answer) for question, answer in pairs),
        system=join_texts(systems) or None,
        passed_over=first,
    )


def find_newest_pictures(messages: Sequence[ChatMessage], fix: str, most: int) -> int:
    """The index of the last message with pictures.

    Raises RequestError where there is none, and where it has more than the model takes.
    """
    for index in reversed(range(len(messages))):
        count = len(messages[index].pictures)
        if count > most:
            takes = "one" if most == 1 else f"up to {most}"
            problem = f"the newest message with pictures has {count}, this model takes {takes}"
            few = ONE_PICTURE if most == 1 else f"send up to {most} pictures in it"
            raise RequestError(400, "too_many_images", problem, few, param="messages")
        if count:
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
