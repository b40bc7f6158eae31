"""The demo's network reads on where it stopped."""

from __future__ import annotations

import torch
from network import Network, rope
from signs.attention import TrainingAttention
from signs_tiny import GEOMETRY

from vpt_edge.export.attention import LayerCache

LENGTH = 12


def test_three_pieces_are_read_as_one() -> None:
    """As training reads the round behind a second encoding: prefix, question, the rest."""
    torch.manual_seed(0)
    network = Network(GEOMETRY.vision, GEOMETRY.text, TrainingAttention)
    ids = torch.arange(1, LENGTH + 1)[None]
    cos, sin = rope(ids[0].tolist(), [], 0, "cpu", GEOMETRY.text)
    with torch.no_grad():
        embeds = network.embed(ids)
        whole, _ = network.read(embeds, (cos, sin))
        past = list[LayerCache]()
        pieces = list[torch.Tensor]()
        for place in (slice(0, 5), slice(5, 9), slice(9, LENGTH)):
            stream, past = network.read(embeds[:, place], (cos[place], sin[place]), past)
            pieces.append(stream)
    torch.testing.assert_close(torch.cat(pieces, 1), whole)
