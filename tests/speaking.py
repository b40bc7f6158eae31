"""A decoder without a model: it says what it is told to, and its states tell what it has read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vpt_edge.runtime.chat import Chat
from vpt_edge.runtime.testing import ScriptedSession

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vpt_edge.runtime.bundle import Model
    from vpt_edge.runtime.sessions import Session

SURE = 6.0  # the logit of the token that is to be said; the others are below 1


class Speaking:
    """Opens sessions that say ``turns``, ids, one after the other.

    Logits, states, keys and values at a place are of all that the cache has in front of it, and of
    nothing behind it. ``passes``: how many tokens each run of the decoder took.
    """

    def __init__(self, *turns: Sequence[int]) -> None:
        self._turns = [list(turn) for turn in turns]
        self.passes: list[int] = []

    def __call__(self, model: Model, name: str, /) -> Session:
        if name != "decoder":
            return ScriptedSession(model, name, [])
        self._turn: list[int] = []
        self._start = 0
        self._action_start = model.manifest.perception["action_start"]
        return self

    def run(self, inputs: Any, outputs: Any) -> None:
        embeds = inputs["embeds"][0]
        end = int(inputs["total_sequence_length"])
        first = end - len(embeds)
        self.passes.append(len(embeds))
        keys = outputs["present.0.key"][0, 0]
        values = outputs["present.0.value"][0, 0]
        keys[first:end, :4] = embeds
        values[first:end] = np.concatenate((inputs["cos"], inputs["sin"]), axis=1)
        last = inputs["last"]
        is_prefill = len(embeds) > len(last)
        if is_prefill and embeds[-1, 0] != self._action_start:
            self._turn = self._turns.pop(0)
            self._start = end
        for row, place in enumerate(first + last):
            memory = np.concatenate((keys[: place + 1], values[: place + 1]), axis=1)
            weights = np.sin(np.arange(memory.size, dtype=np.float64)).reshape(memory.shape)
            state = np.sin((weights * memory).sum() + np.arange(4))
            outputs["hidden"][row] = state
            logits = outputs["logits"][row]
            logits[:] = np.sin(1e3 * state[0] + np.arange(len(logits)))
            said = self._turn[place + 1 - self._start :][:1] or [0]
            logits[said] = SURE

    def zeros(self, shape: tuple[int, ...], dtype: Any, /) -> np.ndarray[Any, Any]:
        return np.zeros(shape, dtype)

    def close(self) -> None: ...


def speak(model: Model, *turns: str) -> Speaking:
    """A decoder that says these texts, each with ``<|im_end|>`` behind it."""
    chat = Chat(model.tokenizer_file, {})
    end = model.manifest.tokens.end[0]
    return Speaking(*([*chat.encode(turn), end] for turn in turns))
