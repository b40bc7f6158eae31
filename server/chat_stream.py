"""A streamed answer as OpenAI's chunks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vpt_edge.runtime.result import Looked, Refused, Text
from vpt_edge.server.chat_reply import describe, finish_reason, look
from vpt_edge.server.event_stream import event
from vpt_edge.server.plain_answer import PlainAnswer
from vpt_edge.server.thought_text import ThoughtText

if TYPE_CHECKING:
    from collections.abc import Callable

    from vpt_edge.server.answer_text import AnswerText
    from vpt_edge.server.chat_reply import ChatReply
    from vpt_edge.server.errors import RequestError
    from vpt_edge.server.plain_answer import PlainEvent
    from vpt_edge.server.shot import Shot

DONE = b"data: [DONE]\n\n"


class ChatStream:
    """See ``event_stream.Renderer``. Each look is a chunk without text, and text of a turn that
    may still look again stands in ``vpt`` alone.

    ``shot``: the frame that is asked about, which the client sees at once; ``describe_request``:
    what ``vpt`` says of the whole answer besides.
    """

    media_type = "text/event-stream"
    keep_alive = b": keep-alive\n\n"

    def __init__(
        self,
        reply: ChatReply,
        text: AnswerText,
        include_usage: bool,
        describe_request: Callable[[PlainAnswer], dict[str, Any]],
        shot: Shot | None = None,
    ) -> None:
        self._reply = reply
        self._text = text
        self._thoughts = ThoughtText()
        self._include_usage = include_usage
        self._describe_request = describe_request
        self._shot = shot

    def begin(self) -> bytes:
        opening = event(self._reply.chunk({"role": "assistant", "content": ""}))
        if self._shot is None:
            return opening
        return opening + event(self._reply.chunk({}, vpt={"frame": self._shot.to_dict()}))

    def take(self, each: PlainEvent) -> bytes:
        certain = self._text.take(each)
        if isinstance(each, PlainAnswer):
            return b"".join(self._last_chunks(each, certain))
        delta = dict[str, Any]()
        if certain:
            delta = {"content": certain}
        thought = self._thoughts.take(each)
        if thought:
            delta = {"reasoning_content": thought}
        extra = dict[str, Any]()
        if isinstance(each, Text):
            extra = {"piece": each.piece}
        if isinstance(each, Looked):
            extra = {"look": look(each)}
        if isinstance(each, Refused):
            extra = {"refused": each.reply}
        return event(self._reply.chunk(delta, vpt=extra))

    def _last_chunks(self, answer: PlainAnswer, rest: str) -> list[bytes]:
        """The rest of the answer's text, why it ends, and what it has cost."""
        chunks = list[dict[str, Any]]()
        if rest:
            chunks.append(self._reply.chunk({"content": rest}))
        details = {**describe(answer), **self._describe_request(answer)}
        chunks.append(self._reply.chunk({}, finish_reason(answer), vpt=details))
        if self._include_usage:
            chunks.append(self._reply.usage_chunk(answer))
        return [*map(event, chunks), DONE]

    def fail(self, error: RequestError) -> bytes:
        return event(error.to_dict())
