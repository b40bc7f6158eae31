"""A clip of the demo's scenes, and vpt-watch on it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

CLIP = "clip.mp4"
LINES = "watch.jsonl"
SHOWN = 2  # frames of each scene, a second
SCENES = 2


def write_clip(folder: Path) -> None:
    """``CLIP`` of the first scenes that `arm64.bundles` drew into ``folder``."""
    scenes = [Image.open(folder / f"{index}.png").convert("RGB") for index in range(SCENES)]
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
    folder = bundle.parent
    entry = json.loads((folder / "data.jsonl").read_text().splitlines()[0])
    command = [str(Path(sys.executable).parent / "vpt-watch"), "--each", f"--jsonl={lines}"]
    command += [f"--perception={entry['perception']}", str(bundle), str(folder / CLIP)]
    subprocess.run([*command, entry["question"]], check=True)
    return list(map(json.loads, lines.read_text().splitlines()))
