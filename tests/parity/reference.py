"""What transformers computes: eager attention, float32, its image processor that runs on Pillow."""

from __future__ import annotations

from dataclasses import dataclass
from types import MethodType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import AutoModelForImageTextToText
from transformers.models.qwen2_5_vl.processing_qwen2_5_vl import Qwen2_5_VLProcessor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.qwen3_vl.processing_qwen3_vl import Qwen3VLProcessor
from transformers.models.qwen3_vl.video_processing_qwen3_vl import Qwen3VLVideoProcessor

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from PIL import Image

    Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Scene:
    """``frames`` of one size, so many a second as ``rate`` says."""

    frames: Sequence[Image.Image]
    rate: float


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
    def logits(
        self,
        ids: Sequence[int],
        pictures: Sequence[Image.Image],
        scene: Scene | None = None,
        positions: Array | None = None,
    ) -> Array:
        """Of every position (tokens, vocabulary), the whole prompt at once.

        ``positions`` (3, tokens): in place of its own.
        """
        inputs = dict[str, Any]()
        if pictures:
            values, grids = map(torch.from_numpy, self.pixels(pictures))
            inputs |= {"pixel_values": values, "image_grid_thw": grids}
        if scene is not None:
            values, grids = self.patches(scene)
            inputs |= {"pixel_values_videos": values, "video_grid_thw": grids}
            inputs |= self._pace(scene)
        if positions is not None:
            inputs["position_ids"] = torch.from_numpy(positions)[:, None]
        tokens = torch.tensor([list(ids)])
        result = self.model(
            input_ids=tokens,
            attention_mask=torch.ones_like(tokens),
            mm_token_type_ids=self._kinds(tokens),
            use_cache=False,
            **inputs,
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

    def _kinds(self, tokens: torch.Tensor) -> torch.Tensor:
        """1 for what stands for a picture, 2 for frames."""
        is_picture = (tokens == self.model.config.image_token_id).int()
        return is_picture + 2 * (tokens == self.model.config.video_token_id).int()

    def _pace(self, scene: Scene) -> dict[str, Any]:
        if self.model.config.model_type != "qwen2_5_vl":
            return {}
        return {"second_per_grid_ts": torch.tensor([2 / scene.rate])}

    def patches(self, scene: Scene) -> tuple[torch.Tensor, torch.Tensor]:
        """Patches (patches, width) of the frames, and their grid (1, 3).

        The frames are brought to size and normalized as pictures are: what a video processor does
        to that needs torchvision. It puts them into patches by code that all three families share.
        """
        side = self.model.config.vision_config.patch_size
        frames = [self._normalize(frame, side) for frame in scene.frames]
        video = torch.from_numpy(np.stack(frames))[None]
        patchify = Qwen3VLVideoProcessor.patchify
        values, *grid = patchify(None, video, side, 2, 2)
        return values[0], torch.tensor([grid])

    def _normalize(self, frame: Image.Image, side: int) -> Array:
        """The values (3, height, width) of the patches of ``frame`` as a picture."""
        values, grids = self.pixels([frame])
        _, rows, columns = grids[0]
        split = values.reshape(rows // 2, columns // 2, 2, 2, 3, 2, side, side)[:, :, :, :, :, 0]
        pixels = split.transpose(4, 0, 2, 5, 1, 3, 6)
        return pixels.reshape(3, rows * side, columns * side)

    @torch.inference_mode()
    def scene_features(self, scene: Scene) -> Array:
        """Visual tokens (tokens, hidden) of all frames."""
        return np.array(torch.cat(self.model.model.get_video_features(*self.patches(scene))[1]))

    def positions(self, ids: Sequence[int], scene: Scene) -> Array:
        """Positions (3, tokens) of a prompt with the frames of ``scene``."""
        tokens = torch.tensor([list(ids)])
        _, grids = self.patches(scene)
        positions, _ = self.model.model.get_rope_index(
            tokens, self._kinds(tokens), video_grid_thw=grids, **self._pace(scene)
        )
        return np.array(positions[:, 0])

    def place(self, scene: Scene) -> str:
        """What its processor puts into the place of a video's token."""
        _, grids = self.patches(scene)
        metadata = SimpleNamespace(fps=scene.rate, frames_indices=list(range(len(scene.frames))))
        video = {"video_grid_thw": grids, "video_metadata": [metadata]}
        processor = SimpleNamespace(
            video_processor=SimpleNamespace(merge_size=2, temporal_patch_size=2),
            video_token="<|video_pad|>",
            vision_start_token="<|vision_start|>",
            vision_end_token="<|vision_end|>",
        )
        family = Qwen2_5_VLProcessor
        if self.model.config.model_type == "qwen3_vl":
            family = Qwen3VLProcessor
            processor._calculate_timestamps = MethodType(family._calculate_timestamps, processor)
        return family.replace_video_token(processor, video, 0)

    def generate(
        self, ids: Sequence[int], pictures: Sequence[Image.Image], count: int
    ) -> list[int]:
        """The ``count`` likeliest ids behind the prompt, each computed from the beginning."""
        known = list(ids)
        for _ in range(count):
            known.append(int(self.logits(known, pictures)[-1].argmax()))
        return known[len(ids) :]
