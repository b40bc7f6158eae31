"""What transformers computes: eager attention, float32, its image processor that runs on Pillow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import AutoModelForImageTextToText
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from PIL import Image

    Array = np.ndarray[Any, Any]


class Reference:
    """The checkpoint in ``folder`` in transformers."""

    def __init__(self, folder: Path) -> None:
        self.model = AutoModelForImageTextToText.from_pretrained(
            folder, attn_implementation="eager", dtype=torch.float32
        ).eval()
        self._processor = Qwen2VLImageProcessorPil.from_pretrained(folder)

    def pixels(self, pictures: Sequence[Image.Image]) -> tuple[Array, Array]:
        """Patches (patches, width) of all ``pictures``, and their grids (pictures, 3)."""
        processed = self._processor(list(pictures), return_tensors="np")
        return processed["pixel_values"], processed["image_grid_thw"]

    @torch.inference_mode()
    def features(self, picture: Image.Image) -> tuple[Array, Array | None]:
        """Visual tokens (tokens, hidden), and the deep features (levels, tokens, hidden) of a model
        that has them.
        """
        values, grids = map(torch.from_numpy, self.pixels([picture]))
        result = self.model.model.get_image_features(values, grids)
        (features,) = result.pooler_output
        levels = getattr(result, "deepstack_features", None)
        if not levels:
            return np.array(features), None
        deep = torch.stack([level for (level,) in levels])  # each of them picture by picture
        return np.array(features), np.array(deep)

    @torch.inference_mode()
    def logits(self, ids: Sequence[int], pictures: Sequence[Image.Image]) -> Array:
        """Of every position (tokens, vocabulary), the whole prompt at once."""
        values, grids = map(torch.from_numpy, self.pixels(pictures))
        tokens = torch.tensor([list(ids)])
        kinds = (tokens == self.model.config.image_token_id).int()
        result = self.model(
            input_ids=tokens,
            attention_mask=torch.ones_like(tokens),
            pixel_values=values,
            image_grid_thw=grids,
            mm_token_type_ids=kinds,
            use_cache=False,
        )
        return np.array(result.logits[0])

    @torch.inference_mode()
    def logits_without(
        self, ids: Sequence[int], pictures: Sequence[Image.Image], unseen: Sequence[int]
    ) -> Array:
        """The same, of a prompt whose tokens at ``unseen`` keep their positions, and are seen by
        none.
        """
        values, grids = map(torch.from_numpy, self.pixels(pictures))
        tokens = torch.tensor([list(ids)])
        kinds = (tokens == self.model.config.image_token_id).int()
        positions, _ = self.model.model.get_rope_index(tokens, kinds, image_grid_thw=grids)
        mask = torch.ones_like(tokens)
        mask[0, list(unseen)] = 0
        result = self.model(
            input_ids=tokens,
            attention_mask=mask,
            position_ids=positions,
            pixel_values=values,
            image_grid_thw=grids,
            mm_token_type_ids=kinds,
            use_cache=False,
        )
        return np.array(result.logits[0])

    def generate(
        self, ids: Sequence[int], pictures: Sequence[Image.Image], count: int
    ) -> list[int]:
        """The ``count`` likeliest ids behind the prompt, each computed from the beginning."""
        known = list(ids)
        for _ in range(count):
            known.append(int(self.logits(known, pictures)[-1].argmax()))
        return known[len(ids) :]
