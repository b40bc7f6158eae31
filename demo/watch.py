"""Watch moving signs with the demo's bundle: a line an answer, a video with the answers drawn in,
and a sheet of its pictures.

python demo/watch.py build/demo-bundle-fp32 --out build/demo
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from sheet import draw_answer, join

from vpt_edge import live, runtime
from vpt_edge.commands.console import exit_code
from vpt_edge.live.sinks.outputs import Outputs
from vpt_edge.live.sinks.video import Video
from vpt_edge.live.tee import Tee

SCENES = "scenes://signs?seed=26&rate=25&hold=4&side=768&tag=red"
QUESTION = "What does the red sign say?"
EVERY = 1.0  # seconds


def main() -> None:
    parser = argparse.ArgumentParser(description="Watch moving scenes, answered as they come.")
    parser.add_argument("bundle")
    parser.add_argument("--out", type=Path, required=True, help="folder for video and sheet")
    parser.add_argument("--count", type=int, default=20, help="answers, one a second")
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
            truth = seen.frame.truth[seen.question]
            pictures.append(draw_answer(seen.answer, truth))
            right += int(seen.answer.text == truth)
            age = f"{1000 * seen.age_at_end:3.0f} ms after the picture"
            print(f"{seen.frame.position:5.1f} s  {seen.answer.text}  (truth: {truth})  {age}")
            if len(pictures) == options.count:
                break
    join(pictures).save(sheet)
    print(f"{right} of {len(pictures)} answers are right")
    print(f"video     {video}")
    print(f"sheet     {sheet}")


if __name__ == "__main__":
    sys.exit(exit_code(main))
