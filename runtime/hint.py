"""What an application should know, said as a warning at its own line."""

from __future__ import annotations

import inspect
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from types import FrameType


def give_hint(text: str) -> None:
    """Warn with ``text``; Python shows it once for each line that calls."""
    warnings.warn(text, stacklevel=_caller_level(inspect.currentframe()))


def hint_at_sampling(recommended: Mapping[str, float], given: Collection[str]) -> str | None:
    """What an application should know that has ``given`` options, none of the ``recommended``."""
    if not recommended or set(recommended) & set(given):
        return None
    words = ", ".join(f"{name}={value}" for name, value in recommended.items())
    return f"the likeliest token is taken; the model's makers recommend {words}"


def _caller_level(frame: FrameType | None) -> int:
    """The level, from ``frame`` on, of the first frame that is the application's."""
    level = 1
    ours = __name__.partition(".")[0]
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == ours:
        level += 1
        frame = frame.f_back
    return level
