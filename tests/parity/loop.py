"""What our bundle computes, round by round on its one cache."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vpt_edge.runtime.chat import Chat, Message
from vpt_edge.runtime.context import Context, Encoded, Visual
from vpt_edge.runtime.decoder import Decoder
from vpt_edge.runtime.frame_features import FrameFeatures
from vpt_edge.runtime.models import open_tower
from vpt_edge.runtime.perception import open_perception
from vpt_edge.runtime.sessions import open_session
from vpt_edge.runtime.still import StillLimits
from vpt_edge.runtime.stopwatch import Stopwatch
from vpt_edge.runtime.vision import Vision

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image

    from vpt_edge.runtime import Bundle

    Array = np.ndarray[Any, Any]

PICTURE = "<|vision_start|><|image_pad|><|vision_end|>"


class Loop:
    """A conversation with ``bundle`` that the test leads itself."""

    def __init__(self, bundle: Bundle) -> None:
        way = open_perception(bundle.manifest)
        self._sessions = {
            name: open_session(bundle, name, "cpu") for name in bundle.manifest.graphs
        }
        self._vision = Vision(bundle.manifest, way, self._sessions)
        self._tower = open_tower(bundle.manifest)
        self._limits = bundle.manifest.image
        self._pad = bundle.manifest.tokens.image_pad
        self._chat = Chat(bundle.tokenizer_file, way.pads)
        self.decoder = Decoder(bundle, way, self._sessions["decoder"], self._vision.project)
        self.context = Context()

    def close(self) -> None:
        self.decoder.close()
        for session in self._sessions.values():
            session.close()

    def encode(self, picture: Image.Image) -> Encoded:
        return self._vision.encode(picture, Stopwatch())

    def show(
        self, frames: Sequence[Image.Image], seconds: Sequence[float], question: str
    ) -> list[Encoded]:
        """Begin the conversation with a ``question`` about ``frames`` at ``seconds``."""
        features = FrameFeatures(frames, seconds, self._vision)
        encoded = features.encode(Stopwatch(), self._limits, None, "bicubic", StillLimits())
        message = Message("user", f"{features.place}{question}")
        self.context = self._chat.context([message], encoded)
        return encoded

    def positions(self) -> Array:
        """Of the conversation (3, tokens)."""
        return self._tower.positions(len(self.context.ids), self.context.visuals)

    def tokenize(self, text: str) -> list[int]:
        return self._chat.encode(text)

    def say(self, text: str, *pictures: Encoded) -> None:
        """Put ``text`` behind the conversation, whose ``PICTURE``s stand for ``pictures``."""
        ids = self._chat.encode(text)
        remaining = iter(pictures)
        for token in ids:
            if token != self._pad:
                self.context.ids.append(token)
                continue
            encoded = next(remaining)
            self.context.visuals.append(Visual(len(self.context.ids), encoded))
            self.context.ids += [self._pad] * encoded.tokens

    def prefill(self) -> Array:
        """The logits (vocabulary,) behind the conversation; only what is new is computed."""
        return np.array(self.decoder.prefill(self.context))

    def generate(self, count: int) -> list[int]:
        """The ``count`` likeliest ids behind it, which it takes in."""
        scores = self.prefill()
        generated = list[int]()
        while len(generated) < count:
            token = int(scores.argmax())
            generated.append(token)
            self.context.ids.append(token)
            scores = np.array(self.decoder.step(token))
        return generated
