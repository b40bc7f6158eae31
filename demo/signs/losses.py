"""What is learned in one step, by name."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from signs.truth import UNKNOWN
from torch import Tensor


@dataclass
class Losses:
    """Mean cross-entropies, and the shares of right predictions."""

    terms: dict[str, Tensor] = field(default_factory=dict)
    right: dict[str, float] = field(default_factory=dict)

    def add(
        self,
        name: str,
        logits: Tensor,
        target: Tensor,
        nothing: int | None = None,
        weight: float = 1.0,
    ) -> None:
        """Logits (..., classes) against target (...); negative ones are left out.

        ``nothing``: a class that most tokens are of: it counts a tenth, and not as right.
        """
        logits = logits.flatten(0, -2).float()
        target = target.flatten()
        target = target.masked_fill(target < 0, UNKNOWN)
        share = torch.ones(logits.shape[-1], device=logits.device)
        counted = target >= 0
        if nothing is not None:
            share[nothing] = 0.1
            counted = counted & (target != nothing)
        self.terms[name] = weight * F.cross_entropy(logits, target, share)
        hits = logits.detach().argmax(-1) == target
        self.right[name] = float(hits[counted].float().mean())

    def total(self) -> Tensor:
        return torch.stack(list(self.terms.values())).sum()
