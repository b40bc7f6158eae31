"""How large the network that reads signs is, and what it sees of a picture, in pixels."""

from __future__ import annotations

from dataclasses import dataclass

from vpt_edge.export.models.qwen2_vl.config import TextConfig, VisionConfig
from vpt_edge.runtime.models.qwen2_vl import PROCESSOR
from vpt_edge.runtime.processor import MERGE

PATCH = PROCESSOR.patch
TOKEN = PATCH * MERGE  # a side of what one visual token shows
VIEW = 224  # a side of the first view, and of a crop, which is 196 from a picture of 512
WINDOW = (2 * TOKEN, 6 * TOKEN)  # rows and columns around a sign, the widest of which has 5 tokens


@dataclass(frozen=True)
class Geometry:
    """Of one network."""

    vision: VisionConfig
    text: TextConfig


SIGNS = Geometry(
    VisionConfig(hidden_size=192, embed_dim=192, depth=6, num_heads=4),
    TextConfig(
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=512,
        rms_norm_eps=1e-6,
        rope_theta=1000.0,
        mrope_section=(8, 8, 8),
        tie_word_embeddings=True,
    ),
)
