"""The tokenizer of a checkpoint, and what its other files must say of the tokens."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenizers import AddedToken, Tokenizer

from vpt_edge.export.config_fields import value_error
from vpt_edge.export.config_files import CONFIG, is_same, levels, read_optional
from vpt_edge.runtime.chat import Chat
from vpt_edge.runtime.errors import BundleError, CheckpointError
from vpt_edge.runtime.names import utf8_name
from vpt_edge.runtime.schema import brief, label

if TYPE_CHECKING:
    from vpt_edge.runtime.manifest import Tokens

TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
ADDED = "added_tokens.json"  # of older versions
SPECIAL_MAP = "special_tokens_map.json"  # of older versions
# Of an added token, that change ids or text.
FLAGS = ("special", "lstrip", "rstrip", "single_word", "normalized")
NAMED = (  # keys that name a special token, or several
    *("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"),
    *("additional_special_tokens", "extra_special_tokens"),
)
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


def check_tokens(tokenizer: Tokenizer, required: Iterable[str], kind: str, file: Path) -> None:
    """Raise CheckpointError where ``tokenizer``, read from ``file``, lacks one of the tokens that a
    checkpoint of ``kind`` has.
    """
    ids = tokenizer.get_vocab()
    absent = [name for name in required if name not in ids]
    if absent:
        raise CheckpointError(
            f"{file} lacks the tokens {', '.join(absent)}",
            f"this is not the tokenizer of a {kind} checkpoint: copy it again",
        )


def check_words(
    pads: Mapping[str, str], words: Mapping[str, int], tokens: Tokens, file: Path
) -> None:
    """Raise CheckpointError where the tokenizer in ``file`` takes apart a word by which the loop
    works, or does not decode it as it is; see ``Chat``.
    """
    try:
        Chat(file, pads).check(tokens, words)
    except BundleError as error:
        raise CheckpointError(
            f"{file}: {error.problem}",
            "this is not the tokenizer that the checkpoint was trained with: copy it again",
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
    for part in levels(config):
        _check_part(part, named, vocab_size, file)


def _check_part(
    part: Mapping[str, Any], named: Mapping[str, int], vocab_size: int, file: Path
) -> None:
    for key, value in part.items():
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
    settings = read_optional(file)
    if settings.get("add_prefix_space") not in (None, False):
        raise value_error(f"{file}: add_prefix_space", settings["add_prefix_space"], "false")
    _check_named(tokenizer, settings, file)
    listed = settings.get("added_tokens_decoder")
    if listed is None:
        _check_older(tokenizer, folder / ADDED)
        _check_named(tokenizer, read_optional(folder / SPECIAL_MAP), folder / SPECIAL_MAP)
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
        usual = flag == "normalized" and not token.special  # as tokenizers has it
        value = entry.get(flag, usual)
        expected = getattr(token, flag)
        if not is_same(value, expected):
            raise CheckpointError(
                f"{where}, {content}: {flag} is {brief(value)}, "
                f"expected {expected} as in {TOKENIZER}",
                SAVE_ALIKE,
            )


def _check_named(tokenizer: Tokenizer, settings: Mapping[str, Any], file: Path) -> None:
    """Transformers adds a token that ``settings`` name and the tokenizer lacks."""
    ids = tokenizer.get_vocab(with_added_tokens=True)
    for key in NAMED:
        for token in named_tokens(settings.get(key)):
            if token not in ids:
                raise CheckpointError(
                    f"{file}: {key} names {brief(token)}, which is not a token of {TOKENIZER}",
                    SAVE_ALIKE,
                )


def named_tokens(value: Any) -> Iterator[str]:
    """The tokens that a value of ``NAMED`` names: a text, an object with ``content``, or several
    of them.
    """
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from named_tokens(item)
    elif isinstance(value, dict) and "content" in value:
        yield from named_tokens(value["content"])
    elif isinstance(value, dict):
        yield from named_tokens(list(value.values()))


def _check_older(tokenizer: Tokenizer, file: Path) -> None:
    # tokenizers takes no text with a lone surrogate, which JSON may have as a key
    ids = tokenizer.get_vocab(with_added_tokens=True)
    for token, number in read_optional(file).items():
        if ids.get(token) != number:
            expected = f"{ids.get(token)}, as in tokenizer.json"
            raise value_error(f"{file}: {label(token)}", number, expected)
