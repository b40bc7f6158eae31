"""What a watch asked and was told, kept so that another bundle can be asked the same."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from vpt_edge.runtime.errors import VptError
from vpt_edge.runtime.options import Options
from vpt_edge.runtime.schema import brief, parse_json

if TYPE_CHECKING:
    from vpt_edge.runtime.options import AskOptions

LINES = "recording.jsonl"
PICTURE = re.compile(r"(\d{6,})\.png")
KEYS: dict[str, type] = {  # of a line, as far as it is read
    "image": str,
    "source": str,
    "question": str,
    "answer": str,
    "options": dict,
    "looks": list,
    "turns": list,
}


@dataclass(frozen=True)
class Record:
    """A question of a recording about its picture ``image``, and what was answered.

    ``looks`` are boxes and kinds as ``Looked.to_dict`` has them, ``ids`` those that were generated,
    a turn each; ``truth`` is the right answer where the source knew it.
    """

    image: Path
    source: str
    question: str
    options: AskOptions
    answer: str
    looks: list[Any]
    ids: list[list[int]]
    truth: str | None


def read_recording(folder: str | os.PathLike[str]) -> Iterator[Record]:
    """The records of ``folder`` in order; half a last line is of a watch that was killed.

    Raises VptError where there is no recording, and for a line that is not of one.
    """
    path = Path(folder) / LINES
    try:
        lines = path.open("rb")
    except OSError as error:
        problem = f"{folder} is not a recording: {LINES}: {error.strerror}"
        raise VptError(problem, "make one: vpt-watch … --record DIR") from error
    with lines:
        for number, line in enumerate(lines, 1):
            if line.endswith(b"\n"):
                yield _read_record(line, f"{path}:{number}", path.parent)


def _read_record(line: bytes, where: str, folder: Path) -> Record:
    data = _parse(line, where)
    name = data["image"]
    if PICTURE.fullmatch(name) is None:
        raise VptError(f"{where}: image is {brief(name)}, expected a name such as 000000.png")
    options = cast("AskOptions", data["options"])
    try:
        Options(**options)
    except TypeError:
        known = ", ".join(Options.__dataclass_fields__)
        raise VptError(f"{where}: options are {brief(options)}, expected some of {known}") from None
    truth = data.get("truth")
    if truth is not None and not isinstance(truth, str):
        raise VptError(f"{where}: truth is {brief(truth)}, expected a text")
    return Record(
        image=folder / name,
        source=data["source"],
        question=data["question"],
        options=options,
        answer=data["answer"],
        looks=data["looks"],
        ids=[_ids(turn, where) for turn in data["turns"]],
        truth=truth,
    )


def _parse(line: bytes, where: str) -> Mapping[str, Any]:
    try:
        data = parse_json(line)
    except ValueError as error:
        raise VptError(f"{where} is not JSON: {error}", "take the line away") from error
    for key, kind in KEYS.items():
        value = data.get(key) if isinstance(data, dict) else None
        if not isinstance(value, kind):
            problem = f"{where} is not a line of a recording: {key} is {brief(value)}"
            raise VptError(problem, "take the line away")
    return cast("Mapping[str, Any]", data)


def _ids(turn: Any, where: str) -> list[int]:
    ids = turn.get("generated_ids") if isinstance(turn, dict) else None
    if not isinstance(ids, list):
        raise VptError(f"{where}: a turn is {brief(turn)}, expected an object with generated_ids")
    return ids
