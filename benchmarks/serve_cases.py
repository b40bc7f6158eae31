"""What clients of a server ask for: right questions with their answers, and rubbish."""

from __future__ import annotations

import base64
import io
import json
from itertools import islice
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

from evaluate import draw_scenes

if TYPE_CHECKING:
    from PIL import Image

    from vpt_edge.runtime import Answer, Pipeline

MODEL = "demo"
TOKENS = 32  # of a turn
JSON = "application/json"
PATH = "/v1/chat/completions"


class Reply(NamedTuple):
    """What a client reads of an answer; ``looks`` as JSON."""

    text: str
    looks: str
    finish_reason: str


class Case(NamedTuple):
    """A request with the reply that it must have."""

    body: dict[str, Any]
    reply: Reply


class Rubbish(NamedTuple):
    """A request that is refused with ``status``."""

    path: str
    content: bytes
    kind: str
    status: int


def encode(picture: Image.Image) -> bytes:
    """``picture`` as a PNG."""
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return stream.getvalue()


def turn(question: str, picture: bytes) -> dict[str, Any]:
    """The user's message that asks about ``picture``."""
    address = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
    parts = [
        {"type": "text", "text": question},
        {"type": "image_url", "image_url": {"url": address}},
    ]
    return {"role": "user", "content": parts}


def request(messages: list[dict[str, Any]], perception: str) -> dict[str, Any]:
    return {"messages": messages, "perception": perception, "max_tokens": TOKENS}


def expect(answer: Answer) -> Reply:
    looks = [look.to_dict() for look in answer.looks]
    return Reply(answer.text, json.dumps(looks), answer.finish_reason)


def draw_cases(pipeline: Pipeline, draw: Random, pictures: int) -> list[Case]:
    """Each picture's questions, and behind the first of them, as history, the second."""
    cases = []
    for picture, samples in islice(draw_scenes(draw.getrandbits(32)), pictures):
        data = encode(picture)
        for each in samples:
            answer = pipeline.ask(
                data, each.question, perception=each.perception, max_new_tokens=TOKENS
            )
            body = request([turn(each.question, data)], each.perception)
            cases.append(Case(body, expect(answer)))
        first, second = samples[:2]
        answer = pipeline.ask(
            data,
            second.question,
            perception="off",
            max_new_tokens=TOKENS,
            history=[(first.question, first.answer)],
        )
        messages = [
            turn(first.question, data),
            {"role": "assistant", "content": first.answer},
            {"role": "user", "content": second.question},
        ]
        cases.append(Case(request(messages, "off"), expect(answer)))
    return cases


def collect_rubbish(case: Case) -> list[Rubbish]:
    """What ``case`` would be with something wrong, and what was never a request."""
    message = case.body["messages"][0]
    text, image = message["content"]
    broken = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    outside = {"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}
    wrong: list[dict[str, Any]] = [
        {"messages": []},
        {"messages": [{"role": "user", "content": "no picture"}]},
        {"messages": [{"role": "user", "content": [text, image, image]}]},
        {"messages": [{"role": "user", "content": [text, broken]}]},
        {"messages": [{"role": "user", "content": [text, outside]}]},
        {"messages": [{"role": "wizard", "content": "?"}]},
        {"messages": "?"},
        {"temperature": "hot"},
        {"max_tokens": -1},
        {"n": 3},
        {"tools": [{"type": "function", "function": {"name": "look"}}]},
        {"no_such_field": True},
    ]
    bodies = [json.dumps({**case.body, **fields}).encode() for fields in wrong]
    whole = json.dumps(case.body).encode()
    other = json.dumps({**case.body, "model": "other"}).encode()
    return [
        *[Rubbish(PATH, body, JSON, 400) for body in bodies],
        Rubbish(PATH, whole[: len(whole) // 2], JSON, 400),
        Rubbish(PATH, b"\xff\x00[[[[", JSON, 400),
        Rubbish(PATH, b"", JSON, 400),
        Rubbish(PATH, b"[" * 100_000, JSON, 400),
        Rubbish(PATH, whole, "text/plain", 415),
        Rubbish(PATH, other, JSON, 404),
        Rubbish("/v1/embeddings", whole, JSON, 404),
        Rubbish("/health", whole, JSON, 405),
    ]
