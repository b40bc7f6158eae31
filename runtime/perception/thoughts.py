"""What a thinking model says to itself before it speaks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, TypeAlias

from vpt_edge.runtime.schema import Pattern

Tag: TypeAlias = Annotated[str, Pattern("a text of 1 to 64 characters", r"[^\ud800-\udfff]{1,64}")]


@dataclass(frozen=True)
class Thoughts:
    """The tags around thoughts, such as ``<think>`` and ``</think>``.

    ``prompted``: whether the template itself opens them, and a newline behind, in every turn of the
    assistant.
    """

    opening: Tag
    closing: Tag
    prompted: bool


def tags_of(thoughts: Thoughts | None) -> tuple[str, str] | None:
    """The opening tag and the closing one."""
    if thoughts is None:
        return None
    return thoughts.opening, thoughts.closing


def prefix_of(thoughts: Thoughts | None) -> str:
    """What every turn of the assistant begins with."""
    if thoughts is None or not thoughts.prompted:
        return ""
    return f"{thoughts.opening}\n"


def split(text: str, marks: Thoughts | None) -> tuple[str | None, str]:
    """The thoughts in ``text``, None where there are none, and the rest.

    Those that are not closed reach to the end of the text.
    """
    if marks is None:
        return None, text
    thoughts = list[str]()
    rest = list[str]()
    position = 0
    if marks.prompted and not text.startswith(marks.opening):
        thought, position = _read(text, 0, marks.closing)
        thoughts.append(thought)
    while (start := text.find(marks.opening, position)) >= 0:
        rest.append(text[position:start])
        thought, position = _read(text, start + len(marks.opening), marks.closing)
        thoughts.append(thought)
    rest.append(text[position:])
    if not thoughts:
        return None, text
    return "\n".join(thoughts), "".join(rest)


def _read(text: str, start: int, closing: str) -> tuple[str, int]:
    """The thought that begins at ``start``, and where what follows it begins."""
    end = text.find(closing, start)
    if end < 0:
        return text[start:].strip(), len(text)
    return text[start:end].strip(), end + len(closing)
