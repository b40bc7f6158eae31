"""The layouts in which versions of transformers save Qwen2-VL.

Up to 4.51 a config is flat, and tensors have the names of PROTOCOL 6. From 4.52 on the language
model's part may stand in ``text_config``, alone or once more, and tensors one level deeper.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vpt_edge.export.config_fields import value_error
from vpt_edge.export.config_files import is_same
from vpt_edge.runtime.errors import CheckpointError
from vpt_edge.runtime.schema import brief

TEXT = "text_config"
DEEPER = {"model.language_model.": "model.", "model.visual.": "visual."}


def text_levels(config: Mapping[str, Any], file: Path) -> list[Mapping[str, Any]]:
    """The objects in which ``config``, read from ``file``, describes the language model."""
    inner = config.get(TEXT)
    if inner is None:
        return [config]
    if not isinstance(inner, dict):
        raise value_error(f"{file}: {TEXT}", inner, "an object")
    return [config, inner]


def merge(values: dict[str, Any], more: Mapping[str, Any], file: Path) -> None:
    """Add ``more`` to ``values``. Raises CheckpointError where one of them is there with another
    value: versions of transformers would take one or the other.
    """
    for key, value in more.items():
        if key in values and not _is_equal(value, values[key]):
            raise CheckpointError(
                f"{file}: {key} is {brief(values[key])} and {brief(value)}, expected one value",
                "correct it, or save the checkpoint again with the version that trained it",
            )
        values[key] = value


def _is_equal(value: Any, other: Any) -> bool:
    return is_same(value, other) or is_same(other, value)


def original_name(name: str) -> str:
    """A tensor of the file by the name that PROTOCOL 6 has for it."""
    for prefix, original in DEEPER.items():
        if name.startswith(prefix):
            return original + name.removeprefix(prefix)
    return name
