"""Clips, written here with PyAV: frame ``index`` is grey, ``LEVEL * index`` bright."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

LEVEL = 4
SIZE = (160, 90)


def write_clip(
    path: Path, count: int = 60, rate: int = 30, size: tuple[int, int] = SIZE, gop: int = 10
) -> Path:
    """H.264 without B frames, its index in front, so that a cut file still opens."""
    options = {}
    if path.suffix == ".mp4":
        options["movflags"] = "faststart"
    with av.open(str(path), "w", options=options) as container:
        settings = {"preset": "ultrafast", "bf": "0", "g": str(gop)}
        stream = container.add_stream("libx264", rate=rate, options=settings)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        for index in range(count):
            level = LEVEL * index % 256
            pixels = np.full((size[1], size[0], 3), level, np.uint8)
            pixels[: size[1] // 2, : size[0] // 2, 0] = 255  # the upper left is red
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts = index
            frame.time_base = Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_clip_with_sound(path: Path, count: int = 30) -> Path:
    """Motion JPEG at 30 a second, and a second of silence."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("mjpeg", rate=30)
        video.width, video.height = SIZE
        video.pix_fmt = "yuvj420p"
        sound = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        for index in range(count):
            level = LEVEL * index % 256
            pixels = np.full((SIZE[1], SIZE[0], 3), level, np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts = index
            frame.time_base = Fraction(1, 30)
            container.mux(video.encode(frame))
            silence = av.AudioFrame.from_ndarray(
                np.zeros((1, 800), np.int16), format="s16", layout="mono"
            )
            silence.sample_rate = 8000
            silence.pts = 800 * index
            container.mux(sound.encode(silence))
        container.mux(video.encode())
        container.mux(sound.encode())
    return path


def level_of(pixels: np.ndarray) -> int:
    """The index of a frame, read from its lower right."""
    return round(float(pixels[-20:, -20:].mean()) / LEVEL)
