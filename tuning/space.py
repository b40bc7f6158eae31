"""Which candidates are worth a trial: shares of what the default shows of the data's own pictures.

First one axis at a time; then what held on several axes, together.
"""

from __future__ import annotations

import itertools
import math
import statistics
from dataclasses import replace
from typing import TYPE_CHECKING

from vpt_edge.runtime.models import open_tower
from vpt_edge.runtime.perception import open_perception
from vpt_edge.runtime.reduction import count_tokens
from vpt_edge.tuning.candidate import DEFAULT, Candidate, Setting

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from vpt_edge.runtime.image import Size
    from vpt_edge.runtime.manifest import Manifest

SIDES = (0.75, 0.625, 0.5)  # of a picture's side: 56, 39 and 25 % of its pixels
TOKEN_SHARES = (0.75, 0.5)  # of a first view's visual tokens
MEASURED = 64  # samples whose pictures say what is shown
MERGE = 2  # patches a side of a visual token
# Of an answer's work, as a guess that orders the trials: the first view's part, and a look's.
FIRST_WORK = 0.6
LOOK_WORK = 0.4
PREFILL_WORK = 0.3  # of the first view's, behind the vision encoder


def count_first_tokens(manifest: Manifest, sizes: Sequence[Size]) -> list[int]:
    """The visual tokens of the first view of pictures of ``sizes``, as exported."""
    tower = open_tower(manifest)
    perception = open_perception(manifest)
    tokens = list[int]()
    for size in sizes:
        grid = tower.grid(perception.first_size(size) or size, manifest.image)
        tokens.append(tower.tokens(grid))
    return tokens


def first_candidates(manifest: Manifest, tokens: Sequence[int]) -> list[Candidate]:
    """Fewer pixels of first views, of which the default's have so many visual ``tokens``."""
    candidates = []
    for side, pixels in _shares(manifest, tokens):
        cost = FIRST_WORK * side**2 + LOOK_WORK
        candidates.append(Candidate(0, Setting(first_max_pixels=pixels), cost=cost))
    return candidates


def look_candidates(manifest: Manifest, tokens: Sequence[int]) -> list[Candidate]:
    """Fewer pixels of looks, of which the default's had so many visual ``tokens``."""
    candidates = []
    for side, pixels in _shares(manifest, tokens):
        cost = FIRST_WORK + LOOK_WORK * side**2
        candidates.append(Candidate(0, Setting(look_max_pixels=pixels), cost=cost))
    return candidates


def _shares(manifest: Manifest, tokens: Sequence[int]) -> list[tuple[float, int]]:
    """Of SIDES, the most pixels of a picture that has the median of the ``tokens``."""
    if not tokens:
        return []
    token_pixels = (open_tower(manifest).patch * MERGE) ** 2
    usual = statistics.median_low(tokens) * token_pixels
    shares = [(side, math.ceil(usual * side**2)) for side in SIDES]
    return [(side, pixels) for side, pixels in shares if pixels >= token_pixels]


def token_candidates(tokens: Sequence[int]) -> list[Candidate]:
    """Fewer visual tokens of first views, chosen behind the vision encoder; none where pictures
    with the median of the ``tokens`` keep all.
    """
    usual = statistics.median_low(tokens)
    candidates = []
    least = usual
    for share in TOKEN_SHARES:
        count = count_tokens(usual, share)
        if count < least:
            cost = 1 - PREFILL_WORK * (1 - share)
            candidates.append(Candidate(0, Setting(first_token_share=share), cost=cost))
        least = count
    return candidates


def thread_candidates(cores: int) -> list[Candidate]:
    """Half of the cores, and a quarter: more than one thread may share what computes."""
    counts = sorted({cores // 2, cores // 4} - {0}, reverse=True)
    return [Candidate(threads=count) for count in counts]


def bundle_candidates(sizes: Sequence[int]) -> list[Candidate]:
    """The other bundles as they were exported; ``sizes``: the bytes of all, the default's first."""
    candidates = []
    for index, size in enumerate(sizes[1:], 1):
        candidates.append(Candidate(index, cost=size / sizes[0]))
    return candidates


def combine(held: Iterable[Candidate]) -> list[Candidate]:
    """What held on several axes, together, the cheapest first: one value of each axis or none."""
    axes: dict[str, list[Candidate]] = {}
    for candidate in held:
        if candidate != DEFAULT:
            axes.setdefault(_axis(candidate), [DEFAULT]).append(candidate)
    combinations = []
    for choice in itertools.product(*axes.values()):
        parts = [part for part in choice if part != DEFAULT]
        if len(parts) > 1:
            combinations.append(_merge(parts))
    return sorted(combinations, key=lambda candidate: candidate.cost)


def _axis(candidate: Candidate) -> str:
    """The one in which a candidate of the first round differs from the default."""
    if candidate.bundle:
        return "bundle"
    if candidate.threads is not None:
        return "threads"
    return next(iter(candidate.setting.options()))


def _merge(parts: Sequence[Candidate]) -> Candidate:
    bundle = 0
    threads = None
    setting = Setting()
    for part in parts:
        bundle = bundle or part.bundle
        threads = threads or part.threads
        setting = replace(setting, **part.setting.options())
    cost = math.prod(part.cost for part in parts)
    return Candidate(bundle, setting, threads, cost)


def is_no_cheaper(candidate: Candidate, other: Candidate) -> bool:
    """Whether ``candidate`` saves on no axis more than ``other`` does."""
    if (candidate.place) != (other.place):
        return False
    theirs = other.setting.options()
    mine = candidate.setting.options()
    pairs = [(mine.get(name), theirs.get(name)) for name in {**mine, **theirs}]
    return all(_is_no_less(one, two) for one, two in pairs)


def _is_no_less(value: object, other: object) -> bool:
    """None is the default's: the most."""
    if value is None or other is None:
        return value is None
    assert isinstance(value, int | float) and isinstance(other, int | float)
    return value >= other
