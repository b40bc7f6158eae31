"""How many visual tokens of real videos are still, what leaving them out saves, and what it costs.

PYTHONPATH=tests/typing:tests:demo:. python -m benchmarks.still_tokens build/tags-bundle-fp32 \\
    --out build/still-tokens

The videos are those of ``images`` in the folder VPT_SHARED; without it there is the third table
alone. Seconds are of the processor, all threads together, and of a tower and a language model of
medium size with random weights: they tell what is computed, not how long a real model takes. No
model at hand was trained on frames: so that of tests/tags is asked about single pictures of moving
scenes, and about the same pictures with the pixels of each visual token as they were last shown.
"""

from __future__ import annotations

import argparse
import itertools
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from families import CONFIGS, write_checkpoint
from PIL import Image

from vpt_edge import live
from vpt_edge.export.exporter import export
from vpt_edge.live.source import each_frame
from vpt_edge.runtime import Frames, Pipeline
from vpt_edge.runtime.manifest import ImageConfig
from vpt_edge.runtime.models import qwen2_vl, qwen3_vl
from vpt_edge.runtime.still import find_changed_pixels

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from vpt_edge.live.frame import Frame
    from vpt_edge.runtime.image import Patches
    from vpt_edge.runtime.processor import Processor

VIDEOS = ("cockatoo.mp4", "car-detection.mp4")
RATES = (2.0, 8.0)  # frames a second
LIMITS = (0.05, 0.1, 0.2, 0.4)  # of normalized pixels
SHOWN = ImageConfig(None, 3136, 150_528)  # 196 visual tokens of 28x28 pixels
CLIP = 16  # frames of a question
SCENES = "scenes://?seed=31&rate=2&hold=3&tag=red"
QUESTION = "Which letter is on the red tag?"
SIDE = 32  # pixels of a visual token of a scene
MEDIUM: dict[str, dict[str, object]] = {  # of Qwen3-VL
    "text_config": {
        "hidden_size": 512,
        "intermediate_size": 1536,
        "num_attention_heads": 16,
        "num_key_value_heads": 4,
        "num_hidden_layers": 8,
    },
    "vision_config": {
        "depth": 12,
        "hidden_size": 512,
        "intermediate_size": 2048,
        "num_heads": 8,
        "out_hidden_size": 512,
        "deepstack_visual_indexes": [2, 5, 8],
    },
}


class Cost(NamedTuple):
    """Of a question about a clip: seconds of the processor, encoder runs and visual tokens."""

    seconds: float
    vision_runs: int
    dropped: int
    prompt: int


def read(address: str, count: int | None = None) -> Iterator[Frame]:
    with live.open(address) as source:
        for number, frame in enumerate(each_frame(source)):
            if number == count:
                return
            yield frame


def read_video(path: Path, rate: float) -> list[Image.Image]:
    """The frames of a video, so many a second at most."""
    pictures = list[Image.Image]()
    due = 0.0
    for frame in read(str(path)):
        if frame.position >= due - 1e-3:
            pictures.append(frame.image)
            due += 1 / rate
    return pictures


def pair_patches(pictures: Sequence[Image.Image], processor: Processor) -> Iterator[Patches]:
    for first, second in zip(pictures[::2], pictures[1::2], strict=False):
        yield processor.preprocess(first, SHOWN, second)


def measure_shares(pictures: Sequence[Image.Image], processor: Processor) -> list[str]:
    """For each limit the share of visual tokens dropped, and of pairs that are not encoded."""
    patches = list(pair_patches(pictures, processor))
    cells = list[str]()
    for limit in LIMITS:
        shown = list[float]()
        skipped = 0
        for before, now in itertools.pairwise(patches):
            tokens = len(now.values) // 4
            changed = len(find_changed_pixels(now, before, limit))
            shown.append(changed / tokens)
            skipped += changed == 0
        cells.append(f"{1 - np.mean(shown):.0%} ({skipped / len(shown):.0%})")
    return cells


def print_shares(videos: Sequence[Path]) -> None:
    print(f"| video | tower | frames a second | {' | '.join(map(str, LIMITS))} |")
    print(f"|---|---|---:|{'---:|' * len(LIMITS)}")
    towers = {"qwen2_vl": qwen2_vl.PROCESSOR, "qwen3_vl": qwen3_vl.PROCESSOR}
    for path in videos:
        for rate in RATES:
            pictures = read_video(path, rate)
            for name, processor in towers.items():
                cells = " | ".join(measure_shares(pictures, processor))
                print(f"| {path.name} | {name} | {rate:g} | {cells} |", flush=True)


def export_medium(folder: Path) -> Path:
    """A bundle of medium size, made once."""
    bundle = folder / "medium"
    if not bundle.exists():
        changes = {name: {**CONFIGS["qwen3_vl"][name], **part} for name, part in MEDIUM.items()}
        source = write_checkpoint(folder / "checkpoint", "qwen3_vl", **changes)
        export(str(source), bundle, precision="fp32")
    return bundle


