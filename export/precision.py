"""What each precision does to a graph; one ``Recipe`` each."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """``dtype`` of weights, embeddings and cache; ``tolerance`` of a graph's difference from torch in that dtype.

    The tolerance is relative to the largest value of an output. Norms, softmax, rotary embedding and the residual
    stream compute in float32 in every precision.
    """

    name: str
    dtype: str
    tolerance: float


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("fp32", "float32", tolerance=2e-5),
        Recipe("fp16", "float16", tolerance=1e-2),
    )
}
