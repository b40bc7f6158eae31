"""How good an answer is against the true one or the reference's, and how sure a mean of that is."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from vpt_edge.runtime.errors import VptError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vpt_edge.runtime.image import Box

Metric: TypeAlias = Callable[[str, str], float]

DRAWS = 2000
ANLS_THRESHOLD = 0.5
REMOVED = -1e4  # for logits that are no numbers, which the sampler never chooses
ARTICLES = ("a", "an", "the")
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
DIGITS = {"none": "0", **{word: str(number) for number, word in enumerate(NUMBERS)}}
DROPPED = re.compile(r"['\u2019]|(?<=\d),(?=\d)|\.(?!\d)")
PUNCTUATION = re.compile(r"""[][;/"{}()=+\\_<>@`,?!-]""")
YES_NO = re.compile(r"\b(yes|no)\b")


def normalise(text: str) -> str:
    """``text`` as VQA's evaluation compares it: lower case, digits for number words, no
    punctuation, no articles.

    A text of articles only keeps them: "A" is the answer where letters are asked for.
    """
    words = _words(text)
    without_articles = [word for word in words if word not in ARTICLES]
    return " ".join(without_articles or words)


def _words(text: str) -> list[str]:
    text = PUNCTUATION.sub(" ", DROPPED.sub("", text.lower()))
    return [DIGITS.get(word, word) for word in text.split()]


def exact(answer: str, truth: str) -> float:
    """1 for the same text, but for white space around it."""
    return float(answer.strip() == truth.strip())


def vqa(answer: str, truth: str) -> float:
    """1 for the same words after VQA's normalisation."""
    words = normalise(truth)
    if not words:
        return exact(answer, truth)
    return float(normalise(answer) == words)


def contains(answer: str, truth: str) -> float:
    """1 if the normalised answer has the truth's words in it, one after the other."""
    words = normalise(truth)
    if not words:
        return float(truth.strip() in answer)
    texts = (normalise(answer), " ".join(_words(answer)))
    return float(any(f" {words} " in f" {text} " for text in texts))


def anls(answer: str, truth: str) -> float:
    """1 less the edit distance over the longer length, in lower case; 0 from half of that length
    on.
    """
    first = " ".join(answer.lower().split())
    second = " ".join(truth.lower().split())
    distance = levenshtein(first, second) / max(len(first), len(second), 1)
    if distance >= ANLS_THRESHOLD:
        return 0.0
    return 1 - distance


def yesno(answer: str, truth: str) -> float:
    """1 if the first yes or no in the answer is the truth's.

    Raises VptError for a truth that is neither.
    """
    expected = YES_NO.search(truth.lower())
    if expected is None:
        raise VptError(
            f"the true answer {truth!r} is neither yes nor no", "choose another metric than yesno"
        )
    match = YES_NO.search(answer.lower())
    return float(match is not None and match[1] == expected[1])


METRICS: dict[str, Metric] = {
    "exact": exact,
    "vqa": vqa,
    "anls": anls,
    "yesno": yesno,
    "contains": contains,
}


def levenshtein(first: str, second: str) -> int:
    """How many letters must be put in, taken out or changed to make one text the other."""
    row = list(range(len(second) + 1))
    for index, letter in enumerate(first, 1):
        corner = row[0]
        row[0] = index
        for column, other in enumerate(second, 1):
            step = min(row[column] + 1, row[column - 1] + 1, corner + (letter != other))
            corner = row[column]
            row[column] = step
    return row[-1]


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % confidence interval of the mean of ``values``, by a bootstrap that draws alike each
    time.
    """
    if not values:
        raise VptError("no values to take a mean of, expected one at least")
    array = np.asarray(values, np.float64)
    rng = np.random.default_rng(0)
    means = [array[rng.integers(0, len(array), len(array))].mean() for _ in range(DRAWS)]
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)


def paired_interval(values: Sequence[float], others: Sequence[float]) -> tuple[float, float]:
    """The 95 % confidence interval of mean(values) - mean(others), both over the same samples in
    the same order.
    """
    return interval([value - other for value, other in zip(values, others, strict=True)])


def divergence(reference: NDArray[np.float32], logits: NDArray[np.float32]) -> float:
    """Kullback-Leibler divergence of softmax(logits) from softmax(reference), both (vocabulary,),
    in nats.
    """
    log_p = _log_softmax(reference)
    log_q = _log_softmax(logits)
    return max(0.0, float((np.exp(log_p) * (log_p - log_q)).sum()))


def _log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    values = np.where(np.isfinite(logits), logits, REMOVED).astype(np.float64)
    values -= values.max()
    return values - np.log(np.exp(values).sum())


def overlap(cells: Sequence[Box], others: Sequence[Box]) -> float:
    """Mean intersection over union of the regions in order; a region without its counterpart
    overlaps by 0.
    """
    if not cells and not others:
        return 1.0
    ious = [_iou(one, other) for one, other in zip_longest(cells, others)]
    return sum(ious) / len(ious)


def _iou(one: Box | None, other: Box | None) -> float:
    """Of cells (x0, y0, x1, y1), inclusive."""
    if one is None or other is None:
        return 0.0
    width = min(one[2], other[2]) - max(one[0], other[0]) + 1
    height = min(one[3], other[3]) - max(one[1], other[1]) + 1
    common = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (one, other)]
    return common / (sum(areas) - common)
