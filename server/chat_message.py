"""The messages of a request to /v1/chat/completions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vpt_edge.server.conversation import ChatMessage, join_texts
from vpt_edge.server.errors import RequestError
from vpt_edge.server.harmless_fields import CHAT as HARMLESS

if TYPE_CHECKING:
    from vpt_edge.server.conversation import Role
    from vpt_edge.server.fields import Fields

ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
}
DETAILS = ("auto", "low", "high", "original")
READ = {"role", "content", "refusal"}
NEUTRAL: dict[str, tuple[Any, ...]] = {"tool_calls": ([],), "images": ([],), "files": ([],)}
PART_READ = {"type"} | HARMLESS["a part of a message"]


def read_message(fields: Fields) -> ChatMessage:
    """Raises RequestError for what this model cannot be told: nothing is dropped silently."""
    role = _read_role(fields)
    for field in ("tool_calls", "function_call", "audio"):
        if fields.get(field):
            raise unsupported(f"{fields.path(field)}: this model calls no tools and hears nothing")
    fields.refuse_others(READ | HARMLESS["a message"], NEUTRAL)
    refusal = fields.text("refusal")
    content = fields.get("content")
    if content is None and role != "user":
        return ChatMessage(role, refusal or "")  # OpenAI's has one of them
    if isinstance(content, str):
        return ChatMessage(role, fields.check_text("content", content))
    if not isinstance(content, list) or not content:
        raise fields.wrong("content", content, "a text, or a list of parts")
    return _read_parts(fields, role)


def _read_role(fields: Fields) -> Role:
    name = fields.text("role")
    if name in ("tool", "function"):
        raise unsupported(f"{fields.path('role')} is {name!r}: this model calls no tools")
    if name not in ROLES:
        raise fields.wrong("role", name, f"one of: {', '.join(ROLES)}")
    return ROLES[name]


def _read_parts(fields: Fields, role: Role) -> ChatMessage:
    texts = list[str]()
    pictures = list[str]()
    for part in fields.objects("content"):
        kind = part.text("type")
        if kind in ("text", "refusal"):
            texts.append(_read_text(part, kind))
        elif kind == "image_url":
            pictures.append(_read_address(part))
        elif kind is None:
            raise part.wrong("type", kind, "text or image_url")
        else:
            raise unsupported(f"{part.path('type')} is {kind!r}, expected text or image_url")
    if pictures and role != "user":
        raise unsupported(f"{fields.name} has a picture and is not the user's")
    return ChatMessage(role, join_texts(texts), tuple(pictures))


def _read_text(part: Fields, kind: str) -> str:
    part.refuse_others(PART_READ | {kind}, {"annotations": ([],)})
    text = part.text(kind)
    if text is None:
        raise part.wrong(kind, text, "a text")
    return text


def _read_address(part: Fields) -> str:
    """Of a picture: OpenAI's object with a url, or the plain text that some clients send."""
    part.refuse_others(PART_READ | {"image_url"}, {})
    value = part.get("image_url")
    if isinstance(value, str) and value:
        return part.check_text("image_url", value)
    if not isinstance(value, dict):
        raise part.wrong("image_url", value, "an object with a url")
    source = part.object("image_url")
    source.refuse_others({"url"} | HARMLESS["`image_url`"], {})
    source.choice("detail", DETAILS)
    address = source.text("url")
    if not address:
        raise source.wrong("url", address, "a picture's address")
    return address


def unsupported(problem: str) -> RequestError:
    return RequestError(400, "unsupported_content", problem, param="messages")