def ask(pipeline: Pipeline, clip: Frames, limit: float | None) -> Cost:
    pipeline.forget()
    begin = time.process_time()
    answer = pipeline.ask(
        clip, "What happens?", max_new_tokens=1, max_pixels=SHOWN.max_pixels, still_pixels=limit
    )
    seconds = time.process_time() - begin
    usage = answer.usage
    return Cost(seconds, usage.vision_runs, usage.dropped_tokens, usage.prompt_tokens)


def print_costs(videos: Sequence[Path], bundle: Path) -> None:
    print("| video | limit | tokens of the prompt | dropped | encoder runs | s | s a frame saved |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    with Pipeline(bundle) as pipeline:
        for path in videos:
            pictures = read_video(path, RATES[0])[:CLIP]
            clip = Frames(pictures, [number / RATES[0] for number in range(len(pictures))])
            ask(pipeline, clip, None)
            whole = ask(pipeline, clip, None)
            for limit in (None, *LIMITS):
                cost = whole
                if limit is not None:
                    cost = ask(pipeline, clip, limit)
                saved = (whole.seconds - cost.seconds) / len(pictures)
                print(
                    f"| {path.name} | {limit} | {cost.prompt} | {cost.dropped} | "
                    f"{cost.vision_runs} | {cost.seconds:.2f} | {saved:.3f} |",
                    flush=True,
                )


def rebuild(pictures: Sequence[Image.Image], limit: float) -> tuple[list[Image.Image], float]:
    """Each picture with the pixels of its visual tokens as they were last shown, and the share that
    was dropped of all but the first.
    """
    processor = qwen2_vl.PROCESSOR
    shown = ImageConfig(None, 3136, 448 * 448)  # 16x16 visual tokens of a scene of 512x512
    canvas = np.array(pictures[0])
    rebuilt = [pictures[0]]
    dropped = list[float]()
    before = processor.preprocess(pictures[0], shown)
    for picture in pictures[1:]:
        patches = processor.preprocess(picture, shown)
        changed = find_changed_pixels(patches, before, limit)
        before = patches
        paint(canvas, np.asarray(picture), changed)
        rebuilt.append(Image.fromarray(canvas))
        dropped.append(1 - len(changed) / (len(patches.values) // 4))
    return rebuilt, float(np.mean(dropped))


def paint(canvas: NDArray[np.uint8], pixels: NDArray[np.uint8], places: NDArray[np.int64]) -> None:
    """Copy the visual tokens at ``places`` of ``pixels`` into ``canvas``."""
    columns = canvas.shape[1] // SIDE
    for place in places.tolist():
        row, column = divmod(place, columns)
        window = np.s_[row * SIDE : (row + 1) * SIDE, column * SIDE : (column + 1) * SIDE]
        canvas[window] = pixels[window]


def print_answers(bundle: str, count: int) -> None:
    print("| limit | tokens dropped | equal answers | right | right of whole pictures |")
    print("|---:|---:|---:|---:|---:|")
    frames = list(read(SCENES, count))
    pictures = [frame.image for frame in frames]
    truths = [frame.truth[QUESTION] for frame in frames]
    with Pipeline(bundle) as pipeline:

        def answer_all(asked: Sequence[Image.Image]) -> list[str]:
            texts = list[str]()
            for picture in asked:
                texts.append(pipeline.ask(picture, QUESTION, perception="region").text)
            return texts

        answers = answer_all(pictures)
        for limit in LIMITS:
            rebuilt, dropped = rebuild(pictures, limit)
            others = answer_all(rebuilt)
            cells = [f"{limit}", f"{dropped:.0%}", f"{count_equal(others, answers)} of {count}"]
            cells += [str(count_equal(others, truths)), str(count_equal(answers, truths))]
            print(f"| {' | '.join(cells)} |", flush=True)


def count_equal(texts: Sequence[str], others: Sequence[str]) -> int:
    return sum(text == other for text, other in zip(texts, others, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description="Still visual tokens: shares, costs, answers.")
    parser.add_argument("bundle", help="of tests/tags")
    parser.add_argument("--out", type=Path, required=True, help="folder for the medium model")
    parser.add_argument("--count", type=int, default=100, help="pictures of moving scenes")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    shared = Path(os.environ.get("VPT_SHARED", Path(__file__).parents[2] / "shared"))
    videos = [path for name in VIDEOS if (path := shared / "images" / name).is_file()]
    if videos:
        print_shares(videos)
        print()
        print_costs(videos, export_medium(options.out))
        print()
    else:
        print(f"no videos in {shared / 'images'}; set VPT_SHARED")
    print_answers(options.bundle, options.count)


if __name__ == "__main__":
    main()
