"""Scenes as pictures."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageFilter

from vpt_edge.live.scenes import GRID
from vpt_edge.live.signs.card import draw_card, draw_shape, origin
from vpt_edge.live.signs.geometry import homography, matrix_of, place, project

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vpt_edge.live.signs.grounds import Grounds
    from vpt_edge.live.signs.sign import Distractor, Light, Scene, Sign

    Floats = NDArray[np.float64]
    Indices = NDArray[np.integer[Any]]

UNITS = (20, 28, 40, 56, 80)  # pixels of a capital that cards are drawn with
FINENESS = 1.3  # of a card, against the picture that it is put into
TILE = 512  # pixels a side of the noise, which repeats


@dataclass(frozen=True)
class Layer:
    """What is put into the picture, premultiplied RGBA (height, width, 4) float32 of 0..255."""

    left: int
    top: int
    pixels: NDArray[np.float32]


class Painter:
    """Gives the pixels of ``scene``, all of them or those of some rows and columns alone.

    It is the same picture either way: a shrunk view or a crop costs no more than its own pixels.
    """

    def __init__(self, scene: Scene, grounds: Grounds) -> None:
        self._scene = scene
        self._ground = grounds.open(scene.backdrop.photograph, scene.side)
        cell = scene.side / GRID
        self._layers = [paint_distractor(each, cell) for each in scene.distractors]
        self._layers += [paint_sign(each, cell) for each in scene.signs]

    def picture(self) -> Image.Image:
        """The whole of it, RGB."""
        every = np.arange(self._scene.side)
        return Image.fromarray(self.pixels(every, every))

    def pixels(self, rows: Indices, columns: Indices) -> NDArray[np.uint8]:
        """(rows, columns, 3) uint8 RGB; ``rows`` and ``columns`` rise."""
        values = self._photograph(rows, columns).astype(np.float32)
        for layer in self._layers:
            _blend(values, layer, rows, columns)
        scene = self._scene
        values *= _slope(scene.light, rows / scene.side, columns / scene.side)
        values *= np.array(scene.light.gain, np.float32)
        if scene.light.noise:
            values += scene.light.noise * _noise(scene.light.grain, rows, columns)
        values += 0.5
        return np.clip(values, 0, 255, out=values).astype(np.uint8)

    def _photograph(self, rows: Indices, columns: Indices) -> NDArray[np.uint8]:
        """(rows, columns, 3) uint8: the part of the photograph that is behind them."""
        scene = self._scene
        height, width, _ = self._ground.shape
        cell = scene.side / GRID
        u, v = scene.backdrop.offset
        x, y = scene.shift
        left = _offset(width - scene.side, u, x * cell)
        top = _offset(height - scene.side, v, y * cell)
        columns = columns + left
        if scene.backdrop.mirrored:
            columns = width - 1 - columns
        return self._ground[rows + top].take(columns, axis=1)


def _offset(spare: int, part: float, shift: float) -> int:
    """Where a picture begins in a photograph that is ``spare`` pixels larger."""
    return min(max(round(spare * (0.15 + 0.7 * part) - shift), 0), spare)


def _slope(light: Light, down: Floats, across: Floats) -> NDArray[np.float32]:
    """(rows, columns, 1): by how much brighter each pixel is lit than the middle; ``down``,
    ``across``: where, 0..1.
    """
    x, y = light.slope
    slope = 1 + x * (across - 0.5)[None] + y * (down - 0.5)[:, None]
    return slope.astype(np.float32)[..., None]


def _noise(grain: int, rows: Indices, columns: Indices) -> NDArray[np.float32]:
    down = (rows + grain % 509) % TILE
    across = (columns + grain // 509 % 503) % TILE
    return _noise_tile()[down].take(across, axis=1)[..., None]


@functools.cache
def _noise_tile() -> NDArray[np.float32]:
    """(TILE, TILE), of deviation 1; drawn with the first picture."""
    return np.random.default_rng(0).standard_normal((TILE, TILE), np.float32)


def _blend(values: NDArray[np.float32], layer: Layer, rows: Indices, columns: Indices) -> None:
    """Put ``layer`` over ``values`` (rows, columns, 3), where they are of its pixels."""
    height, width, _ = layer.pixels.shape
    first, last = np.searchsorted(rows, (layer.top, layer.top + height))
    start, end = np.searchsorted(columns, (layer.left, layer.left + width))
    if first == last or start == end:
        return
    down = rows[first:last] - layer.top
    across = columns[start:end] - layer.left
    over = layer.pixels[down[:, None], across]
    under = values[first:last, start:end]
    under *= 1 - over[..., 3:] / 255
    under += over[..., :3]


def paint_sign(sign: Sign, cell: float) -> Layer:
    """``sign`` in a picture of ``cell`` pixels a cell."""
    wanted = FINENESS * sign.cap * cell
    unit = next((unit for unit in UNITS if unit >= wanted), UNITS[-1])
    card = draw_card(sign.card, unit)
    x, y = origin(sign.card)
    to_caps = np.array([[1 / unit, 0, -x], [0, 1 / unit, -y], [0, 0, 1]])
    to_pixels = np.diag([cell, cell, 1.0])
    matrix = to_pixels @ matrix_of(sign) @ to_caps
    return _warp(card, matrix, sign.blur * sign.cap * cell, sign.shade)


def paint_distractor(distractor: Distractor, cell: float) -> Layer:
    """``distractor`` in a picture of ``cell`` pixels a cell."""
    width, height = distractor.size
    size = (max(round(width * cell), 4), max(round(height * cell), 4))
    shape = draw_shape(distractor.shape, distractor.fill, *size)
    corners = np.array([[0, 0], [size[0], 0], size, [0, size[1]]], float)
    matrix = homography(corners, cell * place(width, height, distractor.pose))
    return _warp(shape, matrix, 0.0, 1.0)


def _warp(card: Image.Image, matrix: Floats, blur: float, shade: float) -> Layer:
    """``card`` where the perspective ``matrix`` (3, 3) brings it.

    ``blur``: the deviation of a Gaussian, pixels.
    """
    width, height = card.size
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], float)
    ends = project(matrix, corners)
    reach = 1 + np.ceil(2 * blur)
    left, top = (np.floor(ends.min(0)) - reach).astype(int)
    right, bottom = (np.ceil(ends.max(0)) + reach).astype(int)
    shift = np.array([[1, 0, left], [0, 1, top], [0, 0, 1]])
    back = np.linalg.inv(matrix) @ shift
    back /= back[2, 2]
    size = (int(right - left), int(bottom - top))
    flat = card.transform(
        size,
        Image.Transform.PERSPECTIVE,
        back.reshape(-1)[:8].tolist(),
        Image.Resampling.BICUBIC,
    ).convert("RGBa")
    if blur > 0.2:
        flat = flat.filter(ImageFilter.GaussianBlur(blur))
    pixels = np.asarray(flat).astype(np.float32)
    pixels[..., :3] *= shade
    return Layer(int(left), int(top), pixels)
