"""The shapes of requests and replies, for the description of the API."""

from __future__ import annotations

from typing import Any, get_args

from vpt_edge.runtime.perception.actions import Mode
from vpt_edge.server.chat_message import DETAILS, ROLES
from vpt_edge.server.ollama_request import ROLES as OLLAMA_ROLES

Schema = dict[str, Any]
TEXT: Schema = {"type": "string"}
FLAG: Schema = {"type": "boolean"}
COUNT: Schema = {"type": "integer"}
POSITIVE: Schema = {"type": "integer", "minimum": 1}
TEXTS: Schema = {"oneOf": [TEXT, {"type": "array", "items": TEXT}]}
MODE: Schema = {"enum": list(get_args(Mode))}
TEMPERATURE: Schema = {
    "type": "number",
    "minimum": 0,
    "description": "0, the default, takes the likeliest token.",
}
TOP_P: Schema = {"type": "number", "exclusiveMinimum": 0, "maximum": 1}
TOKEN_SHARE: Schema = {
    **TOP_P,
    "description": "Of the visual tokens of each picture as it is first shown, those that count.",
}
LOOKS: Schema = {
    "type": "integer",
    "minimum": 0,
    "description": "Rounds of looking again that are honoured.",
}


def shape(*required: str, **properties: Schema) -> Schema:
    """An object with ``properties``, of which the ``required`` ones are always there."""
    return {"type": "object", "required": list(required), "properties": properties}


def closed(*required: str, **properties: Schema) -> Schema:
    """``shape``, and nothing else."""
    return {**shape(*required, **properties), "additionalProperties": False}


def items(schema: Schema) -> Schema:
    return {"type": "array", "items": schema}


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


PICTURE = closed(
    "url",
    url={
        "type": "string",
        "description": "data:image/...;base64,..., source:NAME, or what this server may fetch.",
    },
    detail={"enum": list(DETAILS), "description": "Changes nothing."},
)
PART: Schema = {
    "oneOf": [
        closed("type", "text", type={"const": "text"}, text=TEXT),
        closed("type", "image_url", type={"const": "image_url"}, image_url=PICTURE),
    ]
}
MESSAGE = shape(
    "role",
    role={"enum": list(ROLES)},
    content={"oneOf": [TEXT, items(PART)]},
    reasoning_content=TEXT,
)
CHAT_REQUEST = closed(
    "messages",
    model=TEXT,
    messages={"type": "array", "minItems": 1, "items": MESSAGE},
    stream=FLAG,
    stream_options=closed(include_usage=FLAG),
    max_tokens=POSITIVE,
    max_completion_tokens=POSITIVE,
    temperature=TEMPERATURE,
    top_p=TOP_P,
    top_k=POSITIVE,
    seed={"type": "integer", "minimum": 0},
    presence_penalty={"type": "number", "minimum": -2, "maximum": 2},
    stop=TEXTS,
    store=FLAG,
    perception=MODE,
    max_looks=LOOKS,
    assistant_prefix=TEXT,
    min_pixels=POSITIVE,
    max_pixels=POSITIVE,
    first_max_pixels=POSITIVE,
    look_max_pixels=POSITIVE,
    first_token_share=TOKEN_SHARE,
    draft_tokens=COUNT,
)
LOOK = shape(
    "kind",
    "cells",
    "box",
    "tokens",
    "picture",
    "source",
    kind=TEXT,
    cells={"oneOf": [items(COUNT), {"type": "null"}]},
    box={"oneOf": [items(COUNT), {"type": "null"}]},
    tokens=COUNT,
    picture=COUNT,
    source={"oneOf": [COUNT, {"type": "null"}]},
)
DETAILS_OF_ANSWER = shape(
    "looks",
    "finish_reason",
    "size",
    "sizes",
    "usage",
    "seconds",
    "passed_over",
    looks=items(ref("Look")),
    finish_reason=TEXT,
    size=items(COUNT),
    sizes=items(items(COUNT)),
    usage={"type": "object"},
    seconds={"type": "object"},
    first_token_seconds=items({"type": "number"}),
    passed_over=COUNT,
    ignored=items(TEXT),
)
COMPLETION = shape(
    "id",
    "object",
    "created",
    "model",
    "choices",
    "usage",
    "vpt",
    id=TEXT,
    object={"const": "chat.completion"},
    created=COUNT,
    model=TEXT,
    choices=items(shape("index", "message", "finish_reason", index=COUNT, message=MESSAGE)),
    usage=shape("prompt_tokens", "completion_tokens", "total_tokens"),
    vpt=ref("Details"),
)
MODEL = shape("id", "object", id=TEXT, object={"const": "model"}, max_model_len=COUNT)
ERROR = shape(
    "error",
    error=shape(
        "message",
        "type",
        "param",
        "code",
        message=TEXT,
        type=TEXT,
        param={"type": ["string", "null"]},
        code=TEXT,
    ),
)
PICTURES = items({"type": "string", "contentEncoding": "base64"})
OLLAMA_MESSAGE = shape(
    "role",
    role={"enum": list(OLLAMA_ROLES)},
    content=TEXT,
    images=PICTURES,
    thinking=TEXT,
)
OLLAMA_OPTIONS = closed(
    temperature=TEMPERATURE,
    top_p=TOP_P,
    top_k=COUNT,
    seed=COUNT,
    num_predict=COUNT,
    stop=TEXTS,
    num_ctx=COUNT,
    perception=MODE,
    max_looks=LOOKS,
    assistant_prefix=TEXT,
    min_pixels=POSITIVE,
    max_pixels=POSITIVE,
    first_max_pixels=POSITIVE,
    look_max_pixels=POSITIVE,
    first_token_share=TOKEN_SHARE,
    draft_tokens=COUNT,
)
OLLAMA_CHAT = closed(
    model=TEXT, messages=items(OLLAMA_MESSAGE), stream=FLAG, think=FLAG, options=OLLAMA_OPTIONS
)
OLLAMA_GENERATE = closed(
    model=TEXT,
    prompt=TEXT,
    system=TEXT,
    images=PICTURES,
    stream=FLAG,
    think=FLAG,
    options=OLLAMA_OPTIONS,
)
OLLAMA_REPLY = shape(
    "model",
    "created_at",
    "done",
    model=TEXT,
    created_at=TEXT,
    done=FLAG,
    done_reason=TEXT,
    message=OLLAMA_MESSAGE,
    response=TEXT,
    thinking=TEXT,
    total_duration=COUNT,
    load_duration=COUNT,
    prompt_eval_count=COUNT,
    prompt_eval_duration=COUNT,
    eval_count=COUNT,
    eval_duration=COUNT,
    vpt=ref("Details"),
)
OLLAMA_SHOW = closed(model=TEXT, name=TEXT, verbose=FLAG)
OLLAMA_MODELS = shape("models", models=items(shape("name", "model", "digest", "size")))
OLLAMA_ERROR = shape("error", error=TEXT)
SCHEMAS: dict[str, Schema] = {
    "ChatRequest": CHAT_REQUEST,
    "Completion": COMPLETION,
    "Details": DETAILS_OF_ANSWER,
    "Error": ERROR,
    "Look": LOOK,
    "Model": MODEL,
    "OllamaChat": OLLAMA_CHAT,
    "OllamaError": OLLAMA_ERROR,
    "OllamaGenerate": OLLAMA_GENERATE,
    "OllamaModels": OLLAMA_MODELS,
    "OllamaReply": OLLAMA_REPLY,
    "OllamaShow": OLLAMA_SHOW,
}
