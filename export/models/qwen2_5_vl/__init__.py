"""Qwen2.5-VL: a vision encoder that sees in windows, and the language model of Qwen2-VL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vpt_edge.export.models.qwen2_5_vl.config import QWEN2_5_VL, VisionConfig, vision_config
from vpt_edge.export.models.qwen2_5_vl.vision import vision_spec, vision_tensors
from vpt_edge.export.models.qwen2_vl.config import (
    SPECIAL_TOKENS,
    TOKEN_IDS,
    TextConfig,
    text_config,
)
from vpt_edge.export.models.qwen2_vl.decoder import (
    decoder_spec,
    decoder_tensors,
    embeddings_tensor,
    optional_tensors,
)
from vpt_edge.export.models.qwen2_vl.layout import original_name
from vpt_edge.runtime.models.qwen2_5_vl import Qwen25VLConfig
from vpt_edge.runtime.models.qwen2_vl import PROCESSOR

if TYPE_CHECKING:
    from collections.abc import Container

    from vpt_edge.export.spec import GraphOptions, Shape, Spec


@dataclass(frozen=True)
class Qwen25VL:
    """The tower of a checkpoint. ``special_tokens`` are those that its prompts are made of,
    ``token_ids`` the keys of config.json that name one of them.
    """

    vision: VisionConfig
    text: TextConfig
    processor = PROCESSOR
    kv_cache = "float"
    special_tokens = SPECIAL_TOKENS
    token_ids = TOKEN_IDS

    @classmethod
    def read(cls, config: Mapping[str, Any], folder: Path) -> Qwen25VL:
        """From ``config``, which config.json in ``folder`` holds."""
        text = text_config(config, folder, QWEN2_5_VL)
        return cls(vision_config(config, folder, text.hidden_size), text)

    def block(self) -> dict[str, Any]:
        """The manifest's block ``model``."""
        vision = self.vision
        config = Qwen25VLConfig(vision.head_dim, vision.window, vision.tokens_per_second)
        return {"name": QWEN2_5_VL.model_type, **asdict(config)}

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
            "decoder": decoder_spec(self.text, options, embeddings),
        }
