"""The tokenizer of a checkpoint, and what its other files must say of the tokens."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from vpt_edge.export.config_fields import value_error
from vpt_edge.export.config_files import CONFIG
from vpt_edge.runtime.errors import CheckpointError

TOKENIZER = "tokenizer.json"
ID_KEYS = ("_token_id", "_action_id", "_action_start_id")  # how keys of config.json end
PAD = "pad_token_id"  # -1 where there is none


def open_tokenizer(file: Path) -> Tokenizer:
    """The tokenizer in ``file``. Raises CheckpointError where there is none."""
    if not file.exists():
        raise CheckpointError(
            f"{file} is missing", "save it from Qwen2TokenizerFast into the checkpoint's folder"
        )
    try:
        return Tokenizer.from_file(str(file))
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
            f"{file} has the token {token!r} of id {ids[token]}, "
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
