"""Pictures become frames."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING

from vpt_edge.live.flip import flip_raster
from vpt_edge.live.frame import Frame

if TYPE_CHECKING:
    from vpt_edge.live.feed import Picture


class Framing:
    """Numbers the pictures of one source, and turns them as ``flip`` says."""

    def __init__(self, source: str, flip: str = "none") -> None:
        self._source = source
        self._flip = flip
        self._number = 0
        self._beginning = 0.0  # the monotonic moment of the first
        self._latest = 0.0  # and of the last

    def frame(self, picture: Picture | Frame) -> Frame:
        """The next frame; one that is a frame already keeps its number and moment."""
        raster = flip_raster(picture.raster, self._flip)
        if isinstance(picture, Frame):
            return dataclasses.replace(picture, raster=raster)
        now = time.monotonic()
        # A driver's clock may jump: no frame is from the future, or older than the one before it.
        captured = max(min(picture.captured, now), self._latest)
        if self._number == 0:
            self._beginning = captured
        self._latest = captured
        position = picture.position
        if position is None:
            position = captured - self._beginning
        frame = Frame(
            number=self._number,
            position=position,
            time=time.time() - (now - captured),
            monotonic=captured,
            source=self._source,
            raster=raster,
            truth=picture.truth,
        )
        self._number += 1
        return frame
