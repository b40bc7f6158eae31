"""What a step of the training works with: network, heads, tokens, and drawn examples."""

from __future__ import annotations

import hashlib
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from network import Network
from signs.attention import TrainingAttention
from signs.conversation import Conversations
from signs.draw import DRAWING, Drawer
from signs.heads import Heads
from signs.losses import Losses
from signs.pool import Painters, Pool
from signs.see import cut_windows, encode, see_windows, vary_colours, vary_light
from signs.see_scenes import encode_scenes, see_scenes
from signs.sizes import TOKEN, VIEW
from signs.speak import speak
from signs.tokens import build_tokenizer
from talk import Talk
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from signs.recipe import Recipe, Stage
    from torch import Tensor

    Records = NDArray[Any]
    Draw = Callable[[int, int], Records]
    Pair = tuple[Tensor, Tensor]

SMALL_SHARE = 1 / 9  # of the batches: of scenes with smaller crops, as among all scenes
NOISE = 0.15  # of features, against their own deviation
ENCODED = 32  # scenes at a time
FIRST_TOKENS = (VIEW // TOKEN) ** 2


class Workshop:
    """A step of a stage is the same every time that it is taken with the same weights.

    ``faces``: paths of further typefaces.
    """

    def __init__(self, recipe: Recipe, folder: Path, faces: tuple[str, ...] = ()) -> None:
        torch.manual_seed(recipe.seed)
        geometry = recipe.geometry
        self.recipe = recipe
        self.network = Network(geometry.vision, geometry.text, TrainingAttention)
        self.heads = Heads(geometry.text.hidden_size)
        self.talk = Talk(build_tokenizer())
        self.features: Pool | None = None
        self._folder = folder
        size = recipe.chunk
        few = recipe.chunk // 4
        chunks = recipe.windows // size
        self.drawer = Drawer(recipe.seed, "training", chunks, faces)
        self.windows = self._pool("windows", self.drawer.windows, chunks, size)
        self.scenes = self._pool("scenes", self.drawer.scenes, recipe.scenes // few, few)
        self._unseen = Drawer(recipe.seed, "test")
        self.unseen_windows = self._pool("unseen-windows", self._unseen.windows, 1, size)
        self.unseen_scenes = self._pool("unseen-scenes", self._unseen.scenes, 1, few)
        unseen = (self.unseen_windows, self.unseen_scenes)
        self.painters = Painters((*unseen, self.windows, self.scenes))

    def _pool(self, what: str, draw: Draw, chunks: int, size: int) -> Pool:
        """In a folder that is named after all that its records depend on."""
        name = f"{what}-{DRAWING}-{self.recipe.seed}-{size}-{chunks}-{len(self.drawer.faces)}"
        return Pool(self._folder / name, draw, chunks, size)

    def parameters(self, stage: Stage) -> list[nn.Parameter]:
        """What a stage trains."""
        modules: list[nn.Module] = [self.heads]
        if stage.name != "speak":
            modules.append(self.network.visual)
        if stage.name == "speak":
            modules += [self.network.decoder, self.network.projector]
        parameters = list[nn.Parameter]()
        for module in modules:
            parameters.extend(module.parameters())
        return parameters

    def take_step(self, stage: Stage, step: int) -> Losses:
        """The losses of one step."""
        rng = Random(f"{self.recipe.seed}/{stage.name}/{step}")
        steps: dict[str, Callable[[Stage, float, Random], Losses]] = {
            "letters": self._read_windows,
            "see": self._see,
            "read": self._read,
            "speak": self._speak,
        }
        return steps[stage.name](stage, step / stage.steps, rng)

    def _read_windows(self, stage: Stage, done: float, rng: Random) -> Losses:
        losses = Losses()
        self._see_windows(losses, rng, stage.batch, self._in_use(self.windows, done))
        return losses

    def _see_windows(self, losses: Losses, rng: Random, count: int, limit: int) -> None:
        records = self.painters.take(self.windows, choose(rng, count, limit))
        pixels, centres = cut_windows(records, rng)
        features = encode(self.network, vary_colours(pixels, rng))
        see_windows(self.heads, losses, features, centres, records["text"].astype(np.int64))

    def _see(self, stage: Stage, done: float, rng: Random) -> Losses:
        """Scenes, the crops of a few, in which letters look as in windows, and more of these."""
        losses = Losses()
        indices = self._choose_scenes(rng, stage.batch, self._in_use(self.scenes, done))
        features = encode_scenes(self.network, self._take_scenes(indices, rng), stage.crops)
        scenes = [self.drawer.scene(index) for index in indices]
        looks = [self.drawer.look(index, scenes[row]) for row, index in enumerate(indices)]
        see_scenes(self.heads, losses, features, scenes, looks)
        self._see_windows(losses, rng, stage.windows, self._in_use(self.windows, 1.0))
        return losses

    def _read(self, stage: Stage, done: float, rng: Random) -> Losses:
        """The same, with all that is drawn from the first step on."""
        return self._see(stage, 1.0, rng)

    def _take_scenes(self, indices: Sequence[int], rng: Random) -> Records:
        """Those scenes in another light."""
        records = self.painters.take(self.scenes, indices)
        for view in ("view", "crop"):
            records[view] = vary_light(records[view], rng)
        return records

    def _speak(self, stage: Stage, done: float, rng: Random) -> Losses:
        """Conversations on features that stay as they are but for noise."""
        assert self.features is not None, "they are encoded when the stage begins"
        losses = Losses()
        indices = self._choose_scenes(rng, stage.batch, self._in_use(self.scenes, 1.0))
        records = self.painters.take(self.features, indices)
        tokens = int(records["tokens"][0])
        first = add_noise(records["view"], rng)
        crops = add_noise(records["crop"][:, :tokens], rng)
        self._talk(losses, self.drawer, indices, (first, crops), rng)
        return losses

    def _talk(
        self,
        losses: Losses,
        drawer: Drawer,
        indices: Sequence[int],
        features: Pair,
        rng: Random,
    ) -> None:
        scenes = [drawer.scene(index) for index in indices]
        looks = [drawer.look(index, scenes[row]) for row, index in enumerate(indices)]
        first, crops = features
        conversations = Conversations(self.network, self.heads, self.talk, first, losses)
        speak(conversations, crops, scenes, looks, rng)

    def _in_use(self, pool: Pool, done: float) -> int:
        """How many records are in use when that share of a stage is done: first ones of two chunks,
        then more and more.
        """
        grown = min(done / self.recipe.grown, 1.0)
        return pool.size * min(2 + int(grown * pool.chunks), pool.chunks)

    def _choose_scenes(self, rng: Random, count: int, limit: int) -> list[int]:
        """Numbers of scenes below ``limit`` whose crops are of one size."""
        is_small = rng.random() < SMALL_SHARE
        chosen = list[int]()
        while len(chosen) < count:
            index = rng.randrange(limit)
            if self.drawer.is_small(index) == is_small:
                chosen.append(index)
        return chosen

    @torch.no_grad()
    def test(self, stage: Stage) -> dict[str, float]:
        """The shares that are right on typefaces and photographs that training never sees."""
        losses = Losses()
        rng = Random(self.recipe.seed)
        if stage.name in ("letters", "see", "read"):
            records = self.painters.take(self.unseen_windows, range(self.recipe.chunk))
            pixels, centres = cut_windows(records, rng)
            features = encode(self.network, pixels)
            see_windows(self.heads, losses, features, centres, records["text"].astype(np.int64))
        else:
            drawer = self._unseen
            indices = [i for i in range(self.recipe.chunk // 4) if not drawer.is_small(i)]
            views = encode_scenes(self.network, self.painters.take(self.unseen_scenes, indices))
            self._talk(losses, drawer, indices, views, rng)
        return {f"unseen {name}": round(share, 4) for name, share in losses.right.items()}

    def encode_all(self, is_wanted: Callable[[], bool]) -> None:
        """The features of all scenes, on the disk, for the stage that leaves the encoder alone."""
        digest = hashlib.sha256()
        for parameter in self.network.visual.parameters():
            digest.update(parameter.detach().numpy().tobytes())
        folder = self._folder / f"features-{digest.hexdigest()[:16]}"
        self.features = Pool(folder, self._encode_chunk, self.scenes.chunks, self.scenes.size)
        self.features.fill(is_wanted)

    @torch.no_grad()
    def _encode_chunk(self, chunk: int, size: int) -> Records:
        hidden = self.network.text.hidden_size
        kept = ("view", "f2", (FIRST_TOKENS, hidden)), ("crop", "f2", (FIRST_TOKENS, hidden))
        encoded = np.zeros(size, np.dtype([*kept, ("tokens", "i2")]))
        records = self.painters.take(self.scenes, range(chunk * size, (chunk + 1) * size))
        for shown in np.unique(records["shown"]):
            rows = np.flatnonzero(records["shown"] == shown)
            for start in range(0, len(rows), ENCODED):
                some = rows[start : start + ENCODED]
                first, crops = encode_scenes(self.network, records[some])
                encoded["view"][some] = first.float().numpy()
                encoded["crop"][some, : crops.shape[1]] = crops.float().numpy()
                encoded["tokens"][some] = crops.shape[1]
        return encoded


def add_noise(features: NDArray[np.float16], rng: Random) -> Tensor:
    """So that what is learned on few pictures does not hang on their last digit."""
    numbers = np.random.default_rng(rng.getrandbits(32))
    exact = features.astype(np.float32)
    noise = numbers.standard_normal(exact.shape, np.float32)
    return torch.from_numpy(exact + NOISE * exact.std((0, 1)) * noise)


def choose(rng: Random, count: int, limit: int) -> list[int]:
    return [rng.randrange(limit) for _ in range(count)]
