"""How a tokenizer splits text, which must be Qwen2's.

transformers 4 splits as tokenizer.json says, transformers 5 makes Qwen2's steps anew from its words
and merges (tokenization_qwen2.py): where they differ, one checkpoint has two prompts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vpt_edge.export.config_files import is_same, read_json
from vpt_edge.runtime.errors import CheckpointError
from vpt_edge.runtime.models.qwen2_vl import SPLIT
from vpt_edge.runtime.schema import brief

# The steps of each part of the file, with the keys of a step that change ids or text.
STEPS: dict[str, list[dict[str, Any]]] = {
    "normalizer": [{"type": "NFC"}],
    "pre_tokenizer": [
        {"type": "Split", "pattern": {"Regex": SPLIT}, "behavior": "Isolated", "invert": False},
        {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False},
    ],
    "decoder": [{"type": "ByteLevel"}],
}
INNER = ("normalizers", "pretokenizers", "decoders", "processors")  # where a Sequence has its steps
MODEL: dict[str, tuple[Any, ...]] = {  # the values of its keys that are Qwen2's
    "type": ("BPE", None),
    "unk_token": (None,),
    "continuing_subword_prefix": (None, ""),
    "end_of_word_suffix": (None, ""),
    "byte_fallback": (False, None),
    "ignore_merges": (False, None),
}
FIX = (
    "versions of transformers read such a file differently: copy the tokenizer.json of the "
    "checkpoint that was trained"
)


def check_pipeline(file: Path) -> None:
    """Raise CheckpointError where the tokenizer in ``file`` splits or joins text as Qwen2's does
    not.
    """
    data = read_json(file)
    for part, expected in STEPS.items():
        steps = list(steps_of(data.get(part)))
        if not _are_alike(steps, expected):
            names = " and ".join(str(step["type"]) for step in expected)
            raise CheckpointError(
                f"{file}: {part} is {brief(steps)}, expected Qwen2's ({names})", FIX
            )
    model = data.get("model")
    assert isinstance(model, dict)  # else tokenizers would not have read it
    for key, values in MODEL.items():
        if not any(is_same(model.get(key), value) for value in values):
            raise CheckpointError(
                f"{file}: {key} of its model is {brief(model[key])}, expected {values[0]!r}", FIX
            )


def steps_of(part: Any) -> Iterator[Mapping[str, Any]]:
    """The steps of a part of the file, those of a Sequence one by one."""
    if not isinstance(part, dict):
        return
    if part.get("type") != "Sequence":
        yield part
        return
    for key in INNER:
        for step in part.get(key, []):
            yield from steps_of(step)


def _are_alike(steps: list[Mapping[str, Any]], expected: list[dict[str, Any]]) -> bool:
    if len(steps) != len(expected):
        return False
    for step, wanted in zip(steps, expected, strict=True):
        if not all(is_same(step.get(key), value) for key, value in wanted.items()):
            return False
    return True
