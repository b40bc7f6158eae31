"""A whole question with one look: in our runtime, from scratch, and as the authors run it in
torch.
"""

from __future__ import annotations

import copy
import importlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer

from benchmarks.libraries import WORD, Timed, nothing
from benchmarks.models import load
from vpt_edge import runtime
from vpt_edge.runtime.context import Context, Encoded, Visual
from vpt_edge.runtime.models.qwen2_vl import PROCESSOR
from vpt_edge.runtime.options import Options
from vpt_edge.runtime.perception.actions import Crop
from vpt_edge.runtime.positions import mrope_positions
from vpt_edge.runtime.processor import MERGE
from vpt_edge.runtime.sampler import Sampler
from vpt_edge.runtime.stopwatch import Stopwatch
from vpt_edge.runtime.view_limits import ViewLimits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vpt_edge.runtime.image import Patches
    from vpt_edge.runtime.manifest import ImageConfig
    from vpt_edge.runtime.options import AskOptions
    from vpt_edge.runtime.perception.actions import Mode
    from vpt_edge.runtime.result import Turn

ANSWER = 16  # tokens of the second turn; the first one is the region, which is given, and its end
NOTE = (
    "The questions: 640x480, random weights, the trigger given in the first turn, which ends "
    f"behind it, then {ANSWER} tokens that are given too. Nothing is kept from one question to the "
    "next, the template's own beginning included. A look lasts from the first turn's end to the "
    "answer's first token. From scratch is a run of our own to the same token with nothing kept: "
    "both pictures prepared and encoded (for the re-encode the same one twice), the second turn's "
    "whole prompt prefilled. The authors' scheme is run in full on the same tokens: each pass over "
    "the language model twice on a copy of the cache, the second round from nothing with both "
    "pictures, whose patches all attend to each other (PROTOCOL 8); logits are computed for the "
    "last position alone. Their evaluation computes the loss behind each turn too: it is encoded "
    "and passed through twice once more, from nothing."
)
ASKED = "What is the colour of the car that stands in front of the house on the left?"


@dataclass(frozen=True)
class Look:
    """A kind of look, what the first turn says to get one, and what the times are called."""

    kind: str
    prefix: str
    mode: Mode

    @property
    def question(self) -> str:
        return f"a question with one {self.kind} look"

    @property
    def wait(self) -> str:
        return f"the {self.kind} look of a question"

    @property
    def scratch(self) -> str:
        return f"instead of the {self.kind} look, from scratch"


REGION = Look(
    "region",
    "<|region_token_start|><|x_2|><|y_2|><|x_4|><|y_4|><|region_token_end|>",
    "region",
)
REENCODE = Look("reencode", "<|clip_action_start|><|clip_action|><|clip_action_end|>", "reencode")
ZOOM = Look(
    "zoom",
    '<tool_call>\n{"name": "image_zoom_in_tool", "arguments": {"bbox_2d": [250, 250, 750, 750], '
    '"label": "the car", "img_idx": 0}}\n</tool_call>',
    "free",
)
LOOKS = (REGION, REENCODE, ZOOM)
OWN_LOOKS = {"vpt": (REGION, REENCODE), "text": (ZOOM,)}  # of each way of looking again


class Question:
    """A picture of 640x480, a look that is given, and an answer whose tokens are given too."""

    def __init__(self, folder: Path) -> None:
        self.pipeline = runtime.Pipeline(folder)
        end = Tokenizer.from_file(str(folder / "tokenizer.json")).token_to_id("<|im_end|>")
        self._script = [end, *range(WORD, WORD + ANSWER - 1), end]
        coarse = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
        self._picture = Image.fromarray(coarse).resize((640, 480), Image.Resampling.BICUBIC)
        self._answers: dict[Look, runtime.Answer] = {}
        looks = OWN_LOOKS[str(self.pipeline.bundle.manifest.perception["name"])]
        self.waits: dict[str, list[float]] = {look.wait: [] for look in looks}
        self.touched: dict[str, int] = {}
        self.runs: dict[str, Timed] = {}
        for look in looks:
            self.runs[look.question] = (self.pipeline.forget, partial(self.ask, look))
            self.runs[look.scratch] = (self.pipeline.forget, partial(self._begin_again, look))

    def ask(self, look: Look, budget: AskOptions | None = None) -> runtime.Answer:
        """``budget``: options that say what the question may cost."""
        script = iter(self._script)
        asked: AskOptions = {
            **(budget or {}),
            "perception": look.mode,
            "assistant_prefix": look.prefix,
        }

        class Scripted(Sampler):
            """Chooses as ever, and then takes what is given."""

            def choose(self, logits: Any, generated: Any = ()) -> int:
                super().choose(logits, generated)
                return next(script)

        with mock.patch("vpt_edge.runtime.pipeline.Sampler", Scripted):
            answer = self.pipeline.ask(self._picture, ASKED, **asked)
        assert len(answer.looks) == 1 and not any(script)
        self.waits[look.wait].append(answer.usage.first_token_seconds[1])
        self._answers[look] = answer
        return answer

    def _begin_again(self, look: Look) -> int:
        """The first token of the last answer's second turn, as if there had been no first one."""
        vision = self.pipeline._vision
        decoder = self.pipeline._decoder
        answer = self._answers[look]
        looked = answer.looks[0]
        stopwatch = Stopwatch()
        encoded = [vision.encode(answer.image, stopwatch)]
        if looked.crop is None:
            again = vision.encode(answer.image, stopwatch)
            encoded.append(Encoded(again.features, None))
        else:
            limits = self._look_limits(looked)
            encoded.append(vision.encode(looked.crop, stopwatch, limits))
        ids = answer.turns[1].prompt_ids
        manifest = self.pipeline.bundle.manifest
        pads = [manifest.tokens.image_pad]
        if look is REENCODE:
            pads.append(manifest.perception["reencode_pad"])
        context = Context(list(ids), place(ids, encoded, pads))
        return Sampler(0.0, None, None, None).choose(decoder.prefill(context))

    def _look_limits(self, looked: runtime.Looked) -> ImageConfig:
        """Those of a crop, by its rule where it has one."""
        action = looked.action
        assert isinstance(action, Crop) and looked.crop is not None
        pipeline = self.pipeline
        limits = ViewLimits(Options(), pipeline.bundle.manifest, pipeline._vision)
        return limits.look(looked.crop.size, action.limits)

    def close(self) -> None:
        self.runs.clear()
        self.pipeline.close()


