"""What a checkpoint's chat template says of thoughts and of a system message, and what is asked."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from chat_templates import QWEN2, QWEN3, SYSTEM
from descriptions import rules_of, written

from vpt_edge.export.described import choose_block, find_system, find_thoughts
from vpt_edge.runtime.errors import CheckpointError
from vpt_edge.runtime.perception.none import NoneConfig
from vpt_edge.runtime.perception.none import block as none_block
from vpt_edge.runtime.perception.rules import block
from vpt_edge.runtime.perception.thoughts import Thoughts

if TYPE_CHECKING:
    from pathlib import Path

PROMPT = "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n"
INSTRUCT = f"{{{{ content }}}}{PROMPT}' }}}}{{% endif %}}"
HYBRID = f"{{{{ content.split('</think>') }}}}{PROMPT}<think>\\n\\n</think>\\n' }}}}{{% endif %}}"
THINKING = f"{{{{ content.split('</think>') }}}}{PROMPT}<think>\\n' }}}}{{% endif %}}"
OPENED = f"{PROMPT}<think>\\n' }}}}{{% endif %}}"
PLACES = ["chat_template.jinja", "chat_template.json", "tokenizer_config.json"]


def put(folder: Path, template: str, name: str = "chat_template.jinja") -> Path:
    text = template
    if name.endswith(".json"):
        text = json.dumps({"chat_template": template})
    (folder / name).write_text(text, "utf-8")
    return folder


@pytest.mark.parametrize("name", PLACES)
@pytest.mark.parametrize(
    ("template", "thoughts"),
    [
        (INSTRUCT, None),
        (HYBRID, Thoughts("<think>", "</think>", prompted=False)),
        (THINKING, Thoughts("<think>", "</think>", prompted=True)),
        (OPENED, Thoughts("<think>", "</think>", prompted=True)),
    ],
)
def test_the_template_says_how_the_model_thinks(
    name: str, template: str, thoughts: Thoughts | None, tmp_path: Path
) -> None:
    assert find_thoughts(put(tmp_path, template, name)) == thoughts


def test_a_checkpoint_without_a_template_is_its_family_s(tmp_path: Path) -> None:
    assert find_thoughts(tmp_path) is None
    towers = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
    assert [find_system(tmp_path, tower) for tower in towers] == [SYSTEM, SYSTEM, None]


@pytest.mark.parametrize("tower", ["qwen2_vl", "qwen3_vl"])
def test_the_template_says_how_prompts_begin(tower: str, tmp_path: Path) -> None:
    assert find_system(put(tmp_path, f"{SYSTEM}{QWEN2}"), tower) == SYSTEM
    assert find_system(put(tmp_path, QWEN3), tower) is None


@pytest.mark.parametrize("asked", [None, "none"])
def test_a_plain_model_has_what_its_template_has(asked: str | None, tmp_path: Path) -> None:
    put(tmp_path, f"{SYSTEM}{THINKING}")
    thoughts = Thoughts("<think>", "</think>", prompted=True)
    config = NoneConfig(SYSTEM, thoughts)
    assert choose_block(asked, tmp_path, "qwen2_vl") == none_block(config)


def test_a_shipped_description_thinks_as_the_checkpoint_does(tmp_path: Path) -> None:
    instruct = choose_block("qwen3-vl-zoom", put(tmp_path, INSTRUCT), "qwen3_vl")
    assert instruct == block(rules_of({}))
    thinking = choose_block("qwen3-vl-zoom", put(tmp_path, THINKING), "qwen3_vl")
    marks = {"opening": "<think>", "closing": "</think>", "prompted": True}
    assert thinking == block(rules_of({"turn.thoughts": marks}))


def test_a_file_stays_as_it_is(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"turn.thoughts": None, "rounds": 2}
    file = written(changes, tmp_path)
    chosen = choose_block(str(file), put(tmp_path, THINKING), "qwen3_vl")
    assert chosen == block(rules_of(changes))


@pytest.mark.parametrize("asked", ["zoom", "vpt", "", "/"])
def test_an_unknown_description_is_refused(asked: str, tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"^there is no description .*or one of: none, qwen3-vl"
    ):
        choose_block(asked, tmp_path, "qwen3_vl")
