"""What training is shown beside what is drawn: other grounds, another light, noise."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
import torch
from signs.see import vary_colours, vary_light
from signs.see_scenes import see_signs
from signs.varied_grounds import VariedGrounds
from signs.workshop import NOISE, add_noise

from vpt_edge.live.signs.grounds import Grounds, find_photographs
from vpt_edge.live.signs.layout import Conditions, lay_out
from vpt_edge.live.signs.sign import KINDS

SIDE = 512


def test_a_photograph_is_a_ground_of_many_colours() -> None:
    paths = find_photographs("training")
    varied = VariedGrounds(paths)
    coffee = [name.name for name in paths].index("coffee.png")
    plain = Grounds(paths).open(coffee, SIDE)
    colours = list[tuple[int, ...]]()
    for number in range(coffee, coffee + 40 * len(paths), len(paths)):
        ground = varied.open(number, SIDE)
        assert sorted(ground.shape) == sorted(plain.shape)
        assert np.array_equal(ground, varied.open(number, SIDE)), "the same whenever it is drawn"
        colours.append(tuple(np.argsort(ground.mean((0, 1))).tolist()))
    assert len(set(colours)) == 6, "each channel is the brightest of some"
    assert np.array_equal(plain, Grounds(paths).open(coffee, SIDE)), "it is not written over"


def test_light_keeps_colours_and_negatives_do_not() -> None:
    red = np.zeros((64, 4, 4, 3), np.uint8)
    red[..., 0] = 210
    lit = vary_light(red, Random(1)).astype(int)
    assert (lit[..., 0] > lit[..., 1] + 100).all()
    assert len(np.unique(lit[:, 0, 0, 0])) > 8, "each picture by itself"
    assert np.ptp(lit.reshape(64, -1, 3), axis=1).max() == 0, "all of a picture alike"
    negative = vary_colours(red, Random(1)).astype(int)[:, 0, 0]
    assert 5 < (negative[:, 0] < negative[:, 1]).sum() < 30


def test_noise_is_as_large_as_it_says_in_every_feature() -> None:
    features = np.random.default_rng(0).standard_normal((32, 64, 2)).astype(np.float16)
    features[..., 1] *= 50
    noise = add_noise(features, Random(2)).numpy() - features.astype(np.float32)
    ratio = noise.std((0, 1)) / features.astype(np.float32).std((0, 1))
    assert ratio == pytest.approx([NOISE, NOISE], rel=0.05)


class Told:
    """Takes the place of heads and losses: keeps the targets."""

    def __init__(self) -> None:
        self.targets = dict[str, torch.Tensor]()

    def add(
        self, name: str, logits: torch.Tensor, target: torch.Tensor, nothing: int | None = None
    ) -> None:
        self.targets[name] = target

    def colour(self, features: torch.Tensor) -> torch.Tensor:
        return features

    kind = place = colour


def test_every_token_of_a_text_tells_colour_and_kind() -> None:
    scene = lay_out(Random(3), SIDE, Conditions("test", (7, 7)))
    told = Told()
    see_signs(told, told, torch.zeros(1, 64, 16), [scene])  # type: ignore[arg-type]
    kinds = told.targets["kind"][0]
    held = kinds < len(KINDS)
    assert torch.equal(held, told.targets["colour"][0] < 8)
    assert held.sum() >= 2 * len(scene.signs), "seven letters lie in two tokens or more"
    for sign in scene.signs:
        column, line = sign.cell
        assert kinds[8 * line + column] == KINDS.index(sign.card.kind)
