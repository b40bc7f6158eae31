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
