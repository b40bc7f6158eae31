"""What drafts save on one machine: the same question with and without them, in turn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from vpt_edge.runtime.pipeline import Pipeline
    from vpt_edge.runtime.result import Answer


class Run(Protocol):
    """What asking once gives."""

    @property
    def answer(self) -> Answer: ...


@dataclass(frozen=True)
class Drafts:
    """Of answers with drafts of ``most`` tokens: how many tokens of one answer were ``drafted``,
    how many of these were ``accepted``, and how many it has, ``generated``.

    ``decode``: the time that decoding takes with drafts over that without, the median of the pairs;
    None where nothing is decoded. ``equal``: whether both say the same in every pair.
    """

    most: int
    drafted: int
    accepted: int
    generated: int
    decode: float | None
    equal: bool

    def describe(self) -> str:
        """The figures in words."""
        if self.decode is None:
            return "nothing was decoded"
        same = "the same tokens" if self.equal else "OTHER TOKENS"
        return (
            f"{self.accepted} of {self.drafted} drafted tokens accepted, of {self.generated}; "
            f"decode takes {self.decode:.2f} times as long; {same}"
        )


def compare_drafts(
    pipeline: Pipeline, ask: Callable[..., Run], most: int, pairs: int
) -> Drafts | None:
    """``ask`` without drafts and with those of ``most`` tokens, so many ``pairs`` of times.

    None where ``most`` is 0. The answer before would be the best of drafts: it is forgotten.
    """
    if not most:
        return None
    ratios = list[float]()
    is_equal = True
    for _ in range(pairs):
        pipeline.forget()
        plain = ask(draft_tokens=0).answer
        pipeline.forget()
        answer = ask(draft_tokens=most).answer
        is_equal = is_equal and answer.turns == plain.turns
        if plain.usage.seconds["decode"]:
            ratios.append(answer.usage.seconds["decode"] / plain.usage.seconds["decode"])
    return Drafts(
        most=most,
        drafted=answer.usage.draft_tokens,
        accepted=answer.usage.accepted_tokens,
        generated=answer.usage.generated_tokens,
        decode=float(np.median(ratios)) if ratios else None,
        equal=is_equal,
    )
