"""How many pixels of each view a request shows."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from vpt_edge.runtime.errors import ImageError, OptionError
from vpt_edge.runtime.image import regularized_size
from vpt_edge.runtime.interface import expect

if TYPE_CHECKING:
    from vpt_edge.runtime.image import Size
    from vpt_edge.runtime.manifest import ImageConfig, Manifest
    from vpt_edge.runtime.options import Options
    from vpt_edge.runtime.vision import Vision

BUDGETS = ("first_max_pixels", "look_max_pixels")
EXPORT_FIX = "ask within them, or export with others: vpt-export --min-pixels --max-pixels"


class ViewLimits:
    """The least and the most pixels of a request's first views, and those of its looks.

    What a request says of them stands above the manifest's budget, and that above ``max_pixels``.
    A budget may be below the bundle's ``min_pixels``; then no view is enlarged above it. Raises
    OptionError for what the bundle does not show.
    """

    def __init__(self, options: Options, manifest: Manifest, vision: Vision) -> None:
        self._options = options
        self._manifest = manifest
        self._vision = vision
        self._plain = self._within_bundle()
        self._first_budget = self._budget("first_max_pixels")
        self._look_budget = self._budget("look_max_pixels")

    def first(self, size: Size) -> ImageConfig:
        """The limits of a picture of ``size`` as it is first shown."""
        if self._first_budget is None:
            return self._plain
        return self._fit(size, _narrow(self._plain, self._first_budget), self._first_budget)

    def look(self, size: Size, own: tuple[int, int] | None = None) -> ImageConfig:
        """Those of a look of ``size``; ``own``: its least and most pixels by a rule of its own.

        They hold as far as the bundle's and the budget of looks reach. What they would enlarge
        beyond what the graph takes is shown without them. Raises ImageError for a crop that cannot
        be shown.
        """
        limits = self._plain
        if own is not None:
            image = self._manifest.image
            most = min(own[1], image.max_pixels)
            limits = replace(image, min_pixels=min(own[0], most), max_pixels=most)
        if self._look_budget is not None:
            most = min(self._look_budget, limits.max_pixels)
            return self._fit(size, _narrow(limits, most), self._look_budget)
        if own is not None and self._vision.outline(size, limits).tokens > self._most_tokens:
            return self._manifest.image
        return limits

    @property
    def _most_tokens(self) -> int:
        """What the vision encoder's graph takes."""
        return self._manifest.graphs["vision_encoder"].bounds["tokens"][2]

    def _within_bundle(self) -> ImageConfig:
        """``min_pixels`` and ``max_pixels`` of all views, the bundle's or narrower ones."""
        image = self._manifest.image
        least = self._options.min_pixels
        most = self._options.max_pixels
        if least is None:
            least = image.min_pixels
        if most is None:
            most = image.max_pixels
        if not image.min_pixels <= least <= most <= image.max_pixels:
            raise OptionError(
                f"found min_pixels {least}, max_pixels {most}; expected them within the bundle's "
                f"{image.min_pixels} to {image.max_pixels}",
                EXPORT_FIX,
                "max_pixels" if self._options.min_pixels is None else "min_pixels",
            )
        return replace(image, min_pixels=least, max_pixels=most)

    def _budget(self, name: str) -> int | None:
        """The most pixels by the option ``name`` or the manifest; None where neither says any."""
        asked: int | None = getattr(self._options, name)
        usual: int | None = getattr(self._manifest.budget, name)
        if asked is not None:
            self._check(name, asked)
            return asked
        if usual is None:
            return None
        # A default gives way to limits that the request names.
        return min(max(usual, self._options.min_pixels or 0), self._plain.max_pixels)

    def _check(self, name: str, most: int) -> None:
        least = self._vision.token_pixels
        reason = "the pixels of one visual token"
        if self._options.min_pixels is not None and self._options.min_pixels > least:
            least = self._options.min_pixels
            reason = "the request's min_pixels"
        largest = self._manifest.image.max_pixels
        if not least <= most <= largest:
            raise OptionError(
                f"found {name} {most}; expected it from {least}, {reason}, to the bundle's "
                f"{largest}",
                EXPORT_FIX,
                name,
            )

    def _fit(self, size: Size, limits: ImageConfig, budget: int) -> ImageConfig:
        """``limits``, or others with which a picture of ``size`` is shown within the ``budget``."""
        area = self._vision.token_pixels
        try:
            tokens = self._vision.outline(size, limits).tokens
        except ImageError:
            return self._keep_row(size, limits)
        if tokens * area > budget:  # what is enlarged has each side rounded up
            as_it_is = replace(limits, min_pixels=area)
            if self._vision.outline(size, as_it_is).tokens < tokens:
                return as_it_is
        return limits

    def _keep_row(self, size: Size, limits: ImageConfig) -> ImageConfig:
        """``limits`` with as many pixels as a row, or a column, of visual tokens takes.

        The authors' resize leaves nothing of a side that is shrunk below one.
        """
        sides = regularized_size(size, limits.longest_side)
        row = math.ceil(self._vision.token_pixels * max(sides) / min(sides)) + 1
        most = min(max(row, limits.max_pixels), self._plain.max_pixels)
        return replace(limits, max_pixels=most)


def _narrow(limits: ImageConfig, most: int) -> ImageConfig:
    """``limits`` with no more than ``most`` pixels, below their least if need be."""
    return replace(limits, min_pixels=min(limits.min_pixels, most), max_pixels=most)


def check_budget(manifest: Manifest, token_pixels: int) -> None:
    """Raise BundleError for a budget that the bundle's own limits contradict.

    ``token_pixels``: of one visual token.
    """
    largest = manifest.image.max_pixels
    for name in BUDGETS:
        most: int | None = getattr(manifest.budget, name)
        problem = f"budget: {name} is {most}, expected {token_pixels} to {largest}"
        expect(most is None or token_pixels <= most <= largest, problem)
