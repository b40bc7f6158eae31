"""A Python of its own for what may crash, which imports nothing from the working folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path

# -c puts the working folder in front, as an empty entry, unless Python is told not to: since 3.11.
CLEAN = "import sys; sys.path[:] = [entry for entry in sys.path if entry]; "


def child_command(code: str) -> list[str]:
    """The command that runs ``code``; ``child_environment`` belongs to it."""
    return [sys.executable, "-c", CLEAN + code]


def child_environment() -> dict[str, str]:
    """This process's environment, without what would put the working folder on the path."""
    environment = {**os.environ, "PYTHONSAFEPATH": "1"}
    entries = foreign_entries(environment.pop("PYTHONPATH", "").split(os.pathsep))
    if entries:
        environment["PYTHONPATH"] = os.pathsep.join(entries)
    return environment


def foreign_entries(path: Iterable[str]) -> list[str]:
    """The entries of a path for modules that are not the working folder."""
    here = Path.cwd().resolve()
    return [entry for entry in path if entry and Path(entry).resolve() != here]
