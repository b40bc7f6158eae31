"""Typefaces that signs are lettered in: the one inside Pillow, and open ones of PyPI's packages,
which are not imported for it. The path of a file is the name of a typeface, too.
"""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import ImageFont

from vpt_edge.runtime.errors import VptError

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

    from vpt_edge.live.signs.sign import Part

INSTALL = "pip install 'vpt-edge[signs]'"
PILLOW = "Aileron"  # CC0, inside Pillow
# Folder of an installed package and name of the file. All are under the OFL 1.1, but for Roboto and
# Caladea, which are under the Apache License 2.0.
FILES = {
    "Roboto": ("font_roboto", "Roboto-Regular.ttf"),
    "Roboto Medium": ("font_roboto", "Roboto-Medium.ttf"),
    "Roboto Bold": ("font_roboto", "Roboto-Bold.ttf"),
    "Roboto Black": ("font_roboto", "Roboto-Black.ttf"),
    "Source Sans": ("font_source_sans_pro", "SourceSansPro-Regular.otf"),
    "Source Sans Semibold": ("font_source_sans_pro", "SourceSansPro-Semibold.otf"),
    "Source Sans Bold": ("font_source_sans_pro", "SourceSansPro-Bold.otf"),
    "Source Sans Black": ("font_source_sans_pro", "SourceSansPro-Black.otf"),
    "Source Serif": ("font_source_serif_pro", "SourceSerifPro-Regular.otf"),
    "Source Serif Semibold": ("font_source_serif_pro", "SourceSerifPro-Semibold.otf"),
    "Source Serif Bold": ("font_source_serif_pro", "SourceSerifPro-Bold.otf"),
    "Source Serif Black": ("font_source_serif_pro", "SourceSerifPro-Black.otf"),
    "Hanken Grotesk": ("font_hanken_grotesk", "HankenGrotesk-Regular.otf"),
    "Hanken Grotesk Medium": ("font_hanken_grotesk", "HankenGrotesk-Medium.otf"),
    "Hanken Grotesk Bold": ("font_hanken_grotesk", "HankenGrotesk-Bold.otf"),
    "Fredoka One": ("font_fredoka_one", "FredokaOne-Regular.ttf"),
    "Lato": ("font_lato", "Lato-Regular.ttf"),
    "Lato Bold": ("font_lato", "Lato-Bold.ttf"),
    "Manrope Medium": ("font_manrope", "Manrope-Medium.ttf"),
    "Manrope Bold": ("font_manrope", "Manrope-Bold.ttf"),
    "Caladea Bold": ("font_caladea", "Caladea-Bold.ttf"),
}
TEST = ("Lato", "Lato Bold", "Manrope Medium", "Manrope Bold", "Caladea Bold")
TRAINING = (PILLOW, *(name for name in FILES if name not in TEST))
FACES: dict[Part, tuple[str, ...]] = {"training": TRAINING, "test": TEST}
REFERENCE = 256  # the size that letters are measured in


def faces_of(part: Part) -> tuple[str, ...]:
    """The names of the typefaces of training, or of those kept for the test."""
    return FACES[part]


@functools.lru_cache(maxsize=256)
def open_face(name: str, cap: float) -> FreeTypeFont:
    """The typeface with capitals of ``cap`` pixels. Raises VptError where it is not installed."""
    return _load(name, REFERENCE * cap / _measure_cap(name))


def measure_text(text: str, name: str) -> list[float]:
    """The advance of each character, in heights of a capital."""
    advances = _measure_advances(name)
    return [advances[character] for character in text]


@functools.cache
def _measure_advances(name: str) -> _Advances:
    return _Advances(name)


class _Advances(dict[str, float]):
    """Those of one typeface, each measured when it is first asked for."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def __missing__(self, character: str) -> float:
        advance = _load(self._name, REFERENCE).getlength(character)
        self[character] = advance / _measure_cap(self._name)
        return self[character]


@functools.cache
def _measure_cap(name: str) -> int:
    """The height of an H of size REFERENCE, pixels."""
    _, top, _, bottom = _load(name, REFERENCE).getbbox("H", anchor="ls")
    return round(bottom - top)


@functools.lru_cache(maxsize=256)
def _load(name: str, size: float) -> FreeTypeFont:
    if name == PILLOW:
        return _load_default(size)
    if name not in FILES:
        return _open_file(Path(name), size, "give the path of a font")
    return _open_file(_find_file(name), size, INSTALL)


def _open_file(path: Path, size: float, hint: str) -> FreeTypeFont:
    try:
        return ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)
    except OSError as error:
        raise VptError(f"{path} cannot be read as a typeface: {error}", hint) from error


def _find_file(name: str) -> Path:
    package, file = FILES[name]
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise VptError(f"the typeface {name} is not installed, {package} is missing", INSTALL)
    return Path(spec.submodule_search_locations[0]) / "files" / file


def _load_default(size: float) -> FreeTypeFont:
    face = ImageFont.load_default(size)
    if not isinstance(face, ImageFont.FreeTypeFont):
        raise VptError("this Pillow comes without FreeType", "pip install --force-reinstall pillow")
    return face
