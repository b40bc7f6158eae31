"""The tokenizer of a checkpoint, and what its other files must say of the tokens."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer

from vpt_edge.export.config_fields import value_error
from vpt_edge.export.config_files import CONFIG, is_same, read_optional
from vpt_edge.runtime.errors import CheckpointError
from vpt_edge.runtime.names import utf8_name
from vpt_edge.runtime.schema import brief, label

TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
ADDED = "added_tokens.json"  # of older versions
FLAGS = ("special", "lstrip", "rstrip", "single_word")  # of an added token, that change ids or text
SAVE_ALIKE = "let transformers write both: AutoTokenizer.from_pretrained(X).save_pretrained(X)"
ID_KEYS = ("_token_id", "_action_id", "_action_start_id")  # how keys of config.json end
PAD = "pad_token_id"  # -1 where there is none


def open_tokenizer(file: Path) -> Tokenizer:
    """The tokenizer in ``file``. Raises CheckpointError where there is none."""
    if not file.exists():
        raise CheckpointError(
            f"{file} is missing", "save it from Qwen2TokenizerFast into the checkpoint's folder"
        )
    try:
        with utf8_name(file) as name:
            return Tokenizer.from_file(name)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # bare exceptions, and panics, which are no Exception
        raise CheckpointError(
            f"{file} is not a tokenizer ({error})", "download or copy it again"
        ) from error


def check_vocabulary(ids: Mapping[str, int], vocab_size: int, file: Path) -> None:
    """Raise CheckpointError where a token of ``file`` has no row in the embedding table."""
    beyond = sorted(token for token, number in ids.items() if number >= vocab_size)
    if beyond:
        token = beyond[0]
        raise CheckpointError(
            f"{file} has the token {label(token)} of id {ids[token]}, "
            f"but {CONFIG} a vocab_size of {vocab_size}",
            "copy both again",
        )


def check_ids(
    config: Mapping[str, Any], named: Mapping[str, int], vocab_size: int, file: Path
) -> None:
    """Raise CheckpointError where an id in ``config``, read from ``file``, is not that of a token.

    ``named`` has the ids that the tokenizer gives to what a key of ``config`` stands for.
    """
    for key, value in config.items():
        if key in named and value is not None and value != named[key]:
            expected = f"{named[key]}, as tokenizer.json has it"
            raise value_error(f"{file}: {key}", value, expected)
        items = _items(value) if key.endswith(ID_KEYS) and key != PAD else []
        if not all(_is_id(item, vocab_size) for item in items):
            expected = f"ids from 0 to {vocab_size - 1}"
            raise value_error(f"{file}: {key}", value, expected)


def _items(value: Any) -> list[Any]:
    """The ids of a key: one, some, or none."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _is_id(value: Any, vocab_size: int) -> bool:
    return type(value) is int and 0 <= value < vocab_size


def check_added_tokens(tokenizer: Tokenizer, folder: Path) -> None:
    """Raise CheckpointError where a file beside it has a token with another id or other flags than
    ``tokenizer``, or alone: transformers would heed it.
    """
    file = folder / TOKENIZER_CONFIG
    listed = read_optional(file).get("added_tokens_decoder")
    if listed is None:
        _check_older(tokenizer, folder / ADDED)
        return
    if not isinstance(listed, dict):
        raise value_error(f"{file}: added_tokens_decoder", listed, "an object")
    known = tokenizer.get_added_tokens_decoder()
    for key, entry in listed.items():
        if not isinstance(entry, dict) or not re.fullmatch(r"\d{1,9}", key):
            raise value_error(
                f"{file}: added_tokens_decoder: {label(key)}", entry, "an object by id"
            )
        _check_token(entry, known.get(int(key)), f"{file}: token {key}")


def _check_token(entry: Mapping[str, Any], token: AddedToken | None, where: str) -> None:
    content = entry.get("content")
    if token is None or content != token.content:
        known = "none" if token is None else repr(token.content)
        raise CheckpointError(
            f"{where} is {brief(content)}, expected {known} as in {TOKENIZER}", SAVE_ALIKE
        )
    for flag in FLAGS:
        value = entry.get(flag, False)
        expected = getattr(token, flag)
        if not is_same(value, expected):
            raise CheckpointError(
                f"{where}, {content}: {flag} is {brief(value)}, "
                f"expected {expected} as in {TOKENIZER}",
                SAVE_ALIKE,
            )


def _check_older(tokenizer: Tokenizer, file: Path) -> None:
    # tokenizers takes no text with a lone surrogate, which JSON may have as a key
    ids = tokenizer.get_vocab(with_added_tokens=True)
    for token, number in read_optional(file).items():
        if ids.get(token) != number:
            expected = f"{ids.get(token)}, as in tokenizer.json"
            raise value_error(f"{file}: {label(token)}", number, expected)
