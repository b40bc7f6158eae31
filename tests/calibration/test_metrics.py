"""Scores of answers, confidence intervals, and the measures of agreement."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vpt_edge.calibration.metrics import (
    METRICS,
    anls,
    contains,
    divergence,
    exact,
    interval,
    levenshtein,
    overlap,
    paired_interval,
    vqa,
    yesno,
)
from vpt_edge.runtime.errors import VptError

if TYPE_CHECKING:
    from numpy.typing import NDArray

letters = st.text("abc ,.", max_size=12)


@pytest.mark.parametrize(
    ("answer", "score"), [("A cat", 1), (" A cat\n", 1), ("a cat", 0), ("A cat.", 0)]
)
def test_exact_wants_the_same_text(answer: str, score: float) -> None:
    assert exact(answer, "A cat") == score


@pytest.mark.parametrize(
    ("answer", "truth", "score"),
    [
        ("The cat.", "cat", 1),
        ("Two dogs!", "2 dogs", 1),
        ("none", "zero", 1),
        ("ten", "10", 1),
        ("1,000", "1000", 1),
        ("3.5", "3,5", 0),
        ("3.5", "35", 0),
        ("dont", "don't", 1),
        ("don\u2019t", "don't", 1),
        ("red, white", "red/white", 1),
        ("10:30", "1030", 0),
        ("U.S.A.", "USA", 1),
        ("cats", "cat", 0),
        ("A", "a.", 1),
        ("", "A", 0),
        ("An", "A", 0),
        ("?", "!", 0),
        ("?", "?", 1),
    ],
)
def test_vqa_compares_normalised_words(answer: str, truth: str, score: float) -> None:
    assert vqa(answer, truth) == score


@pytest.mark.parametrize(
    ("answer", "truth", "score"),
    [
        ("It is the red cat, I think.", "A red cat", 1),
        ("The cat on the mat", "cat on mat", 1),
        ("cathedral", "cat", 0),
        ("red", "red cat", 0),
        ("the letter A", "A", 1),
        ("no letter", "A", 0),
        ("what?", "?", 1),
        ("what", "?", 0),
    ],
)
def test_contains_wants_whole_words_in_a_row(answer: str, truth: str, score: float) -> None:
    assert contains(answer, truth) == score


@pytest.mark.parametrize(
    ("answer", "truth", "score"),
    [
        ("Hello", "hello", 1),
        ("hallo", "hello", 0.8),
        ("hello world", "hello", 0),  # 6 of 11 letters away
        ("abcd", "abxy", 0),  # half of them: no more
        ("abcde", "abcxy", 0.6),
        ("", "", 1),
        ("", "a", 0),
    ],
)
def test_anls_forgives_slips(answer: str, truth: str, score: float) -> None:
    assert anls(answer, truth) == pytest.approx(score)


@pytest.mark.parametrize(
    ("answer", "truth", "score"),
    [
        ("Yes, it is.", "yes", 1),
        ("It is. YES", "Yes.", 1),
        ("No", "yes", 0),
        ("No, not yes", "no", 1),
        ("Nobody knows", "no", 0),
        ("yesterday", "yes", 0),
        ("", "no", 0),
    ],
)
def test_yesno_reads_the_first_of_them(answer: str, truth: str, score: float) -> None:
    assert yesno(answer, truth) == score


def test_yesno_refuses_another_truth() -> None:
    with pytest.raises(VptError, match="'maybe' is neither yes nor no"):
        yesno("yes", "maybe")


@pytest.mark.parametrize("name", METRICS)
@given(answer=letters, truth=letters)
def test_a_score_is_a_share_and_the_truth_is_right(name: str, answer: str, truth: str) -> None:
    metric = METRICS[name]
    if name == "yesno":
        truth = f"{truth} no"
    assert 0 <= metric(answer, truth) <= 1
    assert metric(truth, truth) == 1


@pytest.mark.parametrize(
    ("first", "second", "steps"),
    [("kitten", "sitting", 3), ("", "abc", 3), ("abc", "", 3), ("ab", "ba", 2)],
)
def test_known_edit_distances(first: str, second: str, steps: int) -> None:
    assert levenshtein(first, second) == steps


@given(letters, letters, letters)
def test_edit_distance_is_a_distance(a: str, b: str, c: str) -> None:
    assert levenshtein(a, b) == levenshtein(b, a) <= max(len(a), len(b))
    assert (levenshtein(a, b) == 0) == (a == b)
    assert levenshtein(a, c) <= levenshtein(a, b) + levenshtein(b, c)


def test_an_interval_holds_the_mean_and_narrows() -> None:
    values = [1.0] * 70 + [0.0] * 30
    low, high = interval(values)
    normal = 1.96 * np.sqrt(0.7 * 0.3 / 100)
    assert low == pytest.approx(0.7 - normal, abs=0.02)
    assert high == pytest.approx(0.7 + normal, abs=0.02)
    assert interval(values) == (low, high)
    narrow = interval(values * 16)
    assert narrow[1] - narrow[0] == pytest.approx((high - low) / 4, rel=0.15)
    assert interval([0.5]) == (0.5, 0.5)
    with pytest.raises(VptError):
        interval([])


def test_a_paired_interval_knows_that_the_samples_are_the_same() -> None:
    others = [1.0, 0.0] * 50
    values = [0.0, *others[1:]]
    low, high = paired_interval(values, others)
    assert -0.05 < low < -0.01 < high <= 0
    with pytest.raises(ValueError):
        paired_interval([1.0], [1.0, 0.0])


@pytest.mark.parametrize(
    ("cells", "others", "expected"),
    [
        ([(1, 2, 3, 4)], [(1, 2, 3, 4)], 1.0),
        ([(0, 0, 1, 0)], [(1, 0, 2, 0)], 1 / 3),
        ([(0, 0, 1, 1)], [(1, 1, 2, 2)], 1 / 7),
        ([(0, 0, 0, 0)], [(1, 1, 1, 1)], 0.0),
        ([(0, 0, 0, 0)], [(5, 0, 6, 7)], 0.0),
        ([(0, 0, 0, 0), (1, 1, 1, 1)], [(0, 0, 0, 0)], 0.5),
        ([], [(0, 0, 0, 0)], 0.0),
        ([], [], 1.0),
    ],
)
def test_overlap_of_cells(
    cells: list[tuple[int, int, int, int]], others: list[tuple[int, int, int, int]], expected: float
) -> None:
    assert overlap(cells, others) == pytest.approx(expected)
    assert overlap(others, cells) == pytest.approx(expected)


def floats(*values: float) -> NDArray[np.float32]:
    return np.asarray(values, np.float32)


def test_divergence_is_from_the_reference() -> None:
    reference, logits = np.log(floats(0.5, 0.5)), np.log(floats(0.9, 0.1))
    assert divergence(reference, logits) == pytest.approx(
        0.5 * np.log(0.5 / 0.9) + 0.5 * np.log(0.5 / 0.1), rel=1e-5
    )
    assert divergence(logits, reference) != pytest.approx(divergence(reference, logits), rel=0.1)
    assert divergence(reference, reference + np.float32(100)) == pytest.approx(0, abs=1e-9)


def test_divergence_stays_a_number_where_a_logit_is_none() -> None:
    reference = floats(1, 2, 3)
    broken = floats(1, 2, np.nan)
    assert divergence(reference, broken) > 1000
    assert 0 < divergence(broken, reference) < 3
    assert divergence(floats(1, 2, np.inf), broken) == 0
