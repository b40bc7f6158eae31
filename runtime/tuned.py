"""The proof of a tuned bundle: what vpt-tune measured when it set the budget."""

from __future__ import annotations

from dataclasses import dataclass

from vpt_edge.runtime.fields import Bound, Number, Sha256


@dataclass(frozen=True)
class Tuned:
    """How a setting held against the ``default`` on the user's samples.

    ``default``: the sha256 of what the default's manifest says, its budget apart; ``data``: the
    sha256 of pictures, questions and true answers; ``metric``: how answers were judged. Shares are
    of 1; ``drop`` and its 95 % interval are in points, or without true answers in percent of
    answers that differ, and ``allowed`` is the largest that passes. ``seconds``: the median of a
    whole answer, on the machine that tuned, with so many ``threads``; None: one a core.
    """

    default: Sha256
    data: Sha256
    samples: Bound
    labelled: Bound
    metric: str
    accuracy: Number | None
    default_accuracy: Number | None
    answers_equal: Number
    drop: Number
    drop_interval: tuple[Number, Number]
    allowed: Number
    seconds: Number
    default_seconds: Number
    threads: Bound | None
