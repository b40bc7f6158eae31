"""Candidates are whole shares of what the data's pictures are shown in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from vpt_edge.runtime.models import open_tower
from vpt_edge.runtime.testing import tiny_bundle
from vpt_edge.tuning import space
from vpt_edge.tuning.candidate import DEFAULT, Candidate, Setting

if TYPE_CHECKING:
    from vpt_edge.runtime.manifest import Manifest


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return tiny_bundle(tmp_path / "bundle").manifest


def firsts(candidates: list[Candidate]) -> list[int | None]:
    return [candidate.setting.first_max_pixels for candidate in candidates]


def test_a_square_picture_loses_whole_tokens(manifest: Manifest) -> None:
    candidates = space.first_candidates(manifest, [64, 64, 64])
    assert firsts(candidates) == [168 * 168, 140 * 140, 112 * 112]
    tower = open_tower(manifest)
    for candidate, side in zip(candidates, (6, 5, 4), strict=True):
        pixels = candidate.setting.first_max_pixels
        assert pixels is not None
        limits = replace(manifest.image, max_pixels=pixels)
        assert tower.grid((224, 224), limits) == (1, 2 * side, 2 * side)
    costs = [candidate.cost for candidate in candidates]
    assert costs == sorted(costs, reverse=True) and max(costs) < 1


def test_the_picture_in_the_middle_counts(manifest: Manifest) -> None:
    tokens = space.count_first_tokens(manifest, [(56, 56), (224, 224), (448, 448)])
    assert tokens == [4, 64, 256]
    assert firsts(space.first_candidates(manifest, tokens))[0] == 168 * 168


def test_nothing_below_a_visual_token(manifest: Manifest) -> None:
    assert firsts(space.first_candidates(manifest, [2])) == [882]
    assert space.first_candidates(manifest, [1]) == []


def test_looks_lose_of_what_the_default_looked_at(manifest: Manifest) -> None:
    candidates = space.look_candidates(manifest, [64, 64, 16])
    pixels = [candidate.setting.look_max_pixels for candidate in candidates]
    assert pixels == [168 * 168, 140 * 140, 112 * 112]
    assert space.look_candidates(manifest, []) == []


def test_tokens_are_dropped_of_pictures_that_have_enough() -> None:
    shares = [each.setting.first_token_share for each in space.token_candidates([256, 400, 4])]
    assert shares == [0.75, 0.5]
    assert [each.setting.first_token_share for each in space.token_candidates([80])] == [0.75]
    assert space.token_candidates([64]) == []


def test_fewer_threads_and_further_bundles() -> None:
    assert [each.threads for each in space.thread_candidates(8)] == [4, 2]
    assert [each.threads for each in space.thread_candidates(2)] == [1]
    assert space.thread_candidates(1) == []
    assert space.bundle_candidates([100, 25]) == [Candidate(1)]
    assert space.bundle_candidates([100, 25])[0].cost == 0.25


def test_together_is_one_value_of_each_axis_the_cheapest_first() -> None:
    wide = Candidate(setting=Setting(first_max_pixels=200), cost=0.9)
    narrow = Candidate(setting=Setting(first_max_pixels=100), cost=0.5)
    look = Candidate(setting=Setting(look_max_pixels=100), cost=0.8)
    small = Candidate(1, cost=0.5)
    both = space.combine([DEFAULT, wide, narrow, look])
    assert [each.setting for each in both] == [Setting(100, 100), Setting(200, 100)]
    all_three = space.combine([DEFAULT, narrow, look, small])
    assert set(all_three) == {
        Candidate(0, Setting(100, 100)),
        Candidate(1, Setting(100)),
        Candidate(1, Setting(None, 100)),
        Candidate(1, Setting(100, 100)),
    }
    assert all_three[0] == Candidate(1, Setting(100, 100))
    assert space.combine([DEFAULT, wide, narrow]) == []
    assert space.combine([Candidate(threads=1), look]) == [Candidate(0, Setting(None, 100), 1)]


def test_what_is_no_cheaper() -> None:
    narrow = Candidate(setting=Setting(100, 100))
    assert space.is_no_cheaper(Candidate(setting=Setting(200, 100)), narrow)
    assert space.is_no_cheaper(Candidate(setting=Setting(None, 100)), narrow)
    assert space.is_no_cheaper(DEFAULT, narrow)
    assert not space.is_no_cheaper(Candidate(setting=Setting(50, 200)), narrow)
    assert not space.is_no_cheaper(narrow, Candidate(setting=Setting(200, 200)))
    assert not space.is_no_cheaper(narrow, Candidate(1, Setting(50, 50)))
    assert not space.is_no_cheaper(narrow, Candidate(0, Setting(50, 50), 1))
