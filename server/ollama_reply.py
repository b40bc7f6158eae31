"""Answers in ollama's shape, with ours beside under ``vpt``."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Literal

from vpt_edge.runtime.result import Looked, Refused, Text
from vpt_edge.server.chat_reply import describe, finish_reason, look, usage
from vpt_edge.server.plain_answer import PlainAnswer
from vpt_edge.server.thought_text import ThoughtText

if TYPE_CHECKING:
    from vpt_edge.server.answer_text import AnswerText
    from vpt_edge.server.errors import RequestError
    from vpt_edge.server.plain_answer import PlainEvent
    from vpt_edge.server.shot import Shot

SECOND = 1_000_000_000  # nanoseconds


@dataclass(frozen=True)
class OllamaReply:
    """The reply to one request. ``model``: as the client named it; ``details``: what ``vpt`` says
    besides the answer; ``shows_thoughts``: unless the client says that it wants none; ``shot``: the
    frame that is asked about.
    """

    kind: Literal["chat", "generate"]
    model: str
    details: dict[str, Any]
    shows_thoughts: bool = True
    started: float = field(default_factory=time.monotonic)
    shot: Shot | None = None

    def part(self, text: str, thought: str = "", **extra: Any) -> dict[str, Any]:
        """A piece of a streamed answer."""
        return {**self._head(text, thought), "done": False, **extra}

    def loaded(self) -> dict[str, Any]:
        """The reply where nothing is asked: the model is in memory."""
        return {**self._head(""), "done": True, "done_reason": "load"}

    def last(self, answer: PlainAnswer, text: str, thoughts: str = "") -> dict[str, Any]:
        """The end of ``answer``, with ``text``, ``thoughts`` and what it has cost: durations in
        nanoseconds, all that is read counts as prompt.
        """
        seconds = answer.usage.seconds
        total = time.monotonic() - self.started
        read = seconds["total"] - seconds["decode"]
        tokens = usage(answer)
        details = {**describe(answer), **self.details}
        if self.shot is not None:
            details["frame"] = self.shot.conclude()
        return {
            **self._head(text, thoughts),
            "done": True,
            "done_reason": finish_reason(answer),
            "total_duration": nanoseconds(total),
            "load_duration": nanoseconds(0),
            "prompt_eval_count": tokens["prompt_tokens"],
            "prompt_eval_duration": nanoseconds(read),
            "eval_count": tokens["completion_tokens"],
            "eval_duration": nanoseconds(seconds["decode"]),
            "vpt": details,
        }

    def _head(self, text: str, thought: str = "") -> dict[str, Any]:
        head = {"model": self.model, "created_at": utc(datetime.now(timezone.utc))}
        thinking = dict[str, str]()
        if thought and self.shows_thoughts:
            thinking = {"thinking": thought}
        if self.kind == "generate":
            return {**head, "response": text, **thinking}
        return {**head, "message": {"role": "assistant", "content": text, **thinking}}


def nanoseconds(seconds: float) -> int:
    """At least one: clients divide by it."""
    return max(1, round(seconds * SECOND))


def utc(moment: datetime) -> str:
    """``moment`` as ollama writes it."""
    return moment.isoformat().replace("+00:00", "Z")


class OllamaStream:
    """See ``event_stream.Renderer``: a line of JSON for each piece. Each look is a line without
    text, and text of a turn that may still look again stands in ``vpt`` alone.
    """

    media_type = "application/x-ndjson"

    def __init__(self, reply: OllamaReply, text: AnswerText) -> None:
        self.keep_alive = line(reply.part(""))
        self._reply = reply
        self._text = text
        self._thoughts = ThoughtText()

    def begin(self) -> bytes:
        shot = self._reply.shot
        if shot is None:
            return b""
        return line(self._reply.part("", vpt={"frame": shot.to_dict()}))

    def take(self, each: PlainEvent) -> bytes:
        certain = self._text.take(each)
        if isinstance(each, PlainAnswer):
            rest = b""
            if certain:
                rest = line(self._reply.part(certain))
            return rest + line(self._reply.last(each, ""))
        extra = dict[str, Any]()
        if isinstance(each, Text):
            extra = {"piece": each.piece}
        if isinstance(each, Looked):
            extra = {"look": look(each)}
        if isinstance(each, Refused):
            extra = {"refused": each.reply}
        return line(self._reply.part(certain, self._thoughts.take(each), vpt=extra))

    def fail(self, error: RequestError) -> bytes:
        return line(error.to_ollama_dict())


def line(data: Any) -> bytes:
    """``data`` as one line."""
    return json.dumps(data).encode() + b"\n"
