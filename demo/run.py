"""Ask the demo's bundle about signs in photographs that it never saw: question, look, answer,
truth, an overlay of each picture, and all of them on a sheet.

python demo/run.py build/demo-bundle-fp32 --out build/demo
"""

from __future__ import annotations

import argparse
import sys
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from evaluate import LONGEST_ANSWER, draw_scenes
from sheet import draw_answer, join

from vpt_edge import runtime
from vpt_edge.commands.console import exit_code

if TYPE_CHECKING:
    from PIL import Image

    from vpt_edge.live.signs.questions import Sample

SEED = 2026  # of the scenes


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Ask about unseen signs and draw where the model looked."
    )
    parser.add_argument("bundle")
    parser.add_argument("--out", type=Path, required=True, help="folder for overlays and sheet")
    parser.add_argument("--count", type=int, default=6, help="pictures")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    tiles = []
    right = 0
    asked = 0
    with runtime.Pipeline(options.bundle) as pipeline:
        scenes = islice(draw_scenes(SEED), options.count)
        for index, (picture, samples) in enumerate(scenes):
            for sample in samples:
                answer = ask(pipeline, picture, sample)
                asked += 1
                right += int(answer.text == sample.answer)
                if sample.perception == "region":
                    path = options.out / f"overlay_{index}.png"
                    answer.plot().save(path)
                    tiles.append(draw_answer(answer, sample.answer))
                    print(f"overlay   {path}")
                print()
    print(f"{right} of {asked} answers are right")
    sheet = options.out / "sheet.png"
    join(tiles).save(sheet)
    print(f"sheet     {sheet}")


def ask(pipeline: runtime.Pipeline, picture: Image.Image, sample: Sample) -> runtime.Answer:
    """The answer, which is printed with its looks and the truth."""
    answer = pipeline.ask(
        picture,
        sample.question,
        perception=sample.perception,
        max_new_tokens=LONGEST_ANSWER,
    )
    looks = "; ".join(look.describe() for look in answer.looks)
    print(f"question  {sample.question}")
    print(f"look      {looks or 'one was enough'}")
    print(f"answer    {answer.text}   (truth: {sample.answer})")
    return answer


if __name__ == "__main__":
    sys.exit(exit_code(main))
