"""Watch moving scenes with the demo's bundle: a line an answer, a video with the answers drawn in,
and a sheet of its pictures.

python demo/live.py build/demo-bundle-fp32 --out build/demo
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image

from vpt_edge import live, runtime
from vpt_edge.live.overlay import Overlay
from vpt_edge.live.sinks.outputs import Outputs
from vpt_edge.live.sinks.video import Video
from vpt_edge.live.tee import Tee

SCENES = "scenes://?seed=26&rate=25&hold=3&tag=red"
QUESTION = "Which letter is on the red tag?"
EVERY = 1.0  # seconds
COLUMNS = 4
SIDE = 384  # pixels of a picture on the sheet
GAP = 8


def main() -> None:
    parser = argparse.ArgumentParser(description="Watch moving scenes, answered as they come.")
    parser.add_argument("bundle")
    parser.add_argument("--out", type=Path, required=True, help="folder for video and sheet")
    parser.add_argument("--count", type=int, default=16, help="answers")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    video = options.out / "live.mp4"
    sheet = options.out / "live.png"
    pictures = []
    right = 0
    with (
        runtime.Pipeline(options.bundle) as pipeline,
        live.open(SCENES) as source,
        Outputs([("video", Video(video, source.name))]) as outputs,
    ):
        watched = Tee(source, outputs.put)
        answers = live.watch(pipeline, watched, QUESTION, every=EVERY, perception="region")
        for seen in answers:
            outputs.put(seen)
            pictures.append(draw(seen))
            truth = seen.frame.truth[seen.question]
            right += int(seen.answer.text == truth)
            age = f"{1000 * seen.age_at_end:3.0f} ms after the picture"
            print(f"{seen.frame.position:5.1f} s  {seen.answer.text}  (truth: {truth})  {age}")
            if len(pictures) == options.count:
                break
    join(pictures).save(sheet)
    print(f"{right} of {len(pictures)} answers are right")
    print(f"video     {video}")
    print(f"sheet     {sheet}")


def draw(seen: live.Seen) -> Image.Image:
    """The frame that was asked about, with its answer."""
    overlay = Overlay()
    overlay.add(seen)
    return overlay.draw(seen.frame)


def join(pictures: list[Image.Image]) -> Image.Image:
    """All of them on one sheet."""
    step = SIDE + GAP
    rows = -(-len(pictures) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * step + GAP, rows * step + GAP), "white")
    for index, picture in enumerate(pictures):
        row, column = divmod(index, COLUMNS)
        small = picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        sheet.paste(small, (GAP + column * step, GAP + row * step))
    return sheet


if __name__ == "__main__":
    main()
