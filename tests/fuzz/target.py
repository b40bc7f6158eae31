"""What is attacked: something that reads bytes which are not trusted."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from vpt_edge.runtime.errors import VptError

if TYPE_CHECKING:
    from hypothesis import strategies as st

CORPUS = Path(__file__).with_name("corpus")
OUTCOMES = ("taken", "refused", "crashed")
LONGEST_ERROR = 2000  # characters: a damaged file of megabytes is not shown again
CONTROL = frozenset(map(chr, (*range(32), *range(127, 160))))


@dataclass(frozen=True)
class Target:
    """``run`` takes an input, and returns or raises VptError; ``inputs`` are damaged ones."""

    run: Callable[[bytes], object]
    inputs: Callable[[], st.SearchStrategy[bytes]]


class CrashError(Exception):
    """A native library has ended its process: it promises no better, and that is counted."""


def attempt(target: Target, data: bytes) -> str:
    """What becomes of ``data``: one of OUTCOMES."""
    try:
        target.run(data)
    except VptError as error:
        text = str(error)
        assert len(text) < LONGEST_ERROR, f"an error of {len(text)} characters"
        assert CONTROL.isdisjoint(text), f"control characters in {text!r}"
        return "refused"
    except CrashError:
        return "crashed"
    return "taken"


@cache
def root() -> Path:
    """A folder of this process."""
    return Path(tempfile.mkdtemp(prefix="fuzz-"))


def corpus(name: str) -> list[Path]:
    """The inputs that are tried first: those that once did harm."""
    return sorted((CORPUS / name).glob("*"))
