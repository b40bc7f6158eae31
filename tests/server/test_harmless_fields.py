"""What is passed over changes nothing, wherever it stands, and nothing else is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from serving import encode, question

from vpt_edge.server.chat_request import read_chat_request
from vpt_edge.server.errors import RequestError
from vpt_edge.server.harmless_fields import CHAT, OLLAMA
from vpt_edge.server.ollama_request import read_chat
from vpt_edge.server.settings import Settings

SETTINGS = Settings("tiny", perception="free")
VALUES = {"detail": "low"}  # which is looked at all the same
CHAT_FIELDS = [(place, name) for place, names in CHAT.items() for name in sorted(names)]
OLLAMA_FIELDS = [
    (place, name)
    for place, names in OLLAMA.items()
    for name in sorted(names)
    if place != "`/api/show`"
]


def new_chat() -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """A body, and its objects by where they stand."""
    body = json.loads(json.dumps(question(stream_options={})))
    (message,) = body["messages"]
    text, picture = message["content"]
    places = {
        "the request": body,
        "`stream_options`": body["stream_options"],
        "a message": message,
        "a part of a message": text,
        "`image_url`": picture["image_url"],
    }
    return body, places


def new_ollama() -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    message = {"role": "user", "content": "What?", "images": [encode()]}
    body: dict[str, Any] = {"messages": [message], "options": {}}
    return body, {"the request": body, "a message": message, "`options`": body["options"]}


@pytest.mark.parametrize(("place", "name"), CHAT_FIELDS)
def test_a_chat_is_read_as_if_it_were_not_there(place: str, name: str) -> None:
    body, places = new_chat()
    plain = read_chat_request(body, SETTINGS)
    places[place][name] = VALUES.get(name, {"odd": ["value"]})
    assert read_chat_request(body, SETTINGS) == plain


@pytest.mark.parametrize(("place", "name"), OLLAMA_FIELDS)
def test_so_is_one_of_ollama(place: str, name: str) -> None:
    body, places = new_ollama()
    plain = read_chat(body, SETTINGS)
    places[place][name] = {"odd": ["value"]}
    assert read_chat(body, SETTINGS) == plain


@pytest.mark.parametrize("place", CHAT)
def test_another_one_is_refused_in_each_place(place: str) -> None:
    body, places = new_chat()
    places[place]["unheard_of"] = 1
    with pytest.raises(RequestError, match="unheard_of is 1, which this server does not do"):
        read_chat_request(body, SETTINGS)


def test_another_picture_part_is_refused() -> None:
    body, _ = new_chat()
    body["messages"][0]["content"][1]["unheard_of"] = 1
    with pytest.raises(RequestError, match="unheard_of"):
        read_chat_request(body, SETTINGS)
