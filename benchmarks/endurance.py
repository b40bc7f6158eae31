"""Many questions in a row: memory does not grow, the cache is never exceeded, the answers are those
of single requests.

PYTHONPATH=demo python benchmarks/endurance.py build/demo-bundle-fp32 --questions 200

A model of random weights never asks for a look: ``--looks`` puts a region into its mouth every
other time.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from evaluate import draw_scenes

from vpt_edge.device.given_look import give_look
from vpt_edge.runtime import Pipeline
from vpt_edge.runtime.manifest import read_manifest

if TYPE_CHECKING:
    from vpt_edge.runtime.result import Turn

WARM = 20  # questions until the allocators have seen every size


def resident() -> tuple[int, int]:
    """Bytes of this process in memory: its own, and those of mapped files, which the system takes
    back at will.
    """
    _, pages, mapped, *_ = map(int, Path("/proc/self/statm").read_text().split())
    return (pages - mapped) * 4096, mapped * 4096


def draw_questions(options: argparse.Namespace) -> list[tuple[Any, str, dict[str, Any]]]:
    """Pictures, questions, and how each is asked."""
    scenes = draw_scenes(options.seed)
    side = (options.side, options.side)
    look = give_look(read_manifest(Path(options.bundle)), side)
    questions: list[tuple[Any, str, dict[str, Any]]] = []
    while len(questions) < options.questions:
        picture, samples = next(scenes)
        picture = picture.resize(side)
        for sample in samples:
            how = {
                "perception": sample.perception,
                "max_new_tokens": options.max_new_tokens,
                "assistant_prefix": "",
            }
            if options.looks and len(questions) % 2:
                how["assistant_prefix"] = look.said
            questions.append((picture, sample.question, how))
    return questions[: options.questions]


def main() -> None:
    parser = argparse.ArgumentParser(description="Ask a bundle many questions in a row.")
    parser.add_argument("bundle")
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--seed", type=int, default=9000)
    parser.add_argument("--side", type=int, default=512, metavar="PIXELS", help="of the pictures")
    parser.add_argument(
        "--looks", action="store_true", help="give a region to every second question"
    )
    parser.add_argument(
        "--max-new-tokens", type=int, default=64, metavar="N", help="for each turn (default 64)"
    )
    options = parser.parse_args()
    asked = draw_questions(options)
    memory: list[tuple[int, int]] = []
    turns: list[tuple[Turn, ...]] = []
    fullest = 0
    with Pipeline(options.bundle) as pipeline:
        capacity = pipeline.bundle.manifest.cache.capacity
        for picture, question, how in asked:
            # Not the answer: it has crops.
            turns.append(pipeline.ask(picture, question, **how).turns)
            fullest = max(fullest, capacity - pipeline._decoder.remaining)
            memory.append(resident())
    different = 0
    with Pipeline(options.bundle) as pipeline:
        for found, (picture, question, how) in zip(turns, asked, strict=True):
            pipeline.forget()
            if pipeline.ask(picture, question, **how).turns != found:
                different += 1
    own, mapped = np.array(memory).T
    slope = float(np.polyfit(range(WARM, len(own)), own[WARM:], 1)[0])
    looks = sum(1 for found in turns if len(found) > 1)
    mib = 2**20
    print(
        f"{len(asked)} questions, {looks} with a look: memory {own[WARM] / mib:.1f} MiB behind the "
        f"first {WARM}, {own[-1] / mib:.1f} MiB at the end, slope {slope:.0f} bytes a question; of "
        f"files {mapped[WARM] / mib:.1f} and {mapped[-1] / mib:.1f} MiB; cache at most {fullest} "
        f"of {capacity}; {different} answers differ from single requests"
    )


if __name__ == "__main__":
    main()
