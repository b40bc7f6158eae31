"""Teacher-forced conversations about a batch of pictures, behind the first view of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import torch
from network import Network, rope
from signs.sizes import PATCH, VIEW
from signs.truth import UNKNOWN
from talk import ACTION, Talk, region
from torch import Tensor

from vpt_edge.live.scenes import GRID
from vpt_edge.live.signs.words import LONGEST

if TYPE_CHECKING:
    from signs.heads import Heads
    from signs.losses import Losses

    from vpt_edge.export.attention import LayerCache
    from vpt_edge.live.scenes import Cell
    from vpt_edge.live.signs.questions import Sample

FIRST = (VIEW // PATCH, VIEW // PATCH)  # patches of the first view
NAMED_BEHIND = 1  # the layer behind which a name has found what it names
Pieces = list[list[int]]  # of one conversation


@dataclass(frozen=True)
class Taught:
    """The pieces of a batch of conversations joined: ids (batch, seq), and the places of those that
    are learned.
    """

    ids: Tensor
    places: list[int]


class Conversations:
    """``features`` (batch, 64, hidden) of the first views stand before each of them."""

    def __init__(
        self, network: Network, heads: Heads, talk: Talk, features: Tensor, losses: Losses
    ) -> None:
        self.network = network
        self.heads = heads
        self.talk = talk
        self.features = features
        self.losses = losses
        self._prefix = [*talk.opening, *[talk.image_pad] * features.shape[1]]
        opening = network.embed(torch.tensor([talk.opening])).expand(len(features), -1, -1)
        _, self._past = network.read(
            torch.cat((opening, features), 1),
            rope(self._prefix, [FIRST], talk.image_pad, "cpu", network.text),
        )

    def answer(self, name: str, samples: Sequence[Sample], word: int) -> None:
        """Questions answered at once; ``word`` of each names what it is about."""
        rows = [
            [self.talk.asked(sample.question, "free"), pad_text(self.talk, sample.answer)]
            for sample in samples
        ]
        taught = join(rows, (1,))
        with behind(self.network, NAMED_BEHIND) as streams:
            stream, _ = self._read(self.network.embed(taught.ids), taught.ids, [FIRST])
        self._find_named(name, streams[0], taught.ids, samples, word)
        self._score(name, stream, taught.ids, taught.places)

    def look(self, samples: Sequence[Sample], looks: Sequence[Cell], crops: Tensor) -> None:
        """Both rounds with a region look; ``crops`` (batch, tokens, hidden).

        A look that strayed is a part of the context, but not learned.
        """
        talk = self.talk
        rows = list[Pieces]()
        for sample, cell in zip(samples, looks, strict=True):
            first = [talk.asked(sample.question, "region"), talk.said(region(cell))]
            turn = [*talk.turn(talk.image_pad, crops.shape[1]), *talk.looked]
            rows.append([*first, turn, pad_text(talk, sample.answer)])
        taught = join(rows, (1, 3))
        side = 2 * round(crops.shape[1] ** 0.5)
        embeds = self._fill(taught.ids, talk.image_pad, crops)
        with behind(self.network, NAMED_BEHIND) as streams:
            stream, _ = self._read(embeds, taught.ids, [FIRST, (side, side)])
        self._find_named("look", streams[0], taught.ids, samples)
        strayed = list[bool]()
        for sample, cell in zip(samples, looks, strict=True):
            assert sample.about is not None
            strayed.append(sample.about.cell != cell)
        last = LONGEST + 1
        self._score("look", stream, taught.ids, taught.places[:-last], torch.tensor(strayed))
        self._score("read", stream, taught.ids, taught.places[-last:])

    def reencode(self, samples: Sequence[Sample]) -> None:
        """Both rounds with a second encoding, cut where the condition is read."""
        talk = self.talk
        network = self.network
        rows = list[Pieces]()
        for sample in samples:
            first = [talk.asked(sample.question, "reencode"), talk.said(ACTION)]
            turn = [*talk.turn(talk.clip_pad, self.features.shape[1]), *talk.looked]
            rows.append([*first, turn, talk.said(sample.answer)])
        taught = join(rows, (1, 3))
        ids = taught.ids
        cut = taught.places[1]
        cos, sin = self._rope(ids, [FIRST])
        start = network.embed(ids[:, :cut])
        with behind(network, NAMED_BEHIND) as streams:
            stream, past = network.read(start, (cos[:cut], sin[:cut]), self._past)
        self._find_named("quarter", streams[0], ids, samples)
        condition = network.decoder.norm(stream[:, -1])
        projected = network.projector(self.features, condition)
        embeds = self._fill(ids, talk.clip_pad, projected)
        embeds = torch.cat((condition[:, None], embeds[:, cut + 1 :]), 1)
        rest, _ = network.read(embeds, (cos[cut:], sin[cut:]), past)
        self._score("quarter", torch.cat((stream, rest), 1), ids, taught.places)

    def _read(
        self, embeds: Tensor, ids: Tensor, grids: list[tuple[int, int]]
    ) -> tuple[Tensor, list[LayerCache]]:
        """The stream and cache of a question and what follows it."""
        return self.network.read(embeds, self._rope(ids, grids), self._past)

    def _find_named(
        self, name: str, stream: Tensor, ids: Tensor, samples: Sequence[Sample], word: int = 0
    ) -> None:
        """The colour or kind of a sign, the first or the second ``word`` for it, must know in which
        row and column its middle lies.
        """
        target = torch.full((len(samples), 2), UNKNOWN)
        place = 0
        for row, sample in enumerate(samples):
            if sample.about is None:
                continue
            card = sample.about.card
            words = (card.colour, card.kind)
            place = ids[row].tolist().index(self.talk.ids(f" {words[word]}")[0])
            column, line = sample.about.cell
            target[row] = torch.tensor((line, column))
        logits = self.heads.named(stream[:, place]).unflatten(-1, (2, GRID))
        self.losses.add(f"{name} named", logits, target)

    def _rope(self, ids: Tensor, grids: list[tuple[int, int]]) -> tuple[Tensor, Tensor]:
        """Positions behind the prefix, equal in every row."""
        every = [*self._prefix, *ids[0].tolist()]
        cos, sin = rope(every, grids, self.talk.image_pad, "cpu", self.network.text)
        return cos[len(self._prefix) :], sin[len(self._prefix) :]

    def _fill(self, ids: Tensor, pad: int, features: Tensor) -> Tensor:
        """Embeddings of ``ids`` with the features in the place of the run of pads."""
        start = ids[0].tolist().index(pad)
        embeds = self.network.embed(ids)
        return torch.cat((embeds[:, :start], features, embeds[:, start + features.shape[1] :]), 1)

    def _score(
        self,
        name: str,
        stream: Tensor,
        ids: Tensor,
        places: list[int],
        left_out: Tensor | None = None,
    ) -> None:
        """Rows of ``left_out`` (batch) are in the batch but not learned."""
        target = mask_repeats(ids[:, places], self.talk.end)
        if left_out is not None:
            target = target.masked_fill(left_out[:, None], UNKNOWN)
        decoder = self.network.decoder
        logits = decoder.lm_head(decoder.norm(stream[:, [place - 1 for place in places]]))
        self.losses.add(name, logits, target)
        is_right = ((logits.argmax(-1) == target) | (target < 0)).all(1)
        kept = target[:, 0] >= 0
        self.losses.right[name] = float(is_right[kept].float().mean())


def pad_text(talk: Talk, answer: str) -> list[int]:
    """An answer with its end, and more ends up to the longest text that is read."""
    said = talk.said(answer)
    return said + [talk.end] * (LONGEST + 1 - len(said))


def join(rows: Sequence[Pieces], taught: tuple[int, ...]) -> Taught:
    """Pieces of equal lengths in every row; the ``taught`` ones are learned."""
    ids = torch.tensor([list(chain(*row)) for row in rows])
    places = list[int]()
    end = 0
    for index, piece in enumerate(rows[0]):
        if index in taught:
            places.extend(range(end, end + len(piece)))
        end += len(piece)
    return Taught(ids, places)


def mask_repeats(target: Tensor, end: int) -> Tensor:
    """Ids (batch, seq) without an end that stands behind another."""
    ends = target == end
    repeats = torch.zeros_like(ends)
    repeats[:, 1:] = ends[:, 1:] & ends[:, :-1]
    return target.masked_fill(repeats, UNKNOWN)


@contextmanager
def behind(network: Network, layer: int) -> Iterator[list[Tensor]]:
    """Collects the decoder's stream (batch, seq, hidden) behind a layer."""
    streams = list[Tensor]()

    def keep(module: object, inputs: object, output: tuple[Tensor, object]) -> None:
        streams.append(output[0])

    hook = network.decoder.layers[layer].register_forward_hook(keep)
    yield streams
    hook.remove()
