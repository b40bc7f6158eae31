"""Contexts of few tokens, and what a decoder over a session without a model reads of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from vpt_edge.runtime.context import Encoded
from vpt_edge.runtime.decoder import Decoder
from vpt_edge.runtime.perception import open_perception

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vpt_edge.runtime.bundle import Bundle
    from vpt_edge.runtime.manifest import Tensor
    from vpt_edge.runtime.sessions import Session
    from vpt_edge.runtime.testing import ScriptedSession

    Floats = NDArray[np.float32]

# Text.
A = 10
B = 11
C = 12
D = 13


@dataclass(frozen=True)
class Ids:
    """Of tokens that are more than text."""

    pad: int
    reencode_pad: int
    start: int
    action: int


def ids_of(bundle: Bundle) -> Ids:
    perception = bundle.manifest.perception
    return Ids(
        pad=bundle.manifest.tokens.image_pad,
        reencode_pad=perception["reencode_pad"],
        start=perception["action_start"],
        action=perception["action"],
    )


def features(count: int, first: int) -> Floats:
    """(count, 4): the numbers from ``first`` on, a row each."""
    return np.repeat(np.arange(first, first + count, dtype=np.float32)[:, None], 4, axis=1)


def picture(rows: int, columns: int, first: int) -> Encoded:
    return Encoded(features(rows * columns // 4, first), (1, rows, columns))


def reencode(count: int, first: int) -> Encoded:
    return Encoded(features(count, first), None)


def add(features: Floats, condition: Floats) -> Floats:
    """What a projector does of a condition: simple enough to be read in the numbers."""
    return features + 100 * condition


def open_decoder(bundle: Bundle, session: Session) -> Decoder:
    return Decoder(bundle, open_perception(bundle.manifest), session, add)


def in_chunks(bundle: Bundle, size: int, outputs: tuple[Tensor, ...] = ()) -> Bundle:
    """``bundle`` with a decoder graph that takes ``size`` tokens at once."""
    graph = bundle.graph("decoder")
    bounds = {**graph.bounds, "sequence": (1, size, size), "last": (1, 1, size)}
    graph = replace(graph, bounds=bounds, outputs=outputs)
    graphs = {**bundle.manifest.graphs, "decoder": graph}
    return replace(bundle, manifest=replace(bundle.manifest, graphs=graphs))


def read(session: ScriptedSession) -> list[list[int]]:
    """The first number of each embedding of each run: an id, unless something stands in its
    place.
    """
    return [call["embeds"][0, :, 0].astype(int).tolist() for call in session.calls]


class Remembering:
    """A causal model whose state tells everything that it has read: embeddings and angles, in the
    cache.
    """

    def __init__(self, layout: str) -> None:
        self._shared = layout == "shared"
        self.memory: Floats = np.zeros((0, 12), np.float32)

    def run(self, inputs: Any, outputs: Any) -> None:
        rows = {
            "key": np.pad(inputs["embeds"][0], ((0, 0), (0, 2))),
            "value": np.concatenate((inputs["cos"], inputs["sin"]), axis=1),
        }
        parts = [self._remember(part, new, inputs, outputs) for part, new in rows.items()]
        self.memory = np.concatenate(parts, axis=1)
        weights = np.sin(np.arange(self.memory.size, dtype=np.float64)).reshape(self.memory.shape)
        outputs["hidden"][0] = np.sin((weights * self.memory).sum() + np.arange(4))
        outputs["logits"][0] = outputs["hidden"][0, 0]

    def _remember(self, part: str, new: Floats, inputs: Any, outputs: Any) -> Floats:
        """Write ``new`` rows of keys or values; returns all of them."""
        present = outputs[f"present.0.{part}"]
        if self._shared:
            total = int(inputs["total_sequence_length"])
            present[0, 0, total - len(new) : total] = new
            return np.array(present[0, 0, :total])
        present[0] = new
        past = inputs[f"past.0.{part}"][0, : int(inputs["filled"])]
        return np.concatenate((past, new))

    def zeros(self, shape: tuple[int, ...], dtype: Any, /) -> np.ndarray[Any, Any]:
        return np.zeros(shape, dtype)

    def close(self) -> None: ...
