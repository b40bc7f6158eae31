"""A chat template that writes other prompts than the authors' code is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from checkpoints import Copy, refused, set_value
from golden import needs_golden

from vpt_edge.export.checkpoint import Checkpoint

pytestmark = needs_golden

QWEN2_VL = (  # the beginning of its chat template
    "{% if loop.first and message['role'] != 'system' %}<|im_start|>system\nYou are a helpful "
    "assistant.<|im_end|>\n{% endif %}<|im_start|>{{ message['role'] }}"
)


def notes(folder: Path) -> str:
    return "\n".join(Checkpoint.open(str(folder)).notes)


@pytest.mark.parametrize("name", ["tokenizer_config.json", "chat_template.json"])
def test_another_chat_template_is_told(name: str, copy: Copy) -> None:
    folder = copy("clip")
    set_value(folder, name, "chat_template", "[INST] {{ message['content'] }} [/INST]")
    assert f"the chat template in {name} lacks '<|im_start|>' and '<|im_end|>' and" in notes(folder)
    set_value(folder, name, "chat_template", QWEN2_VL)
    assert notes(folder) == ""


@pytest.mark.parametrize(
    ("template", "told"),
    [
        (f"{QWEN2_VL}Answer in French.", "has the words Answer, French, in: ignored"),
        (QWEN2_VL + "{{ 'Be\\nbrief' }}", "has the words Be, brief"),
        (QWEN2_VL + '{{ "Denk nach" }}', "has the words Denk, nach"),
        (QWEN2_VL + 20_000 * "{%", "has more than 20,000 letters"),
        (
            QWEN2_VL + "{% if add_generation_prompt %}{# a remark #}{{ '<|im_start|>assistant' }}",
            "",
        ),
    ],
)
def test_other_words_of_a_chat_template_are_told(template: str, told: str, copy: Copy) -> None:
    folder = copy("clip")
    (folder / "chat_template.jinja").write_text(template, "utf-8")
    assert told in notes(folder)
    assert bool(told) == bool(notes(folder))


def test_another_system_prompt_is_told(copy: Copy) -> None:
    folder = copy("clip")
    other = QWEN2_VL.replace("a helpful assistant", "a pirate")
    (folder / "chat_template.jinja").write_text(other, "utf-8")
    assert "chat_template.jinja lacks 'You are a helpful assistant.'" in notes(folder)
    (folder / "chat_template.jinja").write_bytes(b"\xff\xfe")
    assert "chat_template.jinja is not text" in refused(folder)


def test_of_several_chat_templates_each_counts(copy: Copy) -> None:
    folder = copy("clip")
    templates = [{"name": "default", "template": QWEN2_VL}, {"name": "rag", "template": "[INST]"}]
    set_value(folder, "tokenizer_config.json", "chat_template", templates)
    assert "the chat template in tokenizer_config.json lacks '<|im_start|>'" in notes(folder)
    set_value(folder, "tokenizer_config.json", "chat_template", [templates[0], "x", {"name": "y"}])
    assert notes(folder) == ""
