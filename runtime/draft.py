"""Drafts without a model: what followed the last tokens when they came before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vpt_edge.runtime.errors import PromptError
from vpt_edge.runtime.interface import find_graph, most_last
from vpt_edge.runtime.schema import EXPORT_AGAIN

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from vpt_edge.runtime.decoder import Decoder
    from vpt_edge.runtime.manifest import Manifest
    from vpt_edge.runtime.sampler import Scores

TAILS = (3, 2)  # how many of the last tokens are looked up, the longest first
REMEMBERED = 4096  # tokens of earlier answers
BREAK = -1  # stands between texts: no token


class Draft:
    """Lets ``decoder`` compute with a token those that are likely to follow it.

    They are looked up: in the turn itself, in its prompt and in earlier answers, the latest place
    first. What a token costs changes, and not which it is: the next one is chosen from the same
    scores, and what it does not agree with is forgotten. A draft that holds to its end is followed
    by one of twice its length, another by one of half. ``usual``: how many tokens a draft has at
    most where a request does not say it; ``barred``: those in front of which a draft ends.
    """

    def __init__(self, decoder: Decoder, usual: int, barred: Collection[int | None]) -> None:
        self._decoder = decoder
        self._usual = usual
        self._barred = {BREAK, *barred}
        self._most = 0
        self._length = 0  # of the next draft
        self._open = 0  # tokens of the last draft that the model has not said
        self._earlier: list[int] = []
        self._ids: list[int] = []
        self._followers: dict[tuple[int, ...], int] = {}  # the place behind the last such tail

    def begin(self, prompt_ids: Sequence[int], asked: int | None) -> None:
        """Begin a turn, with the request's ``draft_tokens``."""
        self._most = self._usual if asked is None else asked
        self._length = -(-self._most // 2)
        self._open = 0
        self._ids = []
        self._followers = {}
        if self._most:
            self._add([*self._earlier, BREAK, *prompt_ids])

    def step(self, token: int, needed: int) -> Scores:
        """What the decoder's ``step`` returns; at most ``needed`` steps follow in this turn."""
        if not self._most:
            return self._decoder.step(token)
        self._add([token])
        scores = self._decoder.accept(token)
        if scores is not None:
            self._open -= 1
            if not self._open:
                self._length = min(2 * self._length, self._most)
            return scores
        if self._open:
            self._length = -(-self._length // 2)
        room = self._decoder.remaining - 1
        draft = self._guess(min(self._length, needed, room))
        self._open = len(draft)
        return self._decoder.step(token, draft)

    def end(self, generated: Sequence[int]) -> None:
        """Remember the tokens of the turn."""
        if self._most:
            self._earlier = [*self._earlier, BREAK, *generated][-REMEMBERED:]

    def forget(self) -> None:
        """Forget earlier answers."""
        self._earlier = []

    def _add(self, ids: Sequence[int]) -> None:
        for token in ids:
            for size in TAILS:
                self._followers[tuple(self._ids[-size:])] = len(self._ids)
            self._ids.append(token)

    def _guess(self, most: int) -> list[int]:
        """At most so many tokens; a text that repeats itself is followed beyond its end."""
        if most < 1:
            return []
        place = self._find()
        draft = self._ids[place : place + most]
        while draft and len(draft) < most:
            draft += draft
        ends = [index for index, token in enumerate(draft) if token in self._barred]
        return draft[: min([most, *ends])]

    def _find(self) -> int:
        """The place behind the last tokens when they came before; the end where they did not."""
        for size in TAILS:
            place = self._followers.get(tuple(self._ids[-size:]))
            if place is not None:
                return place
        return len(self._ids)


def check_draft(manifest: Manifest, tokens: int | None) -> None:
    """Raise PromptError for ``draft_tokens`` of which one pass of the decoder verifies fewer."""
    most = most_last(find_graph(manifest, "decoder")) - 1
    if 0 <= (tokens or 0) <= most:
        return
    problem = f"draft_tokens is {tokens}, this bundle's decoder takes 0 to {most}"
    fix = "" if most else f"leave it out, or for ONNX Runtime {EXPORT_AGAIN}"
    raise PromptError(problem, fix)
