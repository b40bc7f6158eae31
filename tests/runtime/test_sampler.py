"""Which token is chosen from the logits, and which settings are refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vpt_edge.runtime.errors import PromptError, SessionError
from vpt_edge.runtime.sampler import Sampler

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]


def greedy() -> Sampler:
    return Sampler(0, None, None, None)


def logits(*values: float) -> Floats:
    return np.array(values, np.float32)


def test_greedy_takes_the_likeliest_and_of_equals_the_first() -> None:
    assert greedy().choose(logits(1, 5, 2)) == 1
    assert greedy().choose(logits(1, 5, 5)) == 1
    assert greedy().choose(logits(0, 0)) == 0


NAN = float("nan")
INF = float("inf")


@pytest.mark.parametrize(
    "values",
    [
        (-1, NAN, -2),
        (1, NAN, -2),
        (NAN, NAN),
        (1, INF, 2),
        (NAN, INF, 2),
        (-INF, -INF),
        (NAN, -INF, 1),
        (1, 2, NAN),
    ],
)
@pytest.mark.parametrize("temperature", [0, 0.01])
def test_logits_that_are_no_numbers_name_the_graph(
    values: tuple[float, ...], temperature: float
) -> None:
    """The authors' code would go on with 0 in their place: "!!!!", as often as it may."""
    with pytest.raises(SessionError, match="the graph decoder computed numbers that are not"):
        Sampler(temperature, None, None, None).choose(logits(*values))


@pytest.mark.parametrize("temperature", [0, 0.01])
def test_a_token_that_is_impossible_does_not_win(temperature: float) -> None:
    assert Sampler(temperature, None, None, None).choose(logits(-INF, -5, -INF)) == 1


@pytest.mark.parametrize("temperature", [INF, 10**400, 1e300, 1e-320, Fraction(1, 3)])
@pytest.mark.parametrize("top_p", [None, 1e-320, Fraction(1, 2), 1])
def test_numbers_of_any_size_and_type_are_taken(temperature: Any, top_p: Any) -> None:
    sampler = Sampler(temperature, None, top_p, 1)
    assert {sampler.choose(logits(-INF, 3, 2, 1)) for _ in range(20)} <= {1, 2, 3}


class Recorder:
    """Stands in for numpy's generator and keeps what it is to choose from."""

    def __init__(self) -> None:
        self.weights: dict[int, float] = {}

    def choice(self, ids: Any, p: Any) -> int:
        self.weights = {
            int(token): float(weight) for token, weight in zip(ids, p, strict=True) if weight > 0
        }
        return int(ids[0])


@contextmanager
def recording() -> Iterator[Recorder]:
    with pytest.MonkeyPatch.context() as patch:
        recorder = Recorder()
        patch.setattr(np.random, "default_rng", lambda seed: recorder)
        yield recorder


def warped(
    values: Floats, temperature: float, top_k: int | None, top_p: float | None
) -> dict[int, float]:
    """transformers' warpers in its order: temperature, top_k, top_p, each on what the one before
    left.
    """
    scores = values.astype(np.float64) / temperature
    if top_k is not None:
        scores[scores < np.sort(scores)[-min(top_k, len(scores))]] = -np.inf
    if top_p is not None:
        ascending = np.argsort(scores, kind="stable")
        weights = np.exp(scores[ascending] - scores.max())
        removed = np.cumsum(weights / weights.sum()) <= 1 - top_p
        removed[-1] = False
        scores[ascending[removed]] = -np.inf
    weights = np.exp(scores - scores.max())
    return {int(token): weights[token] / weights.sum() for token in np.flatnonzero(weights)}


@given(
    values=st.lists(st.integers(-40, 40), min_size=1, max_size=30, unique=True),
    temperature=st.sampled_from([0.1, 0.7, 0.95, 1.0, 2.0, 10.0]),
    top_k=st.none() | st.integers(1, 40),
    top_p=st.none() | st.floats(0.001, 0.999),
)
@example(values=[3, 2, 1], temperature=1.0, top_k=2, top_p=0.7)  # top_p of what top_k left
@example(
    values=[0, 1], temperature=10.0, top_k=None, top_p=0.5
)  # top_p of what the temperature left
def test_sampling_warps_in_the_order_of_transformers(
    values: list[int], temperature: float, top_k: int | None, top_p: float | None
) -> None:
    numbers = np.array([value / 4 for value in values], np.float32)
    with recording() as recorder:
        Sampler(temperature, top_k, top_p, 1).choose(numbers)
    assert recorder.weights == pytest.approx(warped(numbers, temperature, top_k, top_p))


