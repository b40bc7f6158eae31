"""The demo's whole training recipe: scenes, two stages, a checkpoint in the released format.

    python demo/train.py --out demo/checkpoint

Stage "see" teaches the vision encoder alone what lies in every visual token. Stage "speak" trains
everything on conversations, while the small heads of the first stage go on.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from measure import measure
from network import MAX_PIXELS, MIN_PIXELS, RESOLUTION, TEXT, Network, rope, save
from PIL import Image
from talk import ACTION, Talk, region
from torch import Tensor, nn
from vocabulary import build

from vpt_edge.live.scenes import (
    ASK,
    CELL,
    COLOURS,
    FORMS,
    GRID,
    LETTERS,
    SHAPES,
    Cell,
    Layout,
    Sample,
    Tag,
    draw,
    layout,
)
from vpt_edge.runtime import image
from vpt_edge.runtime.manifest import ImageConfig
from vpt_edge.runtime.models import qwen2_vl
from vpt_edge.runtime.processor import FRAMES, MERGE

BATCH = 32
FIRST = (16, 16)  # patches of the whole picture
CROP = (14, 14)  # patches of a crop of three by three cells
OBJECTS = (*COLOURS, *SHAPES)
NOTHING = len(OBJECTS)
# Share of region samples that look one cell beside the tag, as a model that errs would.
STRAY = 0.15


class Heads(nn.Module):
    """Supervision of single tokens, not part of the checkpoint.

    What a visual token shows, by the embeddings of the words for it; its letter; its cell, as the
    decoder's first layer knows it; and where the thing lies that a question names, as the second
    layer knows it at the word.
    """

    def __init__(self, talk: Talk) -> None:
        super().__init__()
        self.words = [talk.ids(f" {name}")[0] for name in OBJECTS]
        self.scale = nn.Parameter(torch.ones(()))
        self.nothing = nn.Linear(TEXT.hidden_size, 1)
        self.letter = nn.Linear(TEXT.hidden_size, len(LETTERS))
        self.cell = nn.Linear(TEXT.hidden_size, 2 * GRID)
        self.named = nn.Linear(TEXT.hidden_size, 2 * GRID)

    def object(self, features: Tensor, embeddings: Tensor) -> Tensor:
        """Features (..., hidden) -> logits (..., objects and nothing)."""
        return torch.cat(
            (features @ embeddings[self.words].T * self.scale, self.nothing(features)), -1
        )


@dataclass
class Batch:
    """Scenes with a question each, seen whole and cropped where the question has to look.

    ``views`` (batch, 256, 1176), ``crops`` (batch, 196, 1176); ``looks`` are the cells the crops
    are centred at.
    """

    plans: list[Layout]
    letters: list[Sample]
    looks: list[Cell]
    views: Tensor
    crops: Tensor


def draw_batch(rng: Random, device: torch.device) -> Batch:
    plans = [layout(rng) for _ in range(BATCH)]
    form = rng.randrange(FORMS)
    letters = [ASK["letter"](plan, rng, form) for plan in plans]
    looks = [stray(rng, sample.about[0].cell) for sample in letters]
    pictures = [draw(plan) for plan in plans]
    crops = [picture.crop(window(cell)) for picture, cell in zip(pictures, looks, strict=True)]
    return Batch(plans, letters, looks, patchify(pictures, device), patchify(crops, device))


def stray(rng: Random, cell: Cell) -> Cell:
    """The cell itself, or sometimes another one of its neighbourhood within the inner cells."""
    if rng.random() > STRAY:
        return cell
    x, y = (min(max(index + rng.randint(-1, 1), 1), GRID - 2) for index in cell)
    return x, y


def window(cell: Cell) -> tuple[int, int, int, int]:
    """The box of a one-cell region, grown by a cell on each side."""
    return (cell[0] - 1) * CELL, (cell[1] - 1) * CELL, (cell[0] + 2) * CELL, (cell[1] + 2) * CELL


def patchify(pictures: list[Image.Image], device: torch.device) -> Tensor:
    """Pictures of one size -> patches (batch, patches, 1176) in merge order, as
    ``Processor.preprocess`` makes them.
    """
    views = [image.regularize(picture, RESOLUTION) for picture in pictures]
    processor = qwen2_vl.PROCESSOR
    limits = ImageConfig(RESOLUTION, MIN_PIXELS, MAX_PIXELS)
    size = processor.smart_resize(*views[0].size, limits)
    pixels = np.stack([np.asarray(view.resize(size, Image.Resampling.BICUBIC)) for view in views])
    mean = torch.tensor(processor.mean, device=device)
    std = torch.tensor(processor.std, device=device)
    x = (torch.from_numpy(pixels).to(device).float() / 255 - mean) / std
    patch = processor.patch
    merge = MERGE
    shape = (size[1] // patch // merge, merge, patch, size[0] // patch // merge, merge, patch, 3)
    x = x.unflatten(2, shape[3:6]).unflatten(1, shape[:3]).permute(0, 1, 4, 2, 5, 7, 3, 6)
    x = x.flatten(1, 4)[:, :, :, None].expand(-1, -1, -1, FRAMES, -1, -1)
    return x.flatten(2)


def sights(plans: list[Layout], device: torch.device) -> Tensor:
    """What lies in each cell, which is each token of the first view: (batch, 64)."""
    target = torch.full((len(plans), GRID * GRID), NOTHING)
    for row, plan in enumerate(plans):
        for item in plan.items:
            target[row, item.cell[1] * GRID + item.cell[0]] = OBJECTS.index(item.name)
    return target.to(device)


def close_sights(batch: Batch) -> tuple[Tensor, Tensor]:
    """Objects and letters by the token of the crop their centres lie in: two (batch, 49), -100
    where no letter is.
    """
    side = CROP[0] // 2
    objects = torch.full((len(batch.plans), side * side), NOTHING)
    letters = torch.full_like(objects, -100)
    for row, (plan, look) in enumerate(zip(batch.plans, batch.looks, strict=True)):
        for item in plan.items:
            if max(abs(item.cell[0] - look[0]), abs(item.cell[1] - look[1])) > 1:
                continue
            centre = (
                item.corner[axis] + item.size / 2 - (look[axis] - 1) * CELL for axis in (0, 1)
            )
            x, y = (int(place * side / (3 * CELL)) for place in centre)
            objects[row, y * side + x] = OBJECTS.index(item.name)
            if isinstance(item, Tag):
                letters[row, y * side + x] = LETTERS.index(item.letter)
    return objects.to(batch.views.device), letters.to(batch.views.device)


@dataclass
class Losses:
    """Mean cross-entropies and shares of right predictions (of whole answers where it is one), by
    name.
    """

    terms: dict[str, Tensor]
    right: dict[str, float]

    def add(self, name: str, logits: Tensor, target: Tensor, weight: Tensor | None = None) -> None:
        """Logits (..., classes) against target (...); -100 is left out."""
        logits = logits.flatten(0, -2)
        target = target.flatten()
        self.terms[name] = F.cross_entropy(logits, target, weight)
        kept = target >= 0
        if weight is not None:
            kept &= target != NOTHING
        self.right[name] = float((logits.argmax(-1) == target)[kept].float().mean())


def look(network: Network, heads: Heads, batch: Batch, losses: Losses) -> tuple[Tensor, Tensor]:
    """Features of both views, and what the heads make of them."""
    features = network.see(batch.views, FIRST)
    closer = network.see(batch.crops, CROP)
    words = network.decoder.lm_head.weight
    weight = torch.ones(NOTHING + 1, device=features.device)
    weight[NOTHING] = 0.1  # most tokens hold nothing
    losses.add(
        "object", heads.object(features, words), sights(batch.plans, features.device), weight
    )
    objects, letters = close_sights(batch)
    losses.add("close object", heads.object(closer, words), objects, weight)
    losses.add("close letter", heads.letter(closer), letters)
    return features, closer


@contextmanager
def behind(network: Network, layer: int) -> Iterator[list[Tensor]]:
    """Collects the decoder's stream (batch, seq, hidden) behind a layer."""
    streams: list[Tensor] = []
    hook = network.decoder.layers[layer].register_forward_hook(
        lambda _, __, out: streams.append(out[0])
    )
    yield streams
    hook.remove()


