"""What the demo's network itself answers, with its own looks, each round from its first token."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import torch
from network import MAX_PIXELS, MIN_PIXELS, RESOLUTION, Network, released, rope
from safetensors.torch import load_file
from talk import ACTION, Talk
from torch import Tensor

from vpt_edge.live.scenes import GRID
from vpt_edge.runtime.manifest import ImageConfig
from vpt_edge.runtime.models.qwen2_vl import PROCESSOR

if TYPE_CHECKING:
    from pathlib import Path

    from PIL import Image

REGION = re.compile(r"<\|region_token_start\|>((?:<\|[xy]_[0-7]\|>)+)<\|region_token_end\|>")
LONGEST = 12


def load(folder: Path, network: Network) -> Network:
    """``network`` with the weights of a folder that ``save`` wrote of one of its geometry."""
    state = load_file(folder / "model.safetensors")
    names = {name: state[released(name)] for name in network.state_dict()}
    patch = "visual.patch_embed.proj.weight"
    network.load_state_dict(names | {patch: names[patch].flatten(1)})
    return network.eval()


def reply(
    network: Network, talk: Talk, picture: Image.Image, question: str, perception: str
) -> tuple[str, str]:
    """The final answer and round 1's text, greedy, each round from its first token."""
    device = network.decoder.lm_head.weight.device
    patches, grid = see(picture, device)
    features = network.see(patches, grid)
    prompt = [
        *talk.opening,
        *[talk.image_pad] * features.shape[1],
        *talk.asked(question, perception),
    ]
    first = generate(network, talk, prompt, [features], [grid])
    if ACTION in first:
        prompt += [*talk.said(ACTION), *talk.turn(talk.clip_pad, features.shape[1]), *talk.looked]
        return generate(network, talk, prompt, [features], [grid]), first
    area = box(first, picture.size)
    if not area:
        return first, first
    crop, crop_grid = see(picture.crop(area), device)
    closer = network.see(crop, crop_grid)
    prompt += [*talk.said(first), *talk.turn(talk.image_pad, closer.shape[1]), *talk.looked]
    return generate(network, talk, prompt, [features, closer], [grid, crop_grid]), first


def see(picture: Image.Image, device: torch.device) -> tuple[Tensor, tuple[int, int]]:
    patches = PROCESSOR.preprocess(picture, ImageConfig(RESOLUTION, MIN_PIXELS, MAX_PIXELS))
    _, rows, columns = patches.grid
    return torch.from_numpy(patches.values)[None].to(device), (rows, columns)


def box(text: str, size: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """The crop of a picture of ``size`` that a region reply asks for, if it is one."""
    match = REGION.search(text)
    if match is None:
        return None
    columns = [int(index) for index in re.findall(r"x_(\d)", match[1])]
    rows = [int(index) for index in re.findall(r"y_(\d)", match[1])]
    if not columns or not rows:
        return None
    width, height = size
    left = max(min(columns) - 1, 0) * width // GRID
    top = max(min(rows) - 1, 0) * height // GRID
    right = min(max(columns) + 2, GRID) * width // GRID
    bottom = min(max(rows) + 2, GRID) * height // GRID
    return left, top, right, bottom


def generate(
    network: Network,
    talk: Talk,
    prompt: list[int],
    features: list[Tensor],
    grids: list[tuple[int, int]],
) -> str:
    """Greedy continuation of ``prompt``, with the action token forced behind its start token.

    The action's embedding is the post-norm hidden state at its start token; clip pads take the
    first picture's features, conditioned by the same state.
    """
    device = features[0].device
    ids = list(prompt)
    every = [*ids, *[talk.end] * LONGEST]
    whole = rope(every, grids, talk.image_pad, device, network.text)
    tokens = torch.tensor([ids], device=device)
    embeds = network.embed(tokens)
    embeds[tokens == talk.image_pad] = torch.cat(features, 1)[0]
    start = ids.index(talk.action) if talk.action in ids else len(ids)
    stream, past = network.read(embeds[:, :start], (whole[0][:start], whole[1][:start]))
    hidden = network.decoder.norm(stream[:, -1])
    if start < len(ids):
        rest = embeds[:, start:]
        pads = tokens[:, start:] == talk.clip_pad
        rest[:, 0] = hidden
        rest[pads] = network.projector(features[0], hidden)[0]
        place = slice(start, len(ids))
        stream, past = network.read(rest, (whole[0][place], whole[1][place]), past)
        hidden = network.decoder.norm(stream[:, -1])
    while len(ids) < len(prompt) + LONGEST:
        forced = len(ids) > len(prompt) and ids[-1] == talk.action_start
        token = talk.action if forced else int(network.decoder.lm_head(hidden).argmax())
        if token == talk.end:
            break
        if token == talk.action:
            embed = hidden[:, None]
        else:
            embed = network.embed(torch.tensor([[token]], device=device))
        place = slice(len(ids), len(ids) + 1)
        stream, past = network.read(embed, (whole[0][place], whole[1][place]), past)
        hidden = network.decoder.norm(stream[:, -1])
        ids.append(token)
    return talk.tokenizer.decode(ids[len(prompt) :], skip_special_tokens=True)