def test_the_authors_settings_are_greedy() -> None:
    for row in np.random.default_rng(0).standard_normal((200, 300)).astype(np.float32):
        with recording() as recorder:
            Sampler(0.95, 10, 0.1, None).choose(row)
        assert set(recorder.weights) == {int(row.argmax())}


def test_a_seed_repeats_the_choices() -> None:
    numbers = np.zeros(1000, np.float32)

    def choices(seed: int | None) -> list[int]:
        sampler = Sampler(1.0, None, None, seed)
        return [sampler.choose(numbers) for _ in range(8)]

    assert choices(3) == choices(3)
    assert choices(3) != choices(4)
    assert choices(None) != choices(None)
    assert len(set(choices(3))) > 1


def test_choices_follow_their_weights() -> None:
    sampler = Sampler(1.0, None, None, 0)
    chosen = [sampler.choose(np.log(np.array([0.7, 0.1, 0.2], np.float32))) for _ in range(2000)]
    assert np.bincount(chosen) / 2000 == pytest.approx([0.7, 0.1, 0.2], abs=0.05)


def test_sampling_leaves_the_logits_alone() -> None:
    numbers = logits(1, -INF, 2, 3)
    Sampler(1.0, 2, 0.9, 0).choose(numbers)
    np.testing.assert_array_equal(numbers, logits(1, -INF, 2, 3))


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p", "seed"),
    [
        (-0.1, None, None, None),
        (NAN, None, None, None),
        (0, 10, None, None),
        (0, None, 0.5, None),
        (0, None, None, 7),
        (1, 0, None, None),
        (1, -3, None, None),
        (1, None, 0, None),
        (1, None, 1.01, None),
        (1, None, NAN, None),
        (1, None, None, -1),
    ],
)
def test_options_that_mean_nothing_are_refused(
    temperature: float, top_k: int | None, top_p: float | None, seed: int | None
) -> None:
    with pytest.raises(PromptError):
        Sampler(temperature, top_k, top_p, seed)


def test_ignored_options_are_named() -> None:
    with pytest.raises(PromptError, match="top_k, seed would be ignored at temperature 0"):
        Sampler(0, 5, None, 0)


def test_a_presence_penalty_is_of_what_the_turn_has_generated() -> None:
    sampler = Sampler(0, None, None, None, presence_penalty=1.5)
    numbers = logits(3, 2.5, 1)
    kept = numbers.copy()
    assert sampler.choose(numbers) == 0
    assert sampler.choose(numbers, [2]) == 0
    assert sampler.choose(numbers, [0]) == 1
    assert sampler.choose(numbers, [0, 0, 0]) == 1  # once, however often it has come
    assert sampler.choose(numbers, [0, 1]) == 0
    assert sampler.choose(numbers, [0, 2]) == 1
    np.testing.assert_array_equal(numbers, kept)  # they are the decoder's
    assert Sampler(0, None, None, None, -1.5).choose(numbers, [2]) == 0
    assert Sampler(0, None, None, None, -2).choose(logits(3, 2.5, 1.5), [2]) == 2


def test_the_penalty_comes_before_the_temperature() -> None:
    sampler = Sampler(0.001, None, None, 1, presence_penalty=1)
    assert {sampler.choose(logits(3, 2.5), [0]) for _ in range(9)} == {1}


def test_only_the_likeliest_token_needs_no_logits() -> None:
    assert not greedy().needs_logits
    assert Sampler(0.1, None, None, None).needs_logits
    assert Sampler(0, None, None, None, 0.1).needs_logits
    assert Sampler(0, None, None, None, 0.1).choose(5, [5]) == 5


@pytest.mark.parametrize("penalty", [2.01, -2.01, NAN, INF])
def test_a_penalty_out_of_range_is_refused(penalty: float) -> None:
    with pytest.raises(PromptError, match=f"^presence_penalty is {penalty}, expected -2 to 2$"):
        Sampler(0, None, None, None, penalty)
