"""The language model over the ids of one request: prefill, step, visual tokens in their places."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from vpt_edge.runtime.context import first_difference
from vpt_edge.runtime.embeddings import Embeddings
from vpt_edge.runtime.errors import ContextLengthError, VptError
from vpt_edge.runtime.finite import check_finite
from vpt_edge.runtime.interface import deep_levels, has_last, most_last
from vpt_edge.runtime.kv_cache import KVCache
from vpt_edge.runtime.models import open_tower

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from vpt_edge.runtime.bundle import Model
    from vpt_edge.runtime.context import Context, Visual
    from vpt_edge.runtime.perception import Perception
    from vpt_edge.runtime.sampler import Scores
    from vpt_edge.runtime.sessions import Array, Session

    Floats = NDArray[np.float32]


class Projector(Protocol):
    """Features (tokens, hidden) under a condition (1, hidden): the re-encoder's last part."""

    def __call__(self, features: Floats, condition: Floats, /) -> Floats: ...


class Decoder:
    """Computes each token of a request once. What is computed stays, and is found by comparing."""

    def __init__(
        self, model: Model, perception: Perception, session: Session, project: Projector
    ) -> None:
        manifest = model.manifest
        graph = manifest.graphs["decoder"]
        self._session = session
        self._project = project
        self._action = perception.action
        self._tower = open_tower(manifest)
        self._embeddings = model.embeddings()
        self._cache = KVCache(manifest, session.zeros)
        self._chunk = graph.bounds["sequence"][2]
        self._argmax_in_graph = any(tensor.name == "token" for tensor in graph.outputs)
        self._has_last = has_last(graph)
        rows = most_last(graph)
        self._logits = np.empty((rows, manifest.text.vocab_size), np.float32)
        self._token = np.empty(1, np.int64)
        self._hidden = np.empty((rows, manifest.text.hidden_size), np.float32)
        self._read_out: dict[int, dict[str, Array]] = {}  # the first of those, by how many
        self._levels = deep_levels(graph)
        self._no_deep: dict[int, Array] = {}  # by tokens
        self._ahead: list[int] = []  # what was computed with the last token and is not accepted yet
        self._row = 0  # of the last token, in the logits and states
        self._closed = False
        self._hidden_of = 0  # how many tokens the state is of
        self._next_position = 0
        self._ids: list[int] = []
        self._visuals: list[Visual] = []
        self._conditions: dict[int, Floats] = {}  # by an action's index: the state in front of it
        self.begin()

    def begin(self, greedy: bool = False) -> None:
        """Begin a new request; a ``greedy`` one needs no logits where the graph finds the token."""
        self._greedy = greedy and self._argmax_in_graph
        self.computed_tokens = 0
        self.reused_tokens = 0
        self.draft_tokens = 0
        self.accepted_tokens = 0

    @property
    def capacity(self) -> int:
        """How many tokens the cache takes."""
        return self._cache.capacity

    @property
    def remaining(self) -> int:
        """How many more tokens the cache can take."""
        return self._cache.capacity - self._cache.length

    def check(self, context: Context) -> None:
        """Raise ContextLengthError for a ``context`` that the cache does not take."""
        tokens = len(context.ids)
        if tokens > self.capacity:
            raise ContextLengthError(
                f"the prompt has {tokens} tokens, the cache takes {self.capacity}",
                "shorten the question or its history, or export with more: "
                f"vpt-export CHECKPOINT -o BUNDLE --cache-tokens {tokens + 1024}",
            )

    def prefill(self, context: Context) -> Scores:
        """Compute what is new in ``context``, behind the common prefix with what is computed.

        Returns the logits (vocabulary,) of the last position, in an array that the next call
        writes again, or the likeliest token. The pass stops in front of each action token, whose
        embedding is the state there (PROTOCOL 5.1): one pass, not two. What is longer than the
        graph takes at once goes in chunks.
        """
        ids = context.ids
        self.check(context)
        start = self._rewind(context)
        self.reused_tokens += start
        positions = self._tower.positions(len(ids), context.visuals)
        ends = [index for index in range(start + 1, len(ids)) if ids[index] == self._action]
        for end in [*ends, len(ids)]:
            while start < end:
                stop = min(start + self._chunk, end)
                embeds = self._embed(context, start, stop)
                deep = self._deep(context, start, stop)
                self._run(ids[start:stop], embeds, deep, positions[:, start:stop])
                start = stop
        self._next_position = int(positions.max()) + 1
        return self._scores()

    def step(self, token: int, draft: Sequence[int] = ()) -> Scores:
        """Compute one generated ``token``; returns what ``prefill`` returns, behind it.

        The tokens of ``draft``, none of them an action, are computed in the same pass, for
        ``accept``.
        """
        ids = [token, *draft]
        count = len(ids)
        positions = np.tile(np.arange(count) + self._next_position, (3, 1))
        embeds = self._rows(len(self._ids), ids)
        self._run(ids, embeds, self._zeros(count), positions, drafted=len(draft))
        self._ahead = [*draft]
        self.draft_tokens += len(draft)
        self._next_position += 1
        return self._scores()

    def accept(self, token: int) -> Scores | None:
        """What ``step`` returns, where ``token`` is what the draft has behind the last one; None
        where it is not: it must be computed, and the rest of the draft is forgotten.
        """
        ahead = self._ahead
        self._ahead = []
        if not ahead or ahead[0] != token:
            return None
        self._row += 1
        self._take([token])
        self._ahead = ahead[1:]
        self._next_position += 1
        self.accepted_tokens += 1
        return self._scores()

    def forget(self) -> None:
        """Let the next request compute all of its tokens."""
        self._keep(0)
        self._visuals = []

    def close(self) -> None:
        """Let go of the table, which is mapped from disk, and of the cache."""
        self._closed = True
        self._embeddings = Embeddings(np.empty((0, 0), np.float32), None)
        self._cache.close()
        self._visuals = []
        self._conditions = {}

    def _scores(self) -> Scores:
        if self._greedy:
            return int(self._token[0])
        return self._logits[self._row]

    def _rewind(self, context: Context) -> int:
        """Keep the longest prefix that ``context`` shares with what is computed.

        Returns its length; at least one token is left to compute.
        """
        ids = context.ids
        start = min(len(self._ids), len(ids) - 1)
        differs = first_difference(self._visuals, context.visuals)
        if differs is not None:
            start = min(start, differs)
        start = next((i for i in range(start) if self._ids[i] != ids[i]), start)
        while ids[start] == self._action and start != self._hidden_of:
            start -= 1  # its embedding is the state in front of it, which is gone
        self._keep(start)
        self._visuals = list(context.visuals)
        return start

    def _keep(self, count: int) -> None:
        """Forget all but the first ``count`` tokens."""
        self._cache.rewind(count)
        self._ids = self._ids[:count]
        self._ahead = []
        conditions = self._conditions.items()
        self._conditions = {index: state for index, state in conditions if index < count}

    def _embed(self, context: Context, start: int, stop: int) -> Floats:
        """Input embeddings (stop - start, hidden): the table's rows, states and features."""
        embeds = self._rows(start, context.ids[start:stop])
        for visual in context.visuals:
            first = max(visual.start, start)
            last = min(visual.end, stop)
            if first >= last:
                continue
            features = visual.encoded.features
            if visual.encoded.grid is None:
                condition = self._conditions[max(self._conditions)]
                features = self._project(features, condition[None])
            rows = features[first - visual.start : last - visual.start]
            embeds[first - start : last - start] = rows
        return embeds

    def _deep(self, context: Context, start: int, stop: int) -> Floats:
        """Deep features (levels, stop - start, hidden), zeros where a token is not a picture's."""
        deep = np.zeros((self._levels, stop - start, self._hidden.shape[1]), np.float32)
        for visual in context.visuals:
            first = max(visual.start, start)
            last = min(visual.end, stop)
            if first < last and visual.encoded.deep is not None:
                rows = visual.encoded.deep[:, first - visual.start : last - visual.start]
                deep[:, first - start : last - start] = rows
        return deep

    def _rows(self, start: int, ids: Sequence[int]) -> Floats:
        """The table's rows (len(ids), hidden).

        An action token, which only begins a run, takes the state in front of it.
        """
        if self._closed:
            raise VptError("the pipeline is closed", "open it again: Pipeline(bundle)")
        rows = self._embeddings.rows(ids)
        if ids[0] == self._action:
            rows[0] = self._hidden[self._row]
            self._conditions[start] = rows[0].copy()
        return rows

    def _zeros(self, count: int) -> Array:
        """Deep features of ``count`` generated tokens, where the session computes: a step moves
        none.
        """
        if self._levels and count not in self._no_deep:
            shape = (self._levels, count, self._hidden.shape[1])
            self._no_deep[count] = self._session.zeros(shape, np.float32)
        return self._no_deep.get(count, self._hidden)

    def _results(self, rows: int) -> dict[str, Array]:
        """Where a pass puts states and logits, or the token: the same arrays every time."""
        if self._greedy:
            return {"hidden": self._hidden, "token": self._token}
        if rows not in self._read_out:
            views: dict[str, Array] = {"hidden": self._hidden[:rows]}
            views["logits"] = self._logits[:rows]
            self._read_out[rows] = views
        return self._read_out[rows]

    def _run(
        self,
        ids: Sequence[int],
        embeds: Floats,
        deep: Array,
        positions: NDArray[np.int64],
        drafted: int = 0,
    ) -> None:
        """One pass over ``ids``, of which the last ``drafted`` are not accepted yet."""
        cos, sin = self._tower.rotations(positions)
        cache_inputs, cache_outputs = self._cache.bindings(len(ids))
        inputs = {"embeds": embeds[None], **self._cache.rotations(cos, sin), **cache_inputs}
        if self._levels:
            inputs["deep"] = deep
        first = len(ids) - 1 - drafted
        if self._has_last:
            inputs["last"] = np.arange(first, len(ids))
        outputs = {**self._results(1 + drafted), **cache_outputs}
        self._hidden_of = 0  # until the run is good
        self._session.run(inputs, outputs)
        self.computed_tokens += len(ids)
        self._row = 0
        self._take(ids[: first + 1])

    def _take(self, ids: Sequence[int]) -> None:
        """Keep ``ids``, which were computed; the state in the row is behind the last of them."""
        self._hidden_of = 0
        check_finite("decoder", self._hidden[self._row])  # of which the logits or token are made
        self._cache.append(len(ids))
        self._ids += ids
        self._hidden_of = len(self._ids)
