"""The body of a request to /v1/chat/completions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vpt_edge.server.ask_options import LOOKING, SAMPLING, read_options, read_penalty
from vpt_edge.server.chat_message import read_message
from vpt_edge.server.conversation import Conversation, read_conversation
from vpt_edge.server.errors import RequestError
from vpt_edge.server.fields import Fields
from vpt_edge.server.harmless_fields import CHAT as HARMLESS

if TYPE_CHECKING:
    from vpt_edge.runtime.options import AskOptions
    from vpt_edge.server.settings import Settings

MAX_TOKENS = ("max_completion_tokens", "max_tokens")
READ = {
    *("model", "messages", "stream", "stream_options", "stop", "store"),
    *(*MAX_TOKENS, *SAMPLING, "presence_penalty", *LOOKING),
}
# What changes nothing with these values, and is refused with others.
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "frequency_penalty": (0,),
    "repetition_penalty": (1,),
    "repeat_penalty": (1,),
    "min_p": (0,),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "chat_template_kwargs": ({}, {"enable_thinking": False}),
}
A_PICTURE = "add a part of type image_url to the last user message"


@dataclass(frozen=True)
class ChatRequest:
    """``model``: as the client named it, None where it did not. ``store``: the answer is kept, to
    be shown again.
    """

    model: str | None
    conversation: Conversation
    options: AskOptions
    stream: bool
    include_usage: bool
    store: bool


def read_chat_request(body: Any, settings: Settings) -> ChatRequest:
    """Raises RequestError for what is wrong, and for what this server does not do."""
    fields = Fields(body)
    fields.refuse_others(READ | HARMLESS["the request"], NEUTRAL)
    check_count(fields, settings)
    if not fields.items("messages"):
        raise fields.wrong("messages", fields.get("messages"), "a list of messages")
    messages = [read_message(each) for each in fields.objects("messages")]
    conversation = read_conversation(messages, A_PICTURE, settings.most_pictures)
    options = read_options(fields, _read_max_tokens(fields), conversation, settings)
    penalty = read_penalty(fields)
    if penalty:
        options["presence_penalty"] = penalty
    return ChatRequest(
        model=fields.text("model"),
        conversation=conversation,
        options=options,
        stream=fields.flag("stream"),
        include_usage=_read_include_usage(fields),
        store=fields.flag("store"),
    )


def check_count(fields: Fields, settings: Settings) -> None:
    """Raise RequestError for too many messages."""
    count = len(fields.items("messages"))
    if count > settings.max_messages:
        problem = f"messages has {count} entries, expected up to {settings.max_messages}"
        raise RequestError(400, "too_many_messages", problem, param="messages")


def _read_include_usage(fields: Fields) -> bool:
    if fields.get("stream_options") is None:
        return False
    options = fields.object("stream_options")
    options.refuse_others({"include_usage"} | HARMLESS["`stream_options`"], {})
    return options.flag("include_usage")


def _read_max_tokens(fields: Fields) -> int | None:
    """The smaller of the two names' numbers."""
    numbers = [fields.count_from(name, 1) for name in MAX_TOKENS]
    given = [number for number in numbers if number is not None]
    return min(given, default=None)
