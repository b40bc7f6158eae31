"""The vision encoder alone: what every visual token of a view holds."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from signs.sizes import PATCH, TOKEN, WINDOW
from signs.truth import NO_LETTER, locate_letters, own_letters
from torch import Tensor

from vpt_edge.runtime import positions
from vpt_edge.runtime.models.qwen2_vl import PROCESSOR
from vpt_edge.runtime.processor import MERGE

if TYPE_CHECKING:
    from network import Network
    from numpy.typing import NDArray
    from signs.heads import Heads
    from signs.losses import Losses

    Bytes = NDArray[np.uint8]
    Floats = NDArray[Any]
    Indices = NDArray[np.int64]
    Records = NDArray[Any]

MEAN = torch.tensor(PROCESSOR.mean) * 255
STD = torch.tensor(PROCESSOR.std) * 255
BESIDE = 9  # pixels from the middle of the last letter to the edge of a window


def patchify(pixels: Bytes) -> Tensor:
    """(batch, height, width, 3) -> (batch, patches, 588) in merge order: ``Processor.preprocess``
    of one frame.
    """
    x = (torch.from_numpy(pixels).float() - MEAN) / STD
    _, height, width, _ = x.shape
    down = (height // TOKEN, MERGE, PATCH)
    across = (width // TOKEN, MERGE, PATCH)
    x = x.unflatten(2, across).unflatten(1, down).permute(0, 1, 4, 2, 5, 7, 3, 6)
    return x.flatten(1, 4).flatten(2)


def encode(network: Network, pixels: Bytes) -> Tensor:
    """Pixels (batch, height, width, 3) -> features (batch, tokens, hidden), as ``Network.see`` has
    them of two equal frames, which it is spared here.
    """
    visual = network.visual
    frames = visual.patch_embed.proj.weight.unflatten(1, (3, 2, -1))
    x = F.linear(patchify(pixels), frames.sum(2).flatten(1)).float()
    rows = pixels.shape[1] // PATCH
    columns = pixels.shape[2] // PATCH
    vision = network.vision
    cos, sin = positions.vision_rope(rows, columns, vision.merge_size, vision.head_dim)
    rope = (torch.from_numpy(cos), torch.from_numpy(sin))
    for block in visual.blocks:
        x = block(x, rope)
    return visual.merger(x)


def cut_windows(records: Records, rng: Random) -> tuple[Bytes, Floats]:
    """Windows (batch, rows, columns, 3) somewhere in their room, and where their letters are then:
    (batch, letters, 2).
    """
    pixels = np.empty((len(records), *WINDOW, 3), np.uint8)
    centres = records["centres"].copy()
    for row in range(len(records)):
        last = float(np.nanmax(centres[row, :, 0])) + BESIDE - WINDOW[1]
        left = min(max(rng.randrange(TOKEN), int(last)), TOKEN)
        top = rng.randrange(TOKEN)
        pixels[row] = records["pixels"][row, top : top + WINDOW[0], left : left + WINDOW[1]]
        centres[row] -= (left, top)
    return pixels, centres


def vary_light(pixels: Bytes, rng: Random) -> Bytes:
    """Every picture brighter or darker, each channel a little by itself; colours keep their names.

    Pixels (batch, ..., 3).
    """
    numbers = np.random.default_rng(rng.getrandbits(32))
    every = (len(pixels), *(1 for _ in pixels.shape[1:-1]))
    gain = numbers.uniform(0.85, 1.12, (*every, 1)) * numbers.uniform(0.96, 1.04, (*every, 3))
    lift = numbers.uniform(-10, 10, (*every, 1))
    varied = pixels * gain.astype(np.float32) + lift.astype(np.float32)
    return np.clip(varied, 0, 255).astype(np.uint8)


def vary_colours(pixels: Bytes, rng: Random) -> Bytes:
    """Every picture brighter or darker, each channel by itself; one in four is a negative."""
    numbers = np.random.default_rng(rng.getrandbits(32))
    count = len(pixels)
    gain = numbers.uniform(0.75, 1.2, (count, 1, 1, 3)).astype(np.float32)
    lift = numbers.uniform(-25, 25, (count, 1, 1, 1)).astype(np.float32)
    varied = pixels * gain + lift
    is_negative = numbers.random(count) < 0.25
    varied[is_negative] = 255 - varied[is_negative]
    return np.clip(varied, 0, 255).astype(np.uint8)


def see_windows(
    heads: Heads, losses: Losses, features: Tensor, centres: Floats, text: Indices
) -> None:
    """Which letters stand where in windows around signs."""
    grid = (WINDOW[0] // TOKEN, WINDOW[1] // TOKEN)
    target = torch.from_numpy(locate_letters(centres, text, grid))
    losses.add("letter", heads.letters(features), target, NO_LETTER)
    read_slots(heads, losses, features, own_letters(centres, text, grid), text)


def read_slots(
    heads: Heads,
    losses: Losses,
    features: Tensor,
    owners: Indices,
    text: Indices,
    view: str = "",
) -> None:
    """Which token each character of the text stands in, and which character that is.

    ``view``: what the losses are called after.
    """
    tokens = torch.from_numpy(owners)
    spelled = torch.from_numpy(text)
    slots = heads.slots(features)
    losses.add(f"{view}slot", slots, tokens)
    losses.add(f"{view}character", heads.characters(features, tokens), spelled)
    with torch.no_grad():
        found = slots.argmax(-1)
        letters = heads.characters(features, found).argmax(-1)
        letters[found == features.shape[1]] = -1
        is_read = (letters == spelled).all(1)
    known = (tokens >= 0).all(1)
    losses.right[f"{view}text"] = float(is_read[known].float().mean())
