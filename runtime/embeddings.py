"""The embedding table: a row for each id of the vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vpt_edge.runtime.errors import BundleError
from vpt_edge.runtime.schema import EXPORT_AGAIN


@dataclass(frozen=True)
class Embeddings:
    """``table`` (vocab_size, hidden_size), and a scale for each row if it is of integers."""

    table: np.ndarray[Any, Any]
    scales: np.ndarray[Any, Any] | None

    def rows(self, ids: Sequence[int] | np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """The rows of ``ids``: a new array (len(ids), hidden_size) float32."""
        place = np.asarray(ids)
        try:
            rows = self.table[place].astype(np.float32)
        except IndexError as error:
            problem = f"the tokenizer gives the id {int(place.max())}"
            expected = f"the embedding table has {len(self.table)} rows"
            raise BundleError(f"{problem}, {expected}", EXPORT_AGAIN) from error
        if self.scales is None:
            return rows
        return rows * self.scales[place, None]
