"""A network of the demo's signs that is trained in a second, and a recipe for it."""

from __future__ import annotations

from signs.recipe import Recipe, Stage
from signs.sizes import Geometry

from vpt_edge.export.models.qwen2_vl.config import TextConfig, VisionConfig

GEOMETRY = Geometry(
    VisionConfig(hidden_size=32, embed_dim=32, depth=1, num_heads=2),
    TextConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        vocab_size=512,
        rms_norm_eps=1e-6,
        rope_theta=1000.0,
        mrope_section=(2, 3, 3),
        tie_word_embeddings=True,
    ),
)
RECIPE = Recipe(
    GEOMETRY,
    (
        Stage("letters", 3, 2, 1e-3, warm=2),
        Stage("see", 3, 2, 1e-3, warm=2, crops=1, windows=6),
        Stage("read", 3, 2, 1e-3, warm=2, crops=2, windows=6),
        Stage("speak", 3, 2, 1e-3, warm=2),
    ),
    chunk=8,
    windows=16,
    scenes=8,
    every=2,
    kept=1e9,
)
