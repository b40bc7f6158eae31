"""Chooses a token from the logits."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import numpy as np

from vpt_edge.runtime.errors import PromptError
from vpt_edge.runtime.finite import refuse_numbers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Scores = Floats | int  # the logits (vocabulary,), or the token that they make the likeliest


def _finite(number: float) -> float:
    """``number``, of whatever type, or the largest that is finite: to it all tokens are alike."""
    try:
        return min(float(number), sys.float_info.max)
    except OverflowError:
        return sys.float_info.max


class Sampler:
    """The likeliest token at temperature 0, which is what the authors' settings amount to.

    (PROTOCOL 5.5.) ``presence_penalty`` is taken from the logits of what the turn has generated, as
    vLLM does, before the temperature. ``needs_logits``: else the likeliest token is enough. Raises
    PromptError for settings that make no sense, or would be ignored.
    """

    def __init__(
        self,
        temperature: float,
        top_k: int | None,
        top_p: float | None,
        seed: int | None,
        presence_penalty: float = 0.0,
    ) -> None:
        given = {"top_k": top_k, "top_p": top_p, "seed": seed}
        ignored = [name for name, value in given.items() if value is not None]
        if not temperature >= 0:
            raise PromptError(f"temperature is {temperature}, expected 0 (greedy) or more")
        if temperature == 0 and ignored:
            problem = f"{', '.join(ignored)} would be ignored at temperature 0"
            raise PromptError(problem, "give a temperature too")
        if seed is not None and seed < 0:
            raise PromptError(f"seed is {seed}, expected 0 or more")
        if top_k is not None and top_k < 1:
            raise PromptError(f"top_k is {top_k}, expected 1 or more")
        if top_p is not None and not 0 < top_p <= 1:
            raise PromptError(f"top_p is {top_p}, expected more than 0 and at most 1")
        if not -2 <= presence_penalty <= 2:
            raise PromptError(f"presence_penalty is {presence_penalty}, expected -2 to 2")
        self.needs_logits = temperature > 0 or presence_penalty != 0
        self._penalty = np.float32(presence_penalty)
        self._temperature = _finite(temperature)
        self._top_k = top_k
        self._top_p = None if top_p is None else float(top_p)
        self._random = np.random.default_rng(seed)

    def choose(self, logits: Scores, generated: Sequence[int] = ()) -> int:
        """One id from ``logits`` (vocabulary,), in a turn that has ``generated`` those ids so far.

        Raises SessionError where the largest is not a number: NaN is, wherever it stands.
        """
        if isinstance(logits, int):
            return logits
        if self._penalty and generated:
            logits = self._penalize(logits, generated)
        best = int(logits.argmax())
        if not np.isfinite(logits[best]):
            refuse_numbers("decoder")
        if self._temperature == 0:
            return best
        return self._draw(logits, float(logits[best]))

    def _penalize(self, logits: Floats, generated: Sequence[int]) -> Floats:
        penalized = logits.copy()
        penalized[np.unique(generated)] -= self._penalty
        return penalized

    def _draw(self, logits: Floats, largest: float) -> int:
        count = min(self._top_k or len(logits), len(logits))
        order = np.argpartition(-logits, count - 1)[:count]
        order = order[np.argsort(-logits[order], kind="stable")]
        below = logits[order].astype(np.float64) - largest
        with np.errstate(over="ignore"):  # of a tiny temperature: the weight is 0
            weights = np.exp(below / self._temperature)
        weights /= weights.sum()
        if self._top_p is not None:  # the smallest set whose weight reaches top_p
            enough = int(np.searchsorted(np.cumsum(weights), self._top_p)) + 1
            weights = weights[:enough]
        return int(self._random.choice(order[: len(weights)], p=weights / weights.sum()))
