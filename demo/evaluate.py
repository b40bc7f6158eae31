"""How well a bundle reads signs that nobody has seen: with a look and without, by length of text.

python demo/evaluate.py build/demo-bundle-fp32 --count 2000

Photographs and typefaces are those that training never sees.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections import Counter
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from vpt_edge import runtime
from vpt_edge.commands.bar import Bar
from vpt_edge.commands.console import exit_code
from vpt_edge.live.signs.grounds import Grounds, find_photographs, find_pictures
from vpt_edge.live.signs.layout import SIDES, Conditions, lay_out
from vpt_edge.live.signs.painter import Painter
from vpt_edge.live.signs.questions import ASK, ask_each
from vpt_edge.live.signs.words import LONGEST, SHORTEST

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from PIL import Image

    from vpt_edge.live.signs.questions import Sample
    from vpt_edge.runtime.encoded_picture import EncodedPicture
    from vpt_edge.runtime.perception.actions import Mode

    Asked = tuple[Image.Image, list[Sample]]

SEED = 77_000_001
LONGEST_ANSWER = 16  # tokens
OTHERS = (("place", "reencode"), ("colour", "free"), ("there", "free"))
Name = tuple[Any, ...]  # a kind of question, how it is asked, and the length of a text that is read


class Tally:
    """Answers counted by a name: how many, how many right, and of how many characters."""

    def __init__(self) -> None:
        self._asked = Counter[Name]()
        self._right = Counter[Name]()
        self._characters = Counter[Name]()
        self._known = Counter[Name]()

    def add(self, name: Name, answer: str, truth: str) -> None:
        self._asked[name] += 1
        self._right[name] += int(answer == truth)
        self._characters[name] += max(len(answer), len(truth))
        self._known[name] += count_equal(answer, truth)

    def names(self) -> list[Name]:
        return sorted(self._asked, key=str)

    def asked(self, name: Name) -> int:
        return self._asked[name]

    def right(self, name: Name) -> float:
        """The share of answers that are exactly right."""
        return self._right[name] / max(self._asked[name], 1)

    def characters(self, name: Name) -> float:
        """The share of characters that are right, in their place."""
        return self._known[name] / max(self._characters[name], 1)


def count_equal(answer: str, truth: str) -> int:
    return sum(mine == its for mine, its in zip(answer, truth, strict=False))


def draw_scenes(seed: int, folder: Path | None = None) -> Iterator[Asked]:
    """Pictures, without end, that stand in the photographs of the test or those of ``folder``, with
    a question of each kind.
    """
    paths = find_photographs("test") if folder is None else find_pictures(folder)
    grounds = Grounds(paths)
    rng = Random(seed)
    while True:
        scene = lay_out(rng, rng.choice(SIDES), Conditions("test"))
        yield Painter(scene, grounds).picture(), ask_each(scene, rng)


def evaluate(pipeline: runtime.Pipeline, scenes: Iterable[Asked], count: int) -> Tally:
    """Every question as the model has learned it, and those of texts without a look too."""
    tally = Tally()
    with Bar() as bar:
        for index, (picture, samples) in enumerate(itertools.islice(scenes, count)):
            with pipeline.encode(picture) as encoded:
                for kind, sample in zip(ASK, samples, strict=True):
                    ask(encoded, kind, sample, tally)
            bar.show("scenes", (index + 1) / count)
    return tally


def ask(encoded: EncodedPicture, kind: str, sample: Sample, tally: Tally) -> list[runtime.Answer]:
    """In each of its modes."""
    length = len(sample.answer)
    answers = list[runtime.Answer]()
    for mode in modes_of(sample):
        answer = encoded.ask(sample.question, perception=mode, max_new_tokens=LONGEST_ANSWER)
        tally.add((kind, mode), answer.text, sample.answer)
        if kind == "read":
            tally.add((kind, mode, length), answer.text, sample.answer)
        answers.append(answer)
    return answers


def modes_of(sample: Sample) -> tuple[Mode, ...]:
    if sample.perception == "region":
        return ("region", "off")
    return (sample.perception,)


def print_table(tally: Tally) -> None:
    """Of what is read by length of text, then of the other questions."""
    print("| characters | asked | read exactly | without a look | characters right | without |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for length in range(SHORTEST, LONGEST + 1):
        print_row(str(length), tally, (length,))
    print_row("all", tally, ())
    print("\n| question | asked | right |\n| --- | ---: | ---: |")
    for kind, mode in OTHERS:
        name = (kind, mode)
        print(f"| {kind} | {tally.asked(name)} | {tally.right(name):.1%} |")


def print_row(title: str, tally: Tally, length: tuple[int, ...]) -> None:
    looked = ("read", "region", *length)
    at_once = ("read", "off", *length)
    shares = (
        *(tally.right(looked), tally.right(at_once)),
        *(tally.characters(looked), tally.characters(at_once)),
    )
    cells = [f"{share:.1%}" for share in shares]
    print(f"| {title} | {tally.asked(looked)} | {' | '.join(cells)} |")


def as_json(tally: Tally, count: int) -> str:
    rows = {}
    for name in tally.names():
        title = " ".join(map(str, name))
        rows[title] = {
            "asked": tally.asked(name),
            "right": tally.right(name),
            "characters": tally.characters(name),
        }
    return json.dumps({"scenes": count, "questions": rows})


def main() -> None:
    parser = argparse.ArgumentParser(description="How well a bundle reads signs.")
    parser.add_argument("bundle")
    parser.add_argument("--count", type=int, default=2000, help="scenes, with four questions each")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--grounds", type=Path, help="folder of pictures in which signs stand")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    scenes = draw_scenes(options.seed, options.grounds)
    with runtime.Pipeline(options.bundle) as pipeline:
        tally = evaluate(pipeline, scenes, options.count)
    if options.json:
        print(as_json(tally, options.count))
        return
    print(f"{options.count} scenes, seed {options.seed}\n")
    print_table(tally)


if __name__ == "__main__":
    sys.exit(exit_code(main))