def place(ids: Sequence[int], encoded: Sequence[Encoded], pads: Sequence[int]) -> list[Visual]:
    """Where each of ``encoded`` stands: at the next run of one of ``pads``."""
    visuals: list[Visual] = []
    end = 0
    for each in encoded:
        start = next(index for index in range(end, len(ids)) if ids[index] in pads)
        visuals.append(Visual(start, each))
        end = visuals[-1].end
    return visuals


class Authors:
    """The authors' scheme in torch (PROTOCOL 8), replaying the tokens of an answer of ours.

    Every pass over the language model is made twice, each time on a copy of the whole cache; the
    second round begins from nothing, with both pictures, whose patches attend to all of both;
    pictures are prepared twice in a round. Their evaluation computes the loss behind each turn too
    (``with_loss``). Logits of the last position alone flatter them.
    """

    def __init__(self, folder: Path, dtype: str, ours: Question, threads: int) -> None:
        torch.set_num_threads(threads)
        self._new_cache = importlib.import_module("transformers").DynamicCache
        self._model = load(folder, dtype)
        self._manifest = ours.pipeline.bundle.manifest
        answer = ours.ask(REGION)
        crops = [look.crop for look in answer.looks if look.crop is not None]
        rounds = [(answer.turns[0], [answer.image]), (answer.turns[1], [answer.image, *crops])]
        self.touched: dict[str, int] = {}
        self._rounds = rounds
        self.runs: dict[str, Timed] = {
            REGION.question: (nothing, partial(self._answer, loss=False))
        }

    def with_loss(self) -> Authors:
        """The same model as another contender, whose runs include the loss."""
        other = copy.copy(self)
        other.runs = {REGION.question: (nothing, partial(other._answer, loss=True))}
        return other

    def _answer(self, loss: bool) -> None:
        for turn, pictures in self._rounds:
            self._round(turn, pictures, loss)

    @torch.inference_mode()
    def _round(self, turn: Turn, pictures: list[Any], loss: bool) -> None:
        limits = self._manifest.image
        pad = self._manifest.tokens.image_pad
        for _ in range(2):
            views = [PROCESSOR.preprocess(picture, limits) for picture in pictures]
        text = self._model.model.language_model
        cache, place = self._prefill(turn.prompt_ids, views, pad)
        for token in turn.generated_ids[:-1]:  # behind the last one nothing is computed
            embeds = text.embed_tokens(torch.tensor([[token]]))
            cache = self._pass_twice(embeds, torch.full((3, 1, 1), place), cache)
            place += 1
        if loss:
            self._prefill((*turn.prompt_ids, *turn.generated_ids), views, pad)

    def _prefill(self, ids: tuple[int, ...], views: list[Patches], pad: int) -> tuple[Any, int]:
        """The pictures encoded and all of ``ids`` passed through twice: the cache, and the next
        place.
        """
        model = self._model.model
        grids = [view.grid for view in views]
        patches = np.concatenate([view.values for view in views])
        pixels = torch.from_numpy(patches).to(self._model.dtype)
        together = torch.tensor([0, len(pixels)], dtype=torch.int32)
        features = model.visual(pixels, grid_thw=torch.tensor(grids), cu_seqlens=together)
        told = torch.tensor([ids])
        embeds = model.language_model.embed_tokens(told)
        embeds[told == pad] = features.pooler_output.to(embeds.dtype)
        encoded = [Encoded(view.values[:: MERGE**2], view.grid) for view in views]
        places = mrope_positions(len(ids), place(ids, encoded, (pad,)), MERGE)
        positions = torch.from_numpy(places)[:, None]
        cache = self._new_cache(config=model.language_model.config)
        return self._pass_twice(embeds, positions, cache), int(positions.max()) + 1

    def _pass_twice(self, embeds: Any, positions: Any, cache: Any) -> Any:
        for _ in range(2):
            copied = copy.deepcopy(cache)
            hidden = self._model.model.language_model(
                inputs_embeds=embeds, position_ids=positions, past_key_values=copied, use_cache=True
            )
        int(self._model.lm_head(hidden.last_hidden_state[:, -1:]).argmax())
        return copied

    def close(self) -> None:
        self.runs.clear()
        self._model = None
