"""The chat template of a checkpoint, held against that by which prompts are written (PROTOCOL 2).

It is read, never run: jinja is a program.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from vpt_edge.export.config_files import read_optional
from vpt_edge.export.tokenizer_files import TOKENIZER_CONFIG
from vpt_edge.runtime.errors import CheckpointError
from vpt_edge.runtime.perception.vpt import SYSTEM
from vpt_edge.runtime.schema import brief, labels

TEMPLATE = ("<|im_start|>", "<|im_end|>", SYSTEM)  # what every prompt has in it
TEMPLATE_FILES = ("chat_template.json", TOKENIZER_CONFIG)
JINJA = "chat_template.jinja"
MOST_LETTERS = 20_000  # of a template whose words are looked at: the search is quadratic at worst
TAG = re.compile(r"\{[%{#].*?[%}#]\}", re.DOTALL)
TEXT = re.compile(r"'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\"")  # in a tag
ESCAPE = re.compile(r"\\.")
WORD = re.compile(r"[^\W\d_]+")
# The words in the templates of Qwen2-VL and of the authors' trainer.
WORDS = frozenset(
    WORD.findall(
        f"{SYSTEM} im_start im_end system user assistant role content type text image images "
        "image_url video videos vision_start vision_end image_pad video_pad Picture Video"
    )
)


def template_notes(folder: Path) -> Iterator[str]:
    """A text for each chat template in ``folder`` that writes other prompts."""
    for name, template in read_templates(folder):
        problem = _problem(template)
        if problem:
            yield (
                f"the chat template in {name} {problem}: ignored, prompts are written as the "
                "authors' code does"
            )


def _problem(template: str) -> str:
    """What ``template`` has otherwise; nothing where its words are the usual ones."""
    missing = [brief(part) for part in TEMPLATE if part not in template]
    if missing:
        return f"lacks {' and '.join(missing)}"
    if len(template) > MOST_LETTERS:
        return f"has more than {MOST_LETTERS:,} letters"
    others = _words(template) - WORDS
    if others:
        return f"has the words {labels(others)}"
    return ""


def _words(template: str) -> set[str]:
    """Those that ``template`` may write: of the text around its tags, and of the texts in them."""
    written = [TAG.sub(" ", template)]
    for tag in TAG.findall(template):
        if not tag.startswith("{#"):
            written += ["".join(groups) for groups in TEXT.findall(tag)]
    return set(WORD.findall(ESCAPE.sub(" ", " ".join(written))))


def read_templates(folder: Path) -> Iterator[tuple[str, str]]:
    """The chat templates of a checkpoint, and the files in which they stand."""
    for name in TEMPLATE_FILES:
        template = read_optional(folder / name).get("chat_template")
        if isinstance(template, str):
            yield name, template
        if isinstance(template, list):  # several, each with its name
            for item in template:
                if isinstance(item, dict) and isinstance(item.get("template"), str):
                    yield name, item["template"]
    file = folder / JINJA
    if file.is_file():
        yield JINJA, _read_text(file)


def _read_text(file: Path) -> str:
    try:
        with file.open(encoding="utf-8") as opened:
            return opened.read(MOST_LETTERS + 1)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file} is not text ({error})", "copy it again") from error
