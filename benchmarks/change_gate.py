"""What does the change gate cost a frame, and how many does it let through?

PYTHONPATH=tests/typing:. python -m benchmarks.change_gate street.mp4 bird.mp4 --size 1920x1080

Each frame is scaled to the size in memory, and held against the last one that was let through: as
its decoder leaves it (YUV, of a clip or a network camera), and as an array (RGB, of a CSI camera).
"""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING

import av
import numpy as np

from vpt_edge.live.change import ChangeGate
from vpt_edge.live.decoder import VideoRaster
from vpt_edge.live.frame import ArrayRaster, Frame

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vpt_edge.live.frame import Raster


def read(clip: str, size: str) -> Iterator[av.VideoFrame]:
    with av.open(clip) as container:
        for frame in container.decode(video=0):
            if size:
                width, height = map(int, size.split("x"))
                frame = frame.reformat(width, height, format="yuv420p")
            yield frame


class Trial:
    """One gate before frames of one kind."""

    def __init__(self) -> None:
        self.passed = 0
        self.seconds = list[float]()
        self._gate = ChangeGate()

    def take(self, number: int, raster: Raster) -> None:
        frame = Frame(number, 0.0, 0.0, 0.0, "clip", raster)
        begin = time.process_time()
        is_open = self._gate.is_open(frame)
        self.seconds.append(time.process_time() - begin)
        if is_open:
            self.passed += 1
            self._gate.remember(frame)

    def describe(self) -> str:
        milliseconds = 1000 * np.array(self.seconds)
        share = 100 * self.passed / len(self.seconds)
        return (
            f"{share:.0f} % of {len(self.seconds)} frames; median {np.median(milliseconds):.2f}, "
            f"mean {milliseconds.mean():.2f} ms of CPU a frame"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("clip", nargs="+")
    parser.add_argument("--size", default="", help="such as 1920x1080; the clip's own")
    options = parser.parse_args()
    for clip in options.clip:
        decoded = Trial()
        arrays = Trial()
        for number, frame in enumerate(read(clip, options.size)):
            raster = VideoRaster(frame)
            decoded.take(number, raster)
            arrays.take(number, ArrayRaster(raster.to_rgb()))
        print(f"{clip}, decoded: {decoded.describe()}")
        print(f"{clip}, arrays: {arrays.describe()}")


if __name__ == "__main__":
    main()
