"""Write pictures of signs, the questions about them, where each sign is, and a sheet; or a video.

python demo/scenes.py --seed 7 --count 24 --out build/signs
python demo/scenes.py --seed 7 --seconds 20 --out build/signs

data.jsonl has one question of each kind about each picture, as vpt-eval and vpt-export read them.
signs.jsonl has a line for each picture: its signs with text, kind, colour, typeface, cell and box
(left, top, right, bottom in pixels). signs.mp4 is a camera that pans; truth.jsonl has a line for
each of its seconds, with the right answers.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, get_args

from PIL import Image, ImageDraw
from sheet import TILE, Line, draw_captioned, join

from vpt_edge.commands.console import exit_code
from vpt_edge.live.signs.geometry import box_of
from vpt_edge.live.signs.grounds import Grounds, find_photographs, find_pictures
from vpt_edge.live.signs.layout import SIDES, Conditions, lay_out
from vpt_edge.live.signs.moving import MovingSigns
from vpt_edge.live.signs.painter import Painter
from vpt_edge.live.signs.questions import ask_each
from vpt_edge.live.signs.sign import Part
from vpt_edge.live.sinks.mp4 import Mp4

if TYPE_CHECKING:
    from vpt_edge.live.signs.questions import Sample
    from vpt_edge.live.signs.sign import Scene

RATE = 15  # pictures a second of the video


def main() -> None:
    parser = argparse.ArgumentParser(description="Write pictures of signs with their truth.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=24, help="pictures to write")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--part", choices=get_args(Part), default="test", help="fonts, photographs")
    parser.add_argument("--side", type=int, choices=SIDES, help="pixels, by lot if it is not given")
    parser.add_argument("--grounds", type=Path, help="folder of pictures in which signs stand")
    parser.add_argument("--seconds", type=float, default=0, help="of a video, instead of pictures")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.seconds:
        write_video(options)
    else:
        write_pictures(options)


def write_pictures(options: argparse.Namespace) -> None:
    paths = find_photographs(options.part)
    if options.grounds is not None:
        paths = find_pictures(options.grounds)
    grounds = Grounds(paths)
    rng = Random(options.seed)
    conditions = Conditions(options.part)
    tiles = list[Image.Image]()
    with (
        (options.out / "data.jsonl").open("w", encoding="utf-8") as questions,
        (options.out / "signs.jsonl").open("w", encoding="utf-8") as places,
    ):
        for index in range(options.count):
            scene = lay_out(rng, options.side or rng.choice(SIDES), conditions)
            picture = Painter(scene, grounds).picture()
            name = f"{index:05}.png"
            picture.save(options.out / name)
            samples = ask_each(scene, rng)
            for sample in samples:
                questions.write(json.dumps(question_line(name, sample)) + "\n")
            places.write(json.dumps(place_line(name, scene)) + "\n")
            tiles.append(draw_tile(picture, scene, samples))
    join(tiles).save(options.out / "sheet.png")
    print(f"{options.count} pictures  {options.out}")
    print(f"sheet  {options.out / 'sheet.png'}")


def question_line(name: str, sample: Sample) -> dict[str, Any]:
    return {
        "image": name,
        "question": sample.question,
        "answer": sample.answer,
        "perception": sample.perception,
    }


def place_line(name: str, scene: Scene) -> dict[str, Any]:
    signs = [
        {
            "text": sign.card.text,
            "kind": sign.card.kind,
            "colour": sign.card.colour,
            "face": sign.card.face,
            "cell": sign.cell,
            "box": box_of(sign, scene.side),
        }
        for sign in scene.signs
    ]
    return {"image": name, "side": scene.side, "signs": signs}


def draw_tile(picture: Image.Image, scene: Scene, samples: list[Sample]) -> Image.Image:
    """A small picture with the boxes of its signs, and questions with their answers under it."""
    marked = picture.resize((TILE, TILE), Image.Resampling.LANCZOS)
    pencil = ImageDraw.Draw(marked)
    scale = TILE / scene.side
    for sign in scene.signs:
        left, top, right, bottom = box_of(sign, scene.side)
        pencil.rectangle((left * scale, top * scale, right * scale, bottom * scale), None, "cyan")
    lines = [Line(f"{sample.question} {sample.answer}") for sample in samples]
    return draw_captioned(marked, lines)


def write_video(options: argparse.Namespace) -> None:
    side = options.side or 1024
    signs = MovingSigns(options.seed, side=side, grounds=str(options.grounds or ""))
    path = options.out / "signs.mp4"
    video = Mp4(path, (side, side))
    with (options.out / "truth.jsonl").open("w", encoding="utf-8") as lines:
        for index in range(round(options.seconds * RATE)):
            position = index / RATE
            video.write(Image.fromarray(signs.pixels(position)), position)
            if index % RATE == 0:
                line = {"position": position, "truth": signs.truth(position)}
                lines.write(json.dumps(line) + "\n")
    video.close()
    print(f"video  {path}")


if __name__ == "__main__":
    sys.exit(exit_code(main))
