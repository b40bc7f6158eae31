"""What a checkpoint's files say of answers that neither the authors' code nor the runtime heeds: an
export tells it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vpt_edge.export.chat_template import template_notes
from vpt_edge.export.config_files import CONFIG, is_same, levels, read_json, read_optional
from vpt_edge.export.foreign_files import WEIGHTS
from vpt_edge.export.tokenizer_files import TOKENIZER, TOKENIZER_CONFIG, named_tokens
from vpt_edge.export.tokenizer_pipeline import steps_of
from vpt_edge.runtime.errors import CheckpointError
from vpt_edge.runtime.perception.vpt import KINDS, REGION_TOKENS, action_tokens, pads_of
from vpt_edge.runtime.schema import brief, labels

if TYPE_CHECKING:
    from vpt_edge.runtime.manifest import Tokens

VOCABULARY = "vocab.json"
GENERATION = "generation_config.json"
PADDING = "<|endoftext|>"
NEUTRAL = {  # settings that change what is likeliest, at the values that change nothing
    "repetition_penalty": 1.0,
    "encoder_repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "encoder_no_repeat_ngram_size": 0,
    "num_beams": 1,
    "num_beam_groups": 1,
    "guidance_scale": 1.0,
    "penalty_alpha": 0.0,
    "min_length": 0,
    "min_new_tokens": 0,
    "bad_words_ids": [],
    "force_words_ids": [],
    "constraints": [],
    "suppress_tokens": [],
    "begin_suppress_tokens": [],
    "sequence_bias": {},
    "forced_bos_token_id": [],
    "forced_eos_token_id": [],
    "forced_decoder_ids": [],
    "exponential_decay_length_penalty": [],
    "stop_strings": [],
    "dola_layers": [],
    "watermarking_config": {},
}
OWN_WAY = "prompts are written as the authors' code does"
QUIET = (None, False)
# Of tokenizer_config.json, what a version of transformers heeds and the authors' code does not: the
# values that ask for nothing, and what is done instead.
SETTINGS: dict[str, tuple[tuple[Any, ...], str]] = {
    "clean_up_tokenization_spaces": (QUIET, "answers have the spaces that the model wrote"),
    "split_special_tokens": (QUIET, OWN_WAY),
    "add_bos_token": (QUIET, OWN_WAY),
    "add_eos_token": (QUIET, OWN_WAY),
    "eos_token": ((None, "<|im_end|>", PADDING), "a turn ends with <|im_end|>"),
}
SPECIAL = ("additional_special_tokens", "extra_special_tokens")  # the newer name
# Keys of config.json that name a token by its id and are not read: the authors' loader asks the
# tokenizer (PROTOCOL 1.4).
UNREAD_IDS = {
    "video_token_id": "<|video_pad|>",
    "vision_end_token_id": "<|vision_end|>",
    "vision_token_id": "<|vision_pad|>",
    "para_start_id": "<|im_start|>",
    "para_end_id": "<|im_end|>",
}
for _kind in KINDS:
    UNREAD_IDS[f"{_kind}_image_token_id"] = pads_of(_kind)[f"{_kind}_image"]
    UNREAD_IDS[f"{_kind}_action_start_id"] = action_tokens(_kind)[0]
    UNREAD_IDS[f"{_kind}_action_id"] = action_tokens(_kind)[1]


def find_notes(
    folder: Path, ids: Mapping[str, int], tokens: Tokens, *, is_vpt: bool = True
) -> tuple[str, ...]:
    """One text for each such setting of the files in ``folder``.

    ``ids`` of the tokenizer; ``tokens`` are those that the manifest has. ``is_vpt``: whether the
    authors' code of VPT says how prompts are written, and what ends a turn; else the family does.
    Raises CheckpointError for files that cannot be read.
    """
    settings = read_optional(folder / TOKENIZER_CONFIG)
    notes = [
        *_tokenizer_notes(folder),
        *_setting_notes(settings),
        *_added_notes(folder, settings),
        *_word_notes(folder),
        *_weight_notes(folder),
        *_generation_notes(GENERATION, read_optional(folder / GENERATION), ids, tokens),
    ]
    if is_vpt:
        notes += [*_special_notes(settings, ids, tokens), *template_notes(folder)]
    for part in levels(read_json(folder / CONFIG)):
        notes += _generation_notes(CONFIG, part, ids, tokens)
        notes += _id_notes(part, ids)
        notes += _part_notes(part, ids)
    return tuple(dict.fromkeys(notes))


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
    for step in steps_of(data.get("post_processor")):
        if step.get("type") != "ByteLevel" and step.get("special_tokens") != {}:
            yield (
                f"the checkpoint's {TOKENIZER} adds tokens around a text "
                f"({brief(step.get('type'))}): ignored, {OWN_WAY}"
            )


def _setting_notes(settings: Mapping[str, Any]) -> Iterator[str]:
    for key, (quiet, instead) in SETTINGS.items():
        value = settings.get(key)
        if isinstance(value, dict):  # an added token with its flags
            value = next(named_tokens(value), None)
        if not any(is_same(value, other) for other in quiet):
            said = key if value is True else f"{key} {brief(value)}"
            yield f"{TOKENIZER_CONFIG} asks for {said}: ignored, {instead}"


def _added_notes(folder: Path, settings: Mapping[str, Any]) -> Iterator[str]:
    listed = settings.get("added_tokens_decoder")
    if listed is None:
        return
    added = read_json(folder / TOKENIZER).get("added_tokens", [])
    tokens = {token["content"] for token in added}
    alone = tokens.difference(named_tokens(listed))
    if alone:
        yield (
            f"{TOKENIZER} has tokens that {TOKENIZER_CONFIG} lacks ({labels(alone)}): they count, "
            "as in transformers 4; transformers 5 leaves them out"
        )


def _special_notes(
    settings: Mapping[str, Any], ids: Mapping[str, int], tokens: Tokens
) -> Iterator[str]:
    for key in SPECIAL:
        names = {ids[token] for token in named_tokens(settings.get(key)) if token in ids}
        differing = names.symmetric_difference(tokens.end) - {ids.get(PADDING)}
        if names and differing:
            listed = ", ".join(_words(differing, ids))
            yield (
                f"{key} of {TOKENIZER_CONFIG} and the special tokens of {TOKENIZER} differ by "
                f"{listed}: the latter end a turn"
            )


def _words(numbers: set[int], ids: Mapping[str, int]) -> list[str]:
    return sorted(token for token, number in ids.items() if number in numbers)


def _word_notes(folder: Path) -> Iterator[str]:
    """A slow tokenizer reads the older files, a fast one does not."""
    file = folder / VOCABULARY
    try:
        older = read_optional(file)
    except CheckpointError:
        yield f"the checkpoint's {VOCABULARY} cannot be read: {TOKENIZER} counts"
        return
    model = read_json(folder / TOKENIZER)["model"]
    if older and older != model["vocab"]:
        yield f"the checkpoint's {VOCABULARY} and {TOKENIZER} have other words: the latter counts"


def _weight_notes(folder: Path) -> Iterator[str]:
    forms = []
    for name in WEIGHTS:
        if (folder / name).exists() or (folder / f"{name}.index.json").exists():
            forms.append(name)
    if len(forms) > 1:
        yield f"the checkpoint holds {' and '.join(forms)}: the former counts, as in transformers"


def _generation_notes(
    file: str, settings: Mapping[str, Any], ids: Mapping[str, int], tokens: Tokens
) -> Iterator[str]:
    for key, neutral in NEUTRAL.items():
        value = settings.get(key)
        if not any(is_same(value, quiet) for quiet in (*QUIET, neutral)):
            yield (
                f"{file} asks for {key} {brief(value)}: ignored, answers take the likeliest token"
            )
    ends = settings.get("eos_token_id")
    listed = ends if isinstance(ends, list) else [ends]
    numbers = {end for end in listed if type(end) is int}
    if numbers and not numbers <= {*tokens.end, ids.get(PADDING)}:
        yield (
            f"{file} ends an answer with the ids {sorted(numbers)}: ignored, it ends with "
            "<|im_end|> and every other special token"
        )


def _part_notes(config: Mapping[str, Any], ids: Mapping[str, int]) -> Iterator[str]:
    if config.get("auto_map"):
        yield f"{CONFIG} names code of its own (auto_map): not run"
    looks = REGION_TOKENS[0] in ids
    if config.get("alignment") is looks:
        has = "has" if looks else "lacks"
        yield (
            f"{CONFIG} has alignment {brief(looks)}, but {TOKENIZER} {has} the tokens that ask "
            "for a look: the latter counts"
        )


def _id_notes(config: Mapping[str, Any], ids: Mapping[str, int]) -> Iterator[str]:
    for key, token in UNREAD_IDS.items():
        value = config.get(key)
        if value is not None and value != ids.get(token):
            yield (
                f"{CONFIG} has the {key} {brief(value)}, {TOKENIZER} {token} as "
                f"{ids.get(token)}: the latter counts"
            )
