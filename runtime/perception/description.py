"""Opens the description of a perception that speaks in text: one that is shipped, or a file."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vpt_edge.runtime.errors import BundleError, CheckpointError
from vpt_edge.runtime.perception.consistency import check_rules
from vpt_edge.runtime.perception.rules import Rules
from vpt_edge.runtime.schema import brief, label, labels, read_as

if TYPE_CHECKING:
    from collections.abc import Sequence

FOLDER = Path(__file__).parent / "descriptions"
MOST_BYTES = 1 << 20
FIX = "docs/perceptions.md says what each key means"


def shipped_names() -> list[str]:
    """The descriptions that are shipped, by name."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def find_rules(name: str) -> Rules:
    """The rules of a shipped description, or of the file ``name``. Raises CheckpointError."""
    if name in shipped_names():
        return read_rules(FOLDER / f"{name}.json")
    path = Path(name)
    if not path.is_file():
        known = ", ".join(["none", *shipped_names()])
        problem = f"there is no description {brief(name)}: expected a file, or one of: {known}"
        raise CheckpointError(problem, FIX)
    return read_rules(path)


def read_rules(path: Path) -> Rules:
    """The rules in the file ``path``.

    Raises CheckpointError for what is not strict JSON, unknown and missing keys, values of another
    type or out of range, and rules that contradict each other.
    """
    data = _read_json(path)
    try:
        rules = read_as(Rules, data, str(path))
        check_rules(rules, str(path))
    except BundleError as error:
        raise CheckpointError(error.problem, FIX) from None
    return rules


def _read_json(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    if len(data) > MOST_BYTES:
        raise CheckpointError(f"{path} has more than {MOST_BYTES >> 20} MiB", FIX)
    try:
        return json.loads(data, object_pairs_hook=_unique, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not JSON ({error})", FIX) from None


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """The object of ``pairs``. Raises ValueError where a key stands twice."""
    values = dict(pairs)
    if len(values) != len(pairs):
        counts = Counter(name for name, _ in pairs)
        twice = [name for name, count in counts.items() if count > 1]
        raise ValueError(f"an object has twice: {labels(twice)}")
    return values


def _refuse(constant: str) -> Any:
    raise ValueError(f"{label(constant)} is not a number of JSON")
