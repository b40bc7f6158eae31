"""Answers in the shape of OpenAI's chat completions, with ours beside under ``vpt``."""

from __future__ import annotations

import time
import uuid
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vpt_edge.runtime.result import Looked
    from vpt_edge.server.plain_answer import PlainAnswer


@dataclass(frozen=True)
class ChatReply:
    """The reply to one request; ``id`` and ``created`` are the same in all of its chunks."""

    model: str
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    def completion(self, answer: PlainAnswer, text: str, **details: Any) -> dict[str, Any]:
        """The whole ``answer``, which says ``text``; ``details`` go into its block ``vpt``."""
        message = {"role": "assistant", "content": text, "refusal": None}
        if answer.thoughts is not None:
            message["reasoning_content"] = answer.thoughts
        choice = {
            "index": 0,
            "message": message,
            "logprobs": None,
            "finish_reason": finish_reason(answer),
        }
        return {
            **self._head("chat.completion"),
            "choices": [choice],
            "usage": usage(answer),
            "vpt": {**describe(answer), **details},
        }

    def chunk(
        self, delta: dict[str, Any], finish_reason: str | None = None, **extra: Any
    ) -> dict[str, Any]:
        """A piece of a streamed answer; ``extra`` goes beside, where plain clients pass it over."""
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return {**self._head("chat.completion.chunk"), "choices": [choice], **extra}

    def usage_chunk(self, answer: PlainAnswer) -> dict[str, Any]:
        head = self._head("chat.completion.chunk")
        return {**head, "choices": [], "usage": usage(answer)}

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


def finish_reason(answer: PlainAnswer) -> str:
    """OpenAI's word; ours, which has more, stands in ``vpt``."""
    if answer.finish_reason == "length":
        return "length"
    return "stop"


def look(looked: Looked) -> dict[str, Any]:
    """A look as JSON types: kind, cells, box, tokens, picture, source."""
    return looked.to_dict()


def describe(answer: PlainAnswer) -> dict[str, Any]:
    """What OpenAI's shape has no place for."""
    details = asdict(answer.usage)
    seconds = details.pop("seconds")
    first_token_seconds = list(details.pop("first_token_seconds"))
    sizes = [list(size) for size in answer.sizes]
    return {
        "looks": [look(each) for each in answer.looks],
        "finish_reason": answer.finish_reason,
        "size": list(answer.sizes[0]),
        "sizes": sizes,
        "usage": details,
        "seconds": seconds,
        "first_token_seconds": first_token_seconds,
    }


def usage(answer: PlainAnswer) -> dict[str, Any]:
    """Tokens as OpenAI counts them: the last turn's context, visual tokens and looks included, is
    prompt but for what was generated. ``cached_tokens`` were computed for an earlier request.
    """
    last = answer.turns[-1]
    earlier = sum(len(turn.generated_ids) for turn in answer.turns[:-1])
    # A re-encode's turn is prompted again in fewer words than were generated: at least what was
    # shown is prompt.
    shown = len(answer.turns[0].prompt_ids) + sum(each.tokens for each in answer.looks)
    prompt = max(shown, len(last.prompt_ids) - earlier)
    context = len(last.prompt_ids) + len(last.generated_ids)
    generated = answer.usage.generated_tokens
    run = answer.usage.computed_tokens + 1  # the last token is never run
    cached = min(max(0, context - run), prompt)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": generated,
        "total_tokens": prompt + generated,
        "prompt_tokens_details": {"cached_tokens": cached},
    }
