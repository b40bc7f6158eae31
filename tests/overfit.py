"""Tiny models that were trained to a few answers: what they say is no matter of chance, and must
stay in fewer bits.
"""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from vpt_edge.export.attention import PlainAttention
from vpt_edge.export.checkpoint import Checkpoint
from vpt_edge.export.quantization.recipe import RECIPES
from vpt_edge.export.verify import flatten, tensors
from vpt_edge.export.writer import BundleWriter
from vpt_edge.runtime.chat import Chat
from vpt_edge.runtime.context import Encoded
from vpt_edge.runtime.models import open_tower
from vpt_edge.runtime.perception import open_perception

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from vpt_edge.export.spec import Spec
    from vpt_edge.runtime.image import Patches

QUESTION = "Which?"
ANSWERS = {"red": (230, 20, 20), "lime": (20, 220, 40), "blue": (20, 40, 220), "white": (250,) * 3}
SIZES = ((64, 64), (96, 64))
STEPS = 50  # of all pictures
RATE = 3e-3


def draw(name: str, size: tuple[int, int]) -> Image.Image:
    """A picture of the colour ``name``, with a grain that differs from size to size."""
    grain = np.random.default_rng(size).integers(-15, 16, (size[1], size[0], 1))
    pixels = np.array(ANSWERS[name]) + grain
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


class Student:
    """The modules of a checkpoint in ``folder``, as they are exported, with weights that learn."""

    def __init__(self, folder: Path) -> None:
        checkpoint = Checkpoint.open(str(folder))
        writer = BundleWriter(checkpoint, RECIPES["fp32"], "tensorrt", 1024, folder)
        manifest = writer.manifest()
        self._file = folder / "model.safetensors"
        self._specs = writer.specs
        self._names = {checkpoint.model.original_name(name): name for name in load_file(self._file)}
        self._tower = open_tower(manifest)
        self._image = manifest.image
        self._way = open_perception(manifest)
        self._chat = Chat(checkpoint.tokenizer_file, self._way.pads)
        self._modules = dict[str, Any]()
        for name in ("vision_encoder", "decoder"):
            self._modules[name] = self._load(writer, name)
        self._table = nn.Parameter(checkpoint.read(checkpoint.embeddings_tensor).clone())
        if checkpoint.tied:
            self._modules["decoder"].lm_head.weight = self._table
        self.parameters = {*self._modules["vision_encoder"].parameters(), self._table}
        self.parameters |= {*self._modules["decoder"].parameters()}

    def _load(self, writer: BundleWriter, name: str) -> nn.Module:
        spec = writer.specs[name]
        load = writer.loader(spec)
        module = spec.build(PlainAttention)
        module.load_state_dict({key: load(key) for key in module.state_dict()})
        return module

    def loss(self, picture: Image.Image, answer: str) -> Tensor:
        """How unlikely ``answer`` is, token by token."""
        patches = self._tower.preprocess(picture, self._image)
        features, *deep = self._see(patches)
        outline = Encoded(features[0].detach().numpy(), patches.grid)
        context = self._chat.context(self._way.opening(QUESTION, self._way.usual_mode), [outline])
        begin = len(context.ids)
        ids = [*context.ids, *self._chat.encode(f"{answer}<|im_end|>")]
        embeds = self._table[torch.tensor(ids)]
        visual = context.visuals[0]
        embeds = embeds.index_copy(0, torch.arange(visual.start, visual.end), features[0])
        positions = self._tower.positions(len(ids), context.visuals)
        cos, sin = map(torch.from_numpy, self._tower.rotations(positions))
        inputs = [embeds[None], cos, sin]
        for levels in deep:
            rows = torch.zeros(len(levels), *embeds.shape)
            rows[:, visual.start : visual.end] = levels
            inputs.append(rows)
        return self._entropy(inputs, ids, begin)

    def _see(self, patches: Patches) -> list[Tensor]:
        inputs = dict(self._tower.inputs(patches))
        return flatten(self._modules["vision_encoder"](*tensors(inputs)))

    def _entropy(self, inputs: list[Tensor], ids: list[int], begin: int) -> Tensor:
        """The decoder gives the last position's logits alone: its layers are run to the end."""
        decoder = self._modules["decoder"]
        states = list[Tensor]()
        hook = decoder.layers[-1].register_forward_hook(lambda _, x, y: states.append(y[0]))
        decoder(*inputs)
        hook.remove()
        logits = decoder.lm_head(decoder.norm(states[0]))[0, begin - 1 : -1]
        return nn.functional.cross_entropy(logits, torch.tensor(ids[begin:]))

    def learn(self, pictures: Sequence[tuple[Image.Image, str]]) -> None:
        """Walk ``STEPS`` times over all ``pictures`` and their answers."""
        optimizer = torch.optim.AdamW(self.parameters, lr=RATE, weight_decay=0.0)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
        for _ in range(STEPS):
            optimizer.zero_grad()
            for picture, answer in pictures:
                self.loss(picture, answer).backward()
            optimizer.step()
            schedule.step()

    def save(self) -> None:
        """Write what was learned into the checkpoint's file."""
        stored = load_file(self._file)
        learned = {"model.embed_tokens.weight": self._table}
        for name, module in self._modules.items():
            spec: Spec = self._specs[name]
            for key, value in module.state_dict().items():
                learned.setdefault(spec.tensor_name(key), value)
        for original, name in self._names.items():
            value = learned[original].detach()
            stored[name] = value.reshape(stored[name].shape).contiguous().clone()
        save_file(stored, self._file)


def overfit(folder: Path) -> Path:
    """Train the checkpoint in ``folder`` until it names the colour of a picture."""
    student = Student(folder)
    pictures = [(draw(name, size), name) for name in ANSWERS for size in SIZES]
    with one_thread():
        student.learn(pictures)
    student.save()
    return folder


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Threads that wait for each other crawl where the machine has other work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def write_samples(folder: Path) -> Path:
    """The pictures that the model was trained on, as calibration data with their answers."""
    folder.mkdir()
    lines = []
    for name in ANSWERS:
        for size in SIZES:
            file = f"{name}-{size[0]}.png"
            draw(name, size).save(folder / file)
            lines.append(json.dumps({"image": file, "question": QUESTION, "answer": name}))
    (folder / "data.jsonl").write_text("\n".join(lines), "utf-8")
    return folder / "data.jsonl"
