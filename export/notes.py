"""What a checkpoint's files say of answers that neither the authors' code nor the runtime heeds: an
export tells it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vpt_edge.export.config_files import is_same, read_json, read_optional
from vpt_edge.export.tokenizer_files import TOKENIZER, TOKENIZER_CONFIG
from vpt_edge.runtime.errors import CheckpointError
from vpt_edge.runtime.perception.vpt import SYSTEM
from vpt_edge.runtime.schema import brief

if TYPE_CHECKING:
    from vpt_edge.runtime.manifest import Tokens

GENERATION = "generation_config.json"
TEMPLATE = ("<|im_start|>", "<|im_end|>", SYSTEM)  # what every prompt has in it
TEMPLATE_FILES = ("chat_template.json", TOKENIZER_CONFIG)
JINJA = "chat_template.jinja"
PADDING = "<|endoftext|>"
NEUTRAL = {  # settings that change what is likeliest, at the values that change nothing
    "repetition_penalty": 1.0,
    "encoder_repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "num_beams": 1,
    "min_length": 0,
    "min_new_tokens": 0,
    "bad_words_ids": [],
    "suppress_tokens": [],
    "begin_suppress_tokens": [],
    "sequence_bias": {},
    "forced_bos_token_id": [],
    "forced_eos_token_id": [],
}


def find_notes(folder: Path, ids: Mapping[str, int], tokens: Tokens) -> tuple[str, ...]:
    """One text for each such setting of the files in ``folder``.

    ``ids`` of the tokenizer; ``tokens`` are those that the manifest has. Raises CheckpointError for
    files that cannot be read.
    """
    settings = read_optional(folder / TOKENIZER_CONFIG)
    return (
        *_tokenizer_notes(folder),
        *_decoding_notes(settings, ids, tokens),
        *_template_notes(folder),
        *_generation_notes(folder, ids, tokens),
    )


def _tokenizer_notes(folder: Path) -> Iterator[str]:
    data = read_json(folder / TOKENIZER)
    names = [name for name in ("truncation", "padding") if data.get(name) is not None]
    if names:
        settings = " and ".join(names)
        yield f"the checkpoint's {TOKENIZER} carries {settings}: ignored, as transformers does"
    model = data.get("model")
    if isinstance(model, dict) and model.get("dropout"):
        yield (
            f"the checkpoint's {TOKENIZER} carries a dropout of {brief(model['dropout'])}: "
            "ignored, with it the ids of a prompt would be random"
        )


def _decoding_notes(
    settings: Mapping[str, Any], ids: Mapping[str, int], tokens: Tokens
) -> Iterator[str]:
    if settings.get("clean_up_tokenization_spaces") is True:
        yield (
            f"{TOKENIZER_CONFIG} asks for clean_up_tokenization_spaces: ignored, answers have the "
            "spaces that the model wrote"
        )
    special = settings.get("additional_special_tokens")
    if isinstance(special, list) and special:
        names = {ids[token] for token in special if isinstance(token, str) and token in ids}
        differing = names.symmetric_difference(tokens.end) - {ids.get(PADDING)}
        if differing:
            listed = ", ".join(_words(differing, ids))
            yield (
                f"additional_special_tokens of {TOKENIZER_CONFIG} and the special tokens of "
                f"{TOKENIZER} differ by {listed}: the latter end a turn"
            )


def _words(numbers: set[int], ids: Mapping[str, int]) -> list[str]:
    return sorted(token for token, number in ids.items() if number in numbers)


def _template_notes(folder: Path) -> Iterator[str]:
    for name, template in _templates(folder):
        missing = [brief(part) for part in TEMPLATE if part not in template]
        if missing:
            yield (
                f"the chat template in {name} lacks {' and '.join(missing)}: ignored, prompts are "
                "written as the authors' code does"
            )


def _templates(folder: Path) -> Iterator[tuple[str, str]]:
    """The chat templates of a checkpoint, and the files in which they stand."""
    for name in TEMPLATE_FILES:
        template = read_optional(folder / name).get("chat_template")
        if isinstance(template, str):
            yield name, template
    file = folder / JINJA
    if file.is_file():
        yield JINJA, _read_text(file)


def _read_text(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file} is not text ({error})", "copy it again") from error


def _generation_notes(folder: Path, ids: Mapping[str, int], tokens: Tokens) -> Iterator[str]:
    settings = read_optional(folder / GENERATION)
    for key, neutral in NEUTRAL.items():
        value = settings.get(key)
        if value is not None and not is_same(value, neutral):
            yield (
                f"{GENERATION} asks for {key} {brief(value)}: ignored, as the authors' code "
                "does; answers take the likeliest token"
            )
    ends = settings.get("eos_token_id")
    listed = ends if isinstance(ends, list) else [ends]
    numbers = {end for end in listed if type(end) is int}
    if numbers and not numbers <= {*tokens.end, ids.get(PADDING)}:
        yield (
            f"{GENERATION} ends an answer with the ids {sorted(numbers)}: ignored, it ends with "
            "<|im_end|> and every other special token"
        )
