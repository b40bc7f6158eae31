"""Qwen3-VL: a vision encoder with learned positions whose deep features go into the first layers of
a language model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vpt_edge.export.models.qwen2_vl.config import SPECIAL_TOKENS, TOKEN_IDS
from vpt_edge.export.models.qwen2_vl.decoder import embeddings_tensor, optional_tensors
from vpt_edge.export.models.qwen2_vl.layout import original_name
from vpt_edge.export.models.qwen3_vl.config import (
    TextConfig,
    VisionConfig,
    text_config,
    vision_config,
)
from vpt_edge.export.models.qwen3_vl.decoder import decoder_spec, decoder_tensors
from vpt_edge.export.models.qwen3_vl.foreign import QWEN3_VL
from vpt_edge.export.models.qwen3_vl.vision import vision_spec, vision_tensors
from vpt_edge.runtime.models.qwen3_vl import PROCESSOR, Qwen3VLConfig

if TYPE_CHECKING:
    from collections.abc import Container

    from vpt_edge.export.spec import GraphOptions, Shape, Spec


@dataclass(frozen=True)
class Qwen3VL:
    """The tower of a checkpoint. ``special_tokens`` are those that its prompts are made of,
    ``token_ids`` the keys of config.json that name one of them.
    """

    vision: VisionConfig
    text: TextConfig
    processor = PROCESSOR
    kv_cache = "int8"  # in float16 a token takes 115 kB and more
    special_tokens = SPECIAL_TOKENS
    token_ids = TOKEN_IDS

    @classmethod
    def read(cls, config: Mapping[str, Any], folder: Path) -> Qwen3VL:
        """From ``config``, which config.json in ``folder`` holds."""
        text = text_config(config, folder)
        return cls(vision_config(config, folder, text), text)

    def block(self) -> dict[str, Any]:
        """The manifest's block ``model``."""
        vision = self.vision
        config = Qwen3VLConfig(vision.head_dim, vision.levels, vision.positions_side)
        return {"name": QWEN3_VL.model_type, **asdict(config)}

    def tensors(self) -> dict[str, Shape]:
        """Name and shape of every tensor, a separate lm_head included."""
        return {**vision_tensors(self.vision), **decoder_tensors(self.text)}

    def optional_tensors(self) -> set[str]:
        """Those that a checkpoint may lack."""
        return optional_tensors(self.text)

    def original_name(self, name: str) -> str:
        """A tensor of the file by the name that ``tensors`` has for it."""
        return original_name(name)

    def embeddings_tensor(self, names: Container[str]) -> str:
        """The embedding table among the tensors ``names`` of a checkpoint."""
        return embeddings_tensor(self.text, names)

    def specs(self, options: GraphOptions, embeddings: str) -> dict[str, Spec]:
        """The graphs, in the order in which they are exported; ``embeddings`` is the tensor of the
        embedding table.
        """
        return {
            "vision_encoder": vision_spec(self.vision, options),
            "decoder": decoder_spec(self.text, self.vision.levels, options, embeddings),
        }
