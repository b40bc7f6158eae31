"""A question about pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from vpt_edge.runtime.errors import ImageError
from vpt_edge.runtime.image import open_picture

if TYPE_CHECKING:
    from vpt_edge.runtime.image import Box
    from vpt_edge.runtime.perception.actions import Mode


@dataclass(frozen=True)
class Sample:
    """A question about a picture, or about its part ``box`` (left, top, right, bottom) in pixels.

    ``answer`` is the true one, None where nobody knows it; ``perception`` is what ``Pipeline.ask``
    is to be told. ``others`` are further pictures, shown behind the first.
    """

    image: Path
    question: str
    answer: str | None = None
    perception: Mode = "free"
    box: Box | None = None
    others: tuple[Path, ...] = ()

    def open_all(self) -> list[Image.Image]:
        """The pictures in their own size. Raises ImageError."""
        return [self.open(), *map(open_picture, self.others)]

    def open(self) -> Image.Image:
        """The first picture; what ``box`` has outside of it is black. Raises ImageError."""
        picture = open_picture(self.image)
        if self.box is None:
            return picture
        try:
            return picture.crop(self.box)
        except (ValueError, OverflowError, MemoryError, Image.DecompressionBombError) as error:
            raise ImageError(f"{self.image} cannot be cropped to {self.box}: {error}") from error
