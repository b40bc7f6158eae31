"""What a first view of fewer pixels or of fewer visual tokens saves of a question with one look.

    PYTHONPATH=tests/typing:tests:demo:. python -m benchmarks.first_view build/first-view

An INT8 bundle of Qwen2-VL-2B's shape with random weights, made there where it is missing; 640x480,
the look and the answer's tokens given. Every round asks in each way once, in turn, with nothing
kept from the question before. Prints a table in Markdown: medians of seconds, and medians of ratios
within a round.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from benchmarks.big_tokenizer import write_tokenizer
from benchmarks.bundles import sparse_checkpoint, write_hollow
from benchmarks.question import REGION, Question
from benchmarks.shape import fill
from vpt_edge.export.checkpoint import Checkpoint

if TYPE_CHECKING:
    from vpt_edge.runtime.options import AskOptions
    from vpt_edge.runtime.result import Answer

USUAL = "as exported"
SMALL = 336 * 252
WAYS: dict[str, AskOptions] = {
    USUAL: {},
    "336x252": {"first_max_pixels": SMALL},
    "DART, half of the tokens": {"first_token_share": 0.5},
    "336x252, DART": {"first_max_pixels": SMALL, "first_token_share": 0.5},
}
COLUMNS = ("vision", "prefill", "to the first token", "the look", "whole answer")


class Cost(NamedTuple):
    """Of one answer: ``tokens`` of the first view, and ``seconds`` by COLUMNS: encoder and prefill
    of all turns, the wait for the first turn's first token, and from the end of that turn to the
    next one's.
    """

    tokens: int
    seconds: tuple[float, ...]


def measure(question: Question, rounds: int) -> dict[str, list[Cost]]:
    """The costs of each way; the first round warms up and is left out."""
    costs: dict[str, list[Cost]] = {way: [] for way in WAYS}
    pad = question.pipeline.bundle.manifest.tokens.image_pad
    for index in range(rounds + 1):
        for way, budget in WAYS.items():
            question.pipeline.forget()
            answer = question.ask(REGION, budget)
            if index:
                costs[way].append(read_cost(answer, pad))
    return costs


def read_cost(answer: Answer, pad: int) -> Cost:
    """The cost of ``answer``; ``pad``: the token that stands for a picture's."""
    stages = answer.usage.seconds
    first, look = answer.usage.first_token_seconds
    seconds = (stages["vision"], stages["prefill"], first, look, stages["total"])
    return Cost(answer.turns[0].prompt_ids.count(pad), seconds)


def table(costs: dict[str, list[Cost]]) -> list[str]:
    """The lines of the table."""
    usual = np.array([cost.seconds for cost in costs[USUAL]])
    lines = ["| first view | tokens | " + " | ".join(COLUMNS) + " |"]
    lines.append("|---|---:|" + "---:|" * len(COLUMNS))
    for way, rows in costs.items():
        seconds = np.array([cost.seconds for cost in rows])
        medians = np.median(seconds, axis=0)
        shares = np.median(seconds / usual, axis=0)
        cells = [f"{a:.2f} s, {b:.0%}" for a, b in zip(medians, shares, strict=True)]
        lines.append(f"| {way} | {rows[0].tokens} | " + " | ".join(cells) + " |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description="What a smaller first view saves of a question.")
    parser.add_argument("bundle", type=Path, help="made where it is missing")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if not options.bundle.exists():
        with tempfile.TemporaryDirectory() as work:
            sparse_checkpoint(Path(work))
            write_tokenizer("clip", Path(work))  # with prompts of the released models' length
            checkpoint = Checkpoint.open(work)
            write_hollow(checkpoint, "int8", "onnxruntime", options.bundle)
        fill(options.bundle)
    question = Question(options.bundle)
    costs = measure(question, options.rounds)
    question.close()
    print("\n".join(table(costs)))


if __name__ == "__main__":
    main()
