"""The table of what a smaller first view saves."""

from __future__ import annotations

from dataclasses import replace

from answers import USAGE, answer

from benchmarks.first_view import COLUMNS, USUAL, Cost, read_cost, table
from vpt_edge.runtime.result import Turn


def test_shares_are_of_the_same_round() -> None:
    """Of the machine's slow round both are slow: the share of it says nothing of that."""
    usual = [Cost(252, (4.0,) * 5), Cost(252, (40.0,) * 5), Cost(252, (4.4,) * 5)]
    small = [Cost(108, (2.0,) * 5), Cost(108, (20.0,) * 5), Cost(108, (2.2,) * 5)]
    head, _, *rows = table({USUAL: usual, "small": small})
    assert head.count("|") == len(COLUMNS) + 3
    assert rows[0] == "| as exported | 252 | " + " | ".join(["4.40 s, 100%"] * 5) + " |"
    assert rows[1] == "| small | 108 | " + " | ".join(["2.20 s, 50%"] * 5) + " |"


def test_the_total_counts_once() -> None:
    seconds = {"preprocess": 0.5, "vision": 2.0, "prefill": 1.0, "decode": 0.5, "total": 4.0}
    usage = replace(USAGE, seconds=seconds, first_token_seconds=(2.5, 1.0))
    turns = (Turn((7, 9, 9, 8), (1,), ""), Turn((7, 9, 9, 8, 1, 9, 9, 9, 8), (1,), ""))
    cost = read_cost(replace(answer(), turns=turns, usage=usage), pad=9)
    assert cost == Cost(2, (2.0, 1.0, 2.5, 1.0, 4.0))
