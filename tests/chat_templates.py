"""Chat templates of the families, written here from what is known of them, for jinja2.

The checkpoints' own are not at hand. They agree in ChatML and in how a picture stands in a text;
Qwen2-VL's and Qwen2.5-VL's begin with a system message of their own, and know no tools; Qwen3-VL's
has none, lists tools behind the system message, and wraps a tool's answer in a user's turn, several
of them in one. That of its thinking models opens the thoughts of each turn.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from jinja2 import Environment

PICTURE = "<|vision_start|><|image_pad|><|vision_end|>"
SYSTEM = "You are a helpful assistant."

_CONTENT = """
{%- macro content_of(content) -%}
{%- if content is string -%}{{- content -}}
{%- else -%}
{%- for part in content -%}
{%- if part.type == 'image' -%}<|vision_start|><|image_pad|><|vision_end|>
{%- else -%}{{- part.text -}}{%- endif -%}
{%- endfor -%}
{%- endif -%}
{%- endmacro -%}
"""
QWEN2 = (
    _CONTENT
    + """
{%- for message in messages -%}
{%- if loop.first and message.role != 'system' -%}
{{- '<|im_start|>system\\n' + default + '<|im_end|>\\n' -}}
{%- endif -%}
{{- '<|im_start|>' + message.role + '\\n' + content_of(message.content) + '<|im_end|>\\n' -}}
{%- endfor -%}
{{- '<|im_start|>assistant\\n' -}}
"""
)
QWEN3 = (
    _CONTENT
    + """
{%- set has_system = messages[0].role == 'system' -%}
{%- if tools -%}
{{- '<|im_start|>system\\n' -}}
{%- if has_system -%}{{- content_of(messages[0].content) + '\\n\\n' -}}{%- endif -%}
{{- '# Tools\\n\\nYou may call one or more functions to assist with the user query.\\n\\n' -}}
{{- 'You are provided with function signatures within <tools></tools> XML tags:\\n<tools>' -}}
{%- for tool in tools -%}{{- '\\n' + tool | tojson -}}{%- endfor -%}
{{- '\\n</tools>\\n\\nFor each function call, return a json object with function name and ' -}}
{{- 'arguments within <tool_call></tool_call> XML tags:\\n<tool_call>\\n' -}}
{{- '{"name": <function-name>, "arguments": <args-json-object>}\\n</tool_call><|im_end|>\\n' -}}
{%- elif has_system -%}
{{- '<|im_start|>system\\n' + content_of(messages[0].content) + '<|im_end|>\\n' -}}
{%- endif -%}
{%- for message in messages if message.role != 'system' -%}
{%- if message.role == 'tool' -%}
{%- if loop.previtem is undefined or loop.previtem.role != 'tool' -%}
{{- '<|im_start|>user' -}}
{%- endif -%}
{{- '\\n<tool_response>\\n' + content_of(message.content) + '\\n</tool_response>' -}}
{%- if loop.nextitem is undefined or loop.nextitem.role != 'tool' -%}
{{- '<|im_end|>\\n' -}}
{%- endif -%}
{%- else -%}
{{- '<|im_start|>' + message.role + '\\n' + content_of(message.content) + '<|im_end|>\\n' -}}
{%- endif -%}
{%- endfor -%}
{{- '<|im_start|>assistant\\n' -}}
{%- if thinking -%}{{- '<think>\\n' -}}{%- endif -%}
"""
)


def _to_json(value: Any) -> str:
    """As transformers has it: without the escapes that jinja2 makes for HTML."""
    return json.dumps(value, ensure_ascii=False)


def render(
    template: str,
    messages: Sequence[dict[str, Any]],
    tools: Sequence[Any] = (),
    thinking: bool = False,
) -> str:
    """The prompt up to where the assistant is to speak."""
    environment = Environment()
    environment.filters["tojson"] = _to_json
    values = {"messages": messages, "tools": tools, "default": SYSTEM, "thinking": thinking}
    return environment.from_string(template).render(values)


def message(role: str, *parts: str) -> dict[str, Any]:
    """A message of texts and pictures: an empty text is a picture."""
    content = list[dict[str, str]]()
    for part in parts:
        if part:
            content.append({"type": "text", "text": part})
        else:
            content.append({"type": "image"})
    return {"role": role, "content": content}