class Reader:
    """Teacher-forced conversations of one batch behind its first picture."""

    def __init__(
        self, network: Network, heads: Heads, talk: Talk, features: Tensor, losses: Losses
    ) -> None:
        self.network = network
        self.heads = heads
        self.talk = talk
        self.features = features
        self.losses = losses
        self.prefix = [*talk.opening, *[talk.image_pad] * features.shape[1]]
        opening = network.embed(torch.tensor([talk.opening], device=features.device)).expand(
            len(features), -1, -1
        )
        cos, sin = rope(self.prefix, [FIRST], talk.image_pad, features.device)
        with behind(network, 0) as placed:
            _, self.past = network.read(torch.cat((opening, features), 1), (cos, sin))
        self.cells(placed[0][:, -GRID * GRID :])

    def cells(self, stream: Tensor) -> None:
        """Every token of the first view must know its column and row behind the first layer:
        (batch, 64, hidden).
        """
        logits = self.heads.cell(stream).unflatten(-1, (2, GRID))
        place = torch.arange(GRID * GRID, device=logits.device)
        target = torch.stack((place % GRID, place // GRID), 1).expand(len(logits), -1, -1)
        self.losses.add("cell", logits, target)

    def named(self, stream: Tensor, ids: Tensor, samples: list[Sample], name: str) -> None:
        """The word for a thing must know behind the second layer in which columns and rows that
        thing lies.
        """
        told = {row: sample.about for row, sample in enumerate(samples) if sample.about}
        if told:
            row, items = next(iter(told.items()))
            place = ids[row].tolist().index(self.talk.ids(f" {items[0].name}")[0])
            target = torch.zeros(len(told), 2, GRID, device=ids.device)
            for index, items in enumerate(told.values()):
                for item in items:
                    target[index, 0, item.cell[0]] += 1 / len(items)
                    target[index, 1, item.cell[1]] += 1 / len(items)
            logits = self.heads.named(stream[list(told), place]).unflatten(-1, (2, GRID))
            self.losses.terms[name] = F.cross_entropy(logits.flatten(0, 1), target.flatten(0, 1))
            self.losses.right[name] = float(
                target.gather(-1, logits.argmax(-1, True)).gt(0).float().mean()
            )

    def read(
        self,
        embeds: Tensor,
        rope: tuple[Tensor, Tensor],
        ids: Tensor,
        samples: list[Sample],
        name: str,
    ) -> Any:
        """The stream and cache of a question and what follows it."""
        with behind(self.network, 1) as streams:
            result = self.network.read(embeds, rope, self.past)
        self.named(streams[0], ids, samples, f"{name} named")
        return result

    def answer(self, name: str, samples: list[Sample]) -> None:
        """Questions answered at once."""
        rows = [
            [self.talk.asked(sample.question, "free"), self.talk.said(sample.answer)]
            for sample in samples
        ]
        ids, learned = self.join(rows, (1,))
        stream, _ = self.read(self.network.embed(ids), self.rope(ids, [FIRST]), ids, samples, name)
        self.score(name, stream, ids, learned)

    def region(self, batch: Batch, closer: Tensor) -> None:
        """Both rounds of the region questions; a stray look is part of the context but not
        learned.
        """
        talk = self.talk
        rows = []
        for sample, cell in zip(batch.letters, batch.looks, strict=True):
            first = [talk.asked(sample.question, "region"), talk.said(region(cell))]
            turn = [*talk.turn(talk.image_pad, closer.shape[1]), *talk.looked]
            rows.append([*first, turn, talk.said(sample.answer)])
        ids, learned = self.join(rows, (1, 3))
        embeds = self.fill(ids, talk.image_pad, closer)
        stream, _ = self.read(embeds, self.rope(ids, [FIRST, CROP]), ids, batch.letters, "region")
        pairs = zip(batch.letters, batch.looks, strict=True)
        strayed = torch.tensor(
            [sample.about[0].cell != cell for sample, cell in pairs], device=ids.device
        )
        last = len(talk.said("A"))
        self.score("region place", stream, ids, learned[:-last], strayed)
        self.score("region answer", stream, ids, learned[-last:])

    def reencode(self, samples: list[Sample]) -> None:
        """Both rounds of the re-encoding questions, cut where the condition is read."""
        talk = self.talk
        network = self.network
        rows = []
        for sample in samples:
            first = [talk.asked(sample.question, "reencode"), talk.said(ACTION)]
            turn = [*talk.turn(talk.clip_pad, self.features.shape[1]), *talk.looked]
            rows.append([*first, turn, talk.said(sample.answer)])
        ids, learned = self.join(rows, (1, 3))
        cut = learned[1]
        cos, sin = self.rope(ids, [FIRST])
        stream, past = self.read(
            network.embed(ids[:, :cut]), (cos[:cut], sin[:cut]), ids, samples, "reencode"
        )
        condition = network.decoder.norm(stream[:, -1])
        embeds = self.fill(ids, talk.clip_pad, network.projector(self.features, condition))
        embeds = torch.cat((condition[:, None], embeds[:, cut + 1 :]), 1)
        rest, _ = network.read(embeds, (cos[cut:], sin[cut:]), past)
        self.score("reencode", torch.cat((stream, rest), 1), ids, learned)

    def join(
        self, rows: list[list[list[int]]], taught: tuple[int, ...]
    ) -> tuple[Tensor, list[int]]:
        """Pieces of equal lengths in every row -> ids (batch, seq) and the places of the ``taught``
        pieces.
        """
        ids = torch.tensor([list(chain(*row)) for row in rows], device=self.features.device)
        ends = [sum(map(len, rows[0][: index + 1])) for index in range(len(rows[0]))]
        return ids, [place for index in taught for place in range(ends[index - 1], ends[index])]

    def rope(self, ids: Tensor, grids: list[tuple[int, int]]) -> tuple[Tensor, Tensor]:
        """Positions behind the prefix, equal in every row."""
        cos, sin = rope([*self.prefix, *ids[0].tolist()], grids, self.talk.image_pad, ids.device)
        return cos[len(self.prefix) :], sin[len(self.prefix) :]

    def fill(self, ids: Tensor, pad: int, features: Tensor) -> Tensor:
        """Embeddings of ``ids`` with the features in the place of the run of pads."""
        start = ids[0].tolist().index(pad)
        embeds = self.network.embed(ids)
        return torch.cat((embeds[:, :start], features, embeds[:, start + features.shape[1] :]), 1)

    def score(
        self,
        name: str,
        stream: Tensor,
        ids: Tensor,
        learned: list[int],
        left_out: Tensor | None = None,
    ) -> None:
        """Rows of ``left_out`` (batch) are in the batch but not learned."""
        target = ids[:, learned]
        if left_out is not None:
            target = target.masked_fill(left_out[:, None], -100)
        decoder = self.network.decoder
        logits = decoder.lm_head(decoder.norm(stream[:, [place - 1 for place in learned]]))
        self.losses.add(name, logits, target)
        kept = target[:, 0] >= 0
        self.losses.right[name] = float((logits.argmax(-1) == target).all(1)[kept].float().mean())


def speak(network: Network, heads: Heads, talk: Talk, batch: Batch, rng: Random) -> Losses:
    """All families of questions about one batch of scenes."""
    losses = Losses({}, {})
    features, closer = look(network, heads, batch, losses)
    reader = Reader(network, heads, talk, features, losses)
    reader.region(batch, closer)
    reader.reencode(ask(rng, batch, "quarter"))
    for kind in ("colour", "shape", rng.choice(("letter", "quarter"))):
        reader.answer(f"{kind} at once", ask(rng, batch, kind))
    return losses


def see(network: Network, heads: Heads, talk: Talk, batch: Batch, rng: Random) -> Losses:
    """The vision encoder alone."""
    losses = Losses({}, {})
    look(network, heads, batch, losses)
    return losses


def ask(rng: Random, batch: Batch, kind: str) -> list[Sample]:
    """One question of a kind and form about each scene."""
    form = rng.randrange(FORMS)
    return [ASK[kind](plan, rng, form) for plan in batch.plans]


@dataclass(frozen=True)
class Stage:
    step: Callable[[Network, Heads, Talk, Batch, Random], Losses]
    steps: int
    rate: float


STAGES = {"see": Stage(see, 600, 1.5e-3), "speak": Stage(speak, 1200, 1e-3)}
WARM = 50  # steps
EVERY = 50  # steps from one line of the log to the next
DECAY = 0.01


class Log:
    """Progress on the screen and in a file of JSON lines, with shares averaged since the last
    line.
    """

    def __init__(self, path: Path) -> None:
        self.file = path.open("w", encoding="utf-8")
        self.sums: dict[str, list[float]] = {}

    def add(self, losses: Losses) -> None:
        for name, term in losses.terms.items():
            self.sums.setdefault(name, []).append(losses.right[name])
            self.sums.setdefault("loss", []).append(float(term.detach()))

    def step(self, stage: str, step: int) -> None:
        means = {name: round(float(np.nanmean(values)), 4) for name, values in self.sums.items()}
        self.write({"stage": stage, "step": step, **means})
        self.sums = {}

    def write(self, line: dict[str, Any]) -> None:
        text = json.dumps(line)
        print(text, flush=True)
        self.file.write(text + "\n")
        self.file.flush()


def train(stage: str, network: Network, heads: Heads, talk: Talk, rng: Random) -> Iterator[Losses]:
    """The losses of each step, when it is done."""
    plan = STAGES[stage]
    parameters = [*network.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, plan.rate, (0.9, 0.98), weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, plan.steps))
    device = network.decoder.lm_head.weight.device
    for _ in range(plan.steps):
        losses = plan.step(network, heads, talk, draw_batch(rng, device), rng)
        optimizer.zero_grad()
        torch.stack(list(losses.terms.values())).sum().backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        yield losses


def rate(step: int, steps: int) -> float:
    """Warm-up, then half a cosine."""
    return min((step + 1) / WARM, 0.5 + 0.5 * math.cos(math.pi * step / steps))


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the demo checkpoint from nothing.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log", type=Path, default=Path(__file__).parent / "training.log")
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    start = time.monotonic()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    talk = Talk(build())
    network = Network().to(device)
    heads = Heads(talk).to(device)
    log = Log(options.log)
    rng = Random(options.seed)
    log.write({"parameters": sum(parameter.numel() for parameter in network.parameters())})
    for stage in STAGES:
        for step, losses in enumerate(train(stage, network, heads, talk, rng), 1):
            log.add(losses)
            if step % EVERY == 0:
                log.step(stage, step)
                save(network, talk.tokenizer, options.out)
    log.write({"minutes": round((time.monotonic() - start) / 60, 1)})
    log.write({"unseen scenes": 300, **measure(network, talk.tokenizer, 300, seed=10**6)})


if __name__ == "__main__":
    main()
