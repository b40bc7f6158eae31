"""The one size that the pictures of a video have."""

from __future__ import annotations

from PIL import Image


class Canvas:
    """``size``: (width, height), less a pixel where that is odd, as encoders take it."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = _even(size)

    def fit(self, image: Image.Image) -> Image.Image:
        """``image``, RGB, in that size: as large as it goes, in the middle of black."""
        if image.size == self.size:
            return image
        if _even(image.size) == self.size:
            return image.crop((0, 0, *self.size))
        scale = min(self.size[0] / image.width, self.size[1] / image.height)
        width = max(1, round(image.width * scale))
        height = max(1, round(image.height * scale))
        canvas = Image.new("RGB", self.size)
        scaled = image.resize((width, height), Image.Resampling.BILINEAR)
        canvas.paste(scaled, ((self.size[0] - width) // 2, (self.size[1] - height) // 2))
        return canvas


def _even(size: tuple[int, int]) -> tuple[int, int]:
    """(width, height) as an encoder takes them: its colours have half of it."""
    width, height = size
    return max(2, width - width % 2), max(2, height - height % 2)
