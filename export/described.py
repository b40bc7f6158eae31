"""The block of a way of looking that is not VPT's: what was asked for, and what the checkpoint's
chat template has of its own.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vpt_edge.export.chat_template import read_templates
from vpt_edge.runtime.perception.description import find_rules, shipped_names
from vpt_edge.runtime.perception.none import NoneConfig
from vpt_edge.runtime.perception.none import block as none_block
from vpt_edge.runtime.perception.rules import block
from vpt_edge.runtime.perception.thoughts import Thoughts
from vpt_edge.runtime.perception.vpt import SYSTEM

if TYPE_CHECKING:
    from vpt_edge.runtime.perception.rules import Rules

NONE = "none"
SYSTEMS = {"qwen2_vl": SYSTEM, "qwen2_5_vl": SYSTEM}  # by tower, where no template is there
THINK = ("<think>", "</think>")
PROMPT = "add_generation_prompt"  # in a template, where the assistant is to speak


def choose_block(asked: str | None, folder: Path, tower: str) -> dict[str, Any]:
    """The manifest's block ``perception`` of a checkpoint in ``folder`` with this ``tower``.

    ``asked``: "none" or None for a model that never looks, a description that is shipped, or a
    file. Raises CheckpointError for a description that cannot be read.
    """
    thoughts = find_thoughts(folder)
    if asked in (None, NONE):
        return none_block(NoneConfig(find_system(folder, tower), thoughts))
    assert asked is not None
    rules = find_rules(asked)
    if asked in shipped_names() and thoughts is not None:
        rules = _with_thoughts(rules, thoughts)
    return block(rules)


def _with_thoughts(rules: Rules, thoughts: Thoughts) -> Rules:
    return replace(rules, turn=replace(rules.turn, thoughts=thoughts))


def find_system(folder: Path, tower: str) -> str | None:
    """The system message with which prompts begin where nothing is said; None: there is none."""
    templates = [template for _, template in read_templates(folder)]
    if not templates:
        return SYSTEMS.get(tower)
    if any(SYSTEM in template for template in templates):
        return SYSTEM
    return None


def find_thoughts(folder: Path) -> Thoughts | None:
    """How the chat template marks thoughts; None: it knows of none."""
    templates = [template for _, template in read_templates(folder)]
    opens = any(map(_opens_thoughts, templates))
    if opens or any(THINK[1] in template for template in templates):
        return Thoughts(*THINK, prompted=opens)
    return None


def _opens_thoughts(template: str) -> bool:
    """Whether the prompt for the assistant ends within thoughts: one that closes them does not."""
    _, found, prompt = template.rpartition(PROMPT)
    return bool(found) and THINK[0] in prompt and THINK[1] not in prompt
