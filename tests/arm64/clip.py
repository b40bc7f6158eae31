"""A clip of scenes with tags, and vpt-watch on it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import numpy as np
from exports import bundle_name
from golden import TAGS
from PIL import Image

CLIP = "clip.mp4"
LINES = "watch.jsonl"
WATCHING = bundle_name(TAGS, "fp32", "onnxruntime", "float")
SHOWN = 2  # frames of each scene, a second
SCENES = 2


def choose_scenes(folder: Path) -> list[dict[str, str]]:
    """Lines of `arm64.bundles`' data with one question that is right for all: where nothing is
    right, what is said hangs on the last bit of a pixel.
    """
    by_question = dict[str, list[dict[str, str]]]()
    for line in (folder / "data.jsonl").read_text().splitlines():
        entry = json.loads(line)
        if entry["perception"] == "region":
            by_question.setdefault(entry["question"], []).append(entry)
    entries = max(by_question.values(), key=len)
    assert len(entries) >= SCENES
    return entries[:SCENES]


def write_clip(folder: Path) -> None:
    """``CLIP`` of the chosen scenes that `arm64.bundles` drew into ``folder``."""
    entries = choose_scenes(folder)
    scenes = [Image.open(folder / entry["image"]).convert("RGB") for entry in entries]
    with av.open(str(folder / CLIP), "w") as container:
        stream = container.add_stream("libx264", rate=SHOWN)
        stream.width = scenes[0].width
        stream.height = scenes[0].height
        stream.pix_fmt = "yuv420p"
        for scene in scenes:
            for _ in range(SHOWN):
                frame = av.VideoFrame.from_ndarray(np.asarray(scene), format="rgb24")
                container.mux(stream.encode(frame))
        container.mux(stream.encode())


def watch_clip(bundle: Path, lines: Path) -> list[dict[str, Any]]:
    """What vpt-watch writes to ``lines`` about each frame of the clip beside ``bundle``."""
    lines.unlink(missing_ok=True)  # of an earlier run: it would go on behind them
    folder = bundle.parent
    entry = choose_scenes(folder)[0]
    command = [str(Path(sys.executable).parent / "vpt-watch"), "--each", f"--jsonl={lines}"]
    command += [f"--perception={entry['perception']}", str(bundle), str(folder / CLIP)]
    subprocess.run([*command, entry["question"]], check=True)
    return list(map(json.loads, lines.read_text().splitlines()))
