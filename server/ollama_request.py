"""The bodies of requests to ollama's /api/chat and /api/generate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vpt_edge.server.ask_options import LOOKING, SAMPLING, read_options
from vpt_edge.server.chat_message import unsupported
from vpt_edge.server.chat_request import check_count
from vpt_edge.server.conversation import ChatMessage, Conversation, read_conversation
from vpt_edge.server.fields import Fields, is_one_of
from vpt_edge.server.harmless_fields import OLLAMA as HARMLESS
from vpt_edge.server.subject import SOURCE

if TYPE_CHECKING:
    from vpt_edge.runtime.options import AskOptions
    from vpt_edge.server.conversation import Role
    from vpt_edge.server.settings import Settings

READ = {"model", "stream", "options"}
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "format": ("",),
    "think": (False,),
    "tools": ([],),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "raw": (False,),
    "suffix": ("",),
    "template": ("",),
    "context": ([],),
}
ROLES: dict[str, Role] = {"system": "system", "user": "user", "assistant": "assistant"}
MESSAGE_READ = {"role", "content", "images"}
MESSAGE_NEUTRAL: dict[str, tuple[Any, ...]] = {"tool_calls": ([],)}
OPTIONS_READ = {"num_predict", "stop", *SAMPLING, *LOOKING}
# Ways of sampling that are not done here, with the number at which they do nothing; clients send
# them unasked (Frigate: repeat_penalty 1.05), so the reply names what it ignores: presence_penalty
# too, which counts the prompt's tokens there. Behind them what says only how they do it.
NOT_DONE = {
    "repeat_penalty": 1,
    "presence_penalty": 0,
    "frequency_penalty": 0,
    "min_p": 0,
    "typical_p": 1,
    "tfs_z": 1,
    "mirostat": 0,
}
DETAILS = {"repeat_last_n", "penalize_newline", "mirostat_tau", "mirostat_eta"}
MARKER = "[img]"  # where ollama puts a picture; here it stands in front, as the model learned it
PICTURES = "images"
A_PICTURE = "put one into images of the last user message, in base64"
NO_LIMIT = (-1, -2)  # of num_predict


@dataclass(frozen=True)
class OllamaRequest:
    """``model``: as the client named it, None where it did not. ``conversation``: None where
    nothing is asked, and the model is only to be loaded. ``ignored``: names of options.
    ``shows_thoughts``: whether the client wants what the model thinks.
    """

    model: str | None
    conversation: Conversation | None
    options: AskOptions
    stream: bool
    ignored: tuple[str, ...] = ()
    shows_thoughts: bool = True


def read_chat(body: Any, settings: Settings) -> OllamaRequest:
    """Raises RequestError for what is wrong, and for what this server does not do."""
    fields = Fields(body)
    fields.refuse_others(_known(settings) | {"messages"}, NEUTRAL)
    check_count(fields, settings)
    messages = [_read_message(each) for each in fields.objects("messages")]
    return _read(fields, messages, settings)


def read_generate(body: Any, settings: Settings) -> OllamaRequest:
    """Raises RequestError for what is wrong, and for what this server does not do."""
    fields = Fields(body)
    fields.refuse_others(_known(settings) | {"prompt", "system", PICTURES}, NEUTRAL)
    messages = list[ChatMessage]()
    prompt = fields.text("prompt") or ""
    pictures = _read_pictures(fields)
    system = fields.text("system") or ""
    if prompt or pictures:
        messages.append(ChatMessage("system", system))
        messages.append(ChatMessage("user", _without_markers(prompt, pictures), pictures))
    return _read(fields, messages, settings)


def _read(fields: Fields, messages: list[ChatMessage], settings: Settings) -> OllamaRequest:
    model = fields.text("model")
    stream = fields.flag("stream", default=True)
    given = Fields({}, "options")
    if fields.get("options") is not None:
        given = fields.object("options")
    given.refuse_others(OPTIONS_READ | HARMLESS["`options`"] | DETAILS | set(NOT_DONE), {})
    ignored = _read_ignored(given)
    if not messages:
        return OllamaRequest(model, None, {}, stream, ignored)
    conversation = read_conversation(messages, A_PICTURE, settings.most_pictures)
    max_tokens = _read_max_tokens(given)
    options = read_options(_without_defaults(given), max_tokens, conversation, settings)
    shows_thoughts = fields.flag("think", default=True)
    return OllamaRequest(model, conversation, options, stream, ignored, shows_thoughts)


def _known(settings: Settings) -> set[str]:
    """The fields that both routes take. A model that thinks does so whether it is shown or not."""
    if settings.thinks:
        return READ | HARMLESS["the request"] | {"think"}
    return READ | HARMLESS["the request"]


def _read_message(fields: Fields) -> ChatMessage:
    name = fields.text("role")
    if name == "tool":
        raise unsupported(f"{fields.path('role')} is 'tool': this model calls no tools")
    if name not in ROLES:
        raise fields.wrong("role", name, f"one of: {', '.join(ROLES)}")
    fields.refuse_others(MESSAGE_READ | HARMLESS["a message"], MESSAGE_NEUTRAL)
    pictures = _read_pictures(fields)
    if pictures and name != "user":
        raise unsupported(f"{fields.name} has a picture and is not the user's")
    text = fields.text("content") or ""
    return ChatMessage(ROLES[name], _without_markers(text, pictures), pictures)


def _read_pictures(fields: Fields) -> tuple[str, ...]:
    """The addresses of pictures that are given in base64, which has no :, or as ``source:NAME``."""
    addresses = []
    for item in fields.items(PICTURES):
        if not isinstance(item, str):
            raise fields.wrong(PICTURES, item, "pictures in base64")
        text = fields.check_text(PICTURES, item)
        if not text.startswith(SOURCE):
            text = f"data:;base64,{text}"
        addresses.append(text)
    return tuple(addresses)


def _without_markers(text: str, pictures: tuple[str, ...]) -> str:
    """``text`` without the markers that stand for ``pictures``."""
    if not pictures or MARKER not in text:
        return text
    return text.replace(MARKER, "", len(pictures)).strip()


def _read_ignored(options: Fields) -> tuple[str, ...]:
    ignored = []
    for name in options.given(NOT_DONE):
        if not is_one_of(options.number(name), [NOT_DONE[name]]):
            ignored.append(name)
    return tuple(ignored)


def _read_max_tokens(options: Fields) -> int | None:
    count = options.count("num_predict")
    if count in NO_LIMIT:
        return None
    if count is not None and count < 1:
        raise options.wrong("num_predict", count, "at least 1, or -1 for the server's limit")
    return count


def _without_defaults(options: Fields) -> Fields:
    """``options`` but for numbers by which ollama's clients say that they want nothing special:
    a seed below 0, a top_k below 1.
    """
    unset = []
    for name, least in (("seed", 0), ("top_k", 1)):
        count = options.count(name)
        if count is not None and count < least:
            unset.append(name)
    return options.without(unset)
