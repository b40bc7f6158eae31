"""The language model over the ids of one request: prefill, step, feature splice, sampling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from vpt_edge.runtime.errors import PromptError
from vpt_edge.runtime.kv_cache import KVCache
from vpt_edge.runtime.positions import mrope, mrope_positions

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vpt_edge.runtime.bundle import Bundle
    from vpt_edge.runtime.sessions import Session

    Floats = NDArray[np.float32]
    Scores = Floats | int  # the logits (vocabulary,), or the token that they make the likeliest


class Projector(Protocol):
    """Features (tokens, hidden) under a condition (1, hidden) -> (tokens, hidden): the re-encoder's
    last part."""

    def __call__(self, features: Floats, condition: Floats, /) -> Floats: ...


@dataclass
class Context:
    """All that a turn is generated from: ids, and what stands in the places of its pads, in order.

    ``grids`` and ``views`` belong to the pictures (features (tokens, hidden)), ``reencodes`` holds
    the features of re-encoded pictures before the condition is applied."""

    ids: list[int]
    grids: list[tuple[int, int]] = field(default_factory=list)
    views: list[Floats] = field(default_factory=list)
    reencodes: list[Floats] = field(default_factory=list)


class Decoder:
    """Computes each token of a request once.

    What is computed stays, and is found again by comparing ids.
    """

    def __init__(self, bundle: Bundle, session: Session, project: Projector) -> None:
        self._manifest, self._session, self._project = bundle.manifest, session, project
        self._embeddings = bundle.embeddings()
        self._cache = KVCache(bundle.manifest, session.zeros)
        text, graph = bundle.manifest.text, bundle.graph("decoder")
        self._piece = graph.bounds["sequence"][2]
        self._picks = any(tensor.name == "token" for tensor in graph.outputs)
        self._logits, self._token = (
            np.empty((1, text.vocab_size), np.float32),
            np.empty(1, np.int64),
        )
        self._hidden = np.empty((1, text.hidden_size), np.float32)
        self._ids: list[int] = []
        self._conditions: dict[
            int, Floats
        ] = {}  # by the index of an action token: the state in front of it
        self._hidden_of = self._picture_tokens = self._next_position = 0
        self.reset()

    def reset(self, same_picture: bool = False, greedy: bool = False) -> None:
        """Begin a new request.

        What is computed stays as far as the next prompt may begin alike: up to the first picture,
        or if that is the ``same_picture``, up to the next one. A ``greedy`` request needs no logits
        where the graph finds the token."""
        self._greedy = greedy and self._picks
        pads = self._manifest.tokens.image_pad, self._manifest.tokens.reencode_pad
        places = [index for index, token in enumerate(self._ids) if token in pads]
        self._keep(
            next(iter(places[self._picture_tokens if same_picture else 0 :]), len(self._ids))
        )
        self.computed_tokens = self.reused_tokens = 0

    @property
    def room(self) -> int:
        """How many more tokens the cache can take."""
        return self._cache.capacity - self._cache.length

    def prefill(self, context: Context) -> Scores:
        """Compute what is new in ``context``, behind the common prefix with what is computed
        already.

        Returns the logits (vocabulary,) of the last position, in an array that the next call writes
        again, or the likeliest token. The pass stops in front of each action token, whose embedding
        is the state there (PROTOCOL 5.1): one pass, not two. What is longer than the graph takes at
        once goes in pieces."""
        ids = context.ids
        if len(ids) > self._cache.capacity:
            raise PromptError(
                f"the prompt has {len(ids)} tokens, the cache takes {self._cache.capacity}; shorten the question, or "
                f"export with more: vpt-export CHECKPOINT -o BUNDLE --cache-tokens {len(ids) + 1024}"
            )
        start = self._common_prefix(ids)
        self.reused_tokens += start
        self._picture_tokens = len(context.views[0]) if context.views else 0
        positions = mrope_positions(ids, context.grids, self._manifest.tokens.image_pad)
        actions = [i for i in range(start + 1, len(ids)) if ids[i] == self._manifest.tokens.action]
        for end in [*actions, len(ids)]:
            while start < end:
                stop = min(start + self._piece, end)
                self._run(
                    ids[start:stop], self._embed(context, start, stop), positions[:, start:stop]
                )
                start = stop
        self._next_position = int(positions.max()) + 1
        return self._scores()

    def step(self, token: int) -> Scores:
        """Compute one generated ``token``; returns the logits (vocabulary,) behind it, or the
        likeliest token."""
        self._run(
            [token], self._rows(len(self._ids), [token]), np.full((3, 1), self._next_position)
        )
        self._next_position += 1
        return self._scores()

    def _scores(self) -> Scores:
        return int(self._token[0]) if self._greedy else self._logits[0]

    def _common_prefix(self, ids: Sequence[int]) -> int:
        """Rewind to the longest prefix that ``ids`` shares with what is computed, and leave at
        least one to compute."""
        shared = min(len(self._ids), len(ids) - 1)
        start = next((i for i in range(shared) if self._ids[i] != ids[i]), shared)
        while ids[start] == self._manifest.tokens.action and start != self._hidden_of:
            start -= 1  # its embedding is the state in front of it, which is gone
        self._keep(start)
        return start

    def forget(self) -> None:
        """Let the next request compute all of its tokens."""
        self._keep(0)

    def _keep(self, count: int) -> None:
        """Forget all but the first ``count`` tokens."""
        self._cache.rewind(count)
        self._ids = self._ids[:count]
        self._conditions = {
            index: state for index, state in self._conditions.items() if index < count
        }

    def _embed(self, context: Context, start: int, stop: int) -> Floats:
        """Input embeddings (stop - start, hidden) of ``context``: the table's rows, states and
        features spliced in."""
        tokens, ids = self._manifest.tokens, np.asarray(context.ids)
        embeds = self._rows(start, context.ids[start:stop])
        for pad, features in (
            (tokens.image_pad, context.views),
            (tokens.reencode_pad, context.reencodes),
        ):
            done = int(np.count_nonzero(ids[:start] == pad))
            places = np.flatnonzero(ids[start:stop] == pad)
            for rows in features:
                if done < len(rows) and len(places):
                    here = places[: len(rows) - done]
                    if features is context.reencodes:
                        rows = self._project(rows, self._conditions[max(self._conditions)][None])
                    embeds[here] = rows[done : done + len(here)]
                    places = places[len(here) :]
                done = max(done - len(rows), 0)
        return embeds

    def _rows(self, start: int, ids: Sequence[int]) -> Floats:
        """The table's rows (len(ids), hidden); an action token, which only begins a run, takes the
        state before it."""
        rows = self._embeddings.rows(ids)
        if ids[0] == self._manifest.tokens.action:
            rows[0] = self._hidden[0]
            self._conditions[start] = rows[0].copy()
        return rows

    def _run(self, ids: Sequence[int], embeds: Floats, positions: NDArray[np.int64]) -> None:
        text = self._manifest.text
        cos, sin = mrope(positions, text.head_dim, text.rope_theta, text.mrope_section)
        inputs, outputs = self._cache.bindings(len(ids))
        inputs = {"embeds": embeds[None], **self._cache.rotations(cos, sin), **inputs}
        scores = {"token": self._token} if self._greedy else {"logits": self._logits}
        self._session.run(inputs, {**scores, "hidden": self._hidden, **outputs})
        self._cache.append(len(ids))
        self._ids += ids
        self._hidden_of = len(self._ids)
        self.computed_tokens += len(ids)


class Sampler:
    """Chooses a token: the likeliest at temperature 0, which is what the authors' settings amount
    to (PROTOCOL 5.5)."""

    def __init__(
        self, temperature: float, top_k: int | None, top_p: float | None, seed: int | None
    ) -> None:
        given = {"top_k": top_k, "top_p": top_p, "seed": seed}
        ignored = [name for name, value in given.items() if value is not None]
        if not temperature >= 0:
            raise PromptError(f"temperature is {temperature}, expected 0 (greedy) or more")
        if temperature == 0 and ignored:
            raise PromptError(
                f"{', '.join(ignored)} would be ignored at temperature 0; give a temperature too"
            )
        if seed is not None and seed < 0:
            raise PromptError(f"seed is {seed}, expected 0 or more")
        if top_k is not None and top_k < 1:
            raise PromptError(f"top_k is {top_k}, expected 1 or more")
        if top_p is not None and not 0 < top_p <= 1:
            raise PromptError(f"top_p is {top_p}, expected more than 0 and at most 1")
        self.greedy = temperature == 0
        self._temperature, self._top_k, self._top_p = temperature, top_k, top_p
        self._random = np.random.default_rng(seed) if temperature else None

    def choose(self, logits: Scores) -> int:
        """One id from ``logits`` (vocabulary,); NaN counts as 0 and infinities as the largest
        numbers."""
        if isinstance(logits, int):
            return logits
        best = int(logits.argmax())
        if not np.isfinite(logits[best]):
            logits = np.nan_to_num(logits)
            best = int(logits.argmax())
        if self._random is None:
            return best
        count = min(self._top_k or len(logits), len(logits))
        order = np.argpartition(-logits, count - 1)[:count]
        order = order[np.argsort(-logits[order], kind="stable")]
        weights = np.exp(
            (logits[order].astype(np.float64) - float(logits[best])) / self._temperature
        )
        weights /= weights.sum()
        if self._top_p is not None:  # the smallest set whose weight reaches top_p
            weights = weights[: int(np.searchsorted(np.cumsum(weights), self._top_p)) + 1]
        return int(self._random.choice(order[: len(weights)], p=weights / weights.sum()))
