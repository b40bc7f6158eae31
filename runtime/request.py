"""One request on its way: the messages so far, what was seen, what it cost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from vpt_edge.runtime.chat import PLACEHOLDER, Message, Prompt
from vpt_edge.runtime.decoder import Context
from vpt_edge.runtime.perception.vpt import Crop, Decision, Reencode, decide, without_triggers
from vpt_edge.runtime.result import STAGES, Answer, Looked, Turn, Usage
from vpt_edge.runtime.view import Encoded

if TYPE_CHECKING:
    from PIL import Image

    from vpt_edge.runtime.decoder import Decoder
    from vpt_edge.runtime.view import PictureView
    from vpt_edge.runtime.vision import Vision


class Request:
    """The conversation about one picture, as the authors' code would build it round by round
    (PROTOCOL 3)."""

    def __init__(
        self, view: PictureView, question: str, first_message: str, prefix: str, kind: str
    ) -> None:
        self.view, self.picture, self.question, self.kind = view, view.picture, question, kind
        self._prefix, self.prefix_ids = prefix, list[int]()
        self.messages = [Message("user", first_message)]
        self.turns: list[Turn] = []
        self.looks: list[Looked] = []
        self._context = Context([])
        self._visuals: dict[str, list[int]] = {"image": [], f"{kind}_image": []}
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self.waits: list[float] = []
        self._last = 0.0  # when the request began, or its last token came
        self.vision_runs = self.reencoder_runs = 0

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] += time.perf_counter() - start

    def begin(self, vision: Vision) -> None:
        """Show the picture, encoded unless an earlier question has done that."""
        self._last = time.perf_counter()
        if self.view.encoded is None:
            self.view.encoded = self._encode(self.picture, vision)
        self._show(self.view.encoded)

    def heard(self) -> None:
        """A token came: a turn's first ends the wait for it, its last begins the wait for the next
        turn."""
        now = time.perf_counter()
        if len(self.waits) == len(self.turns):
            self.waits.append(now - self._last)
        self._last = now

    def _encode(self, picture: Image.Image, vision: Vision) -> Encoded:
        with self.timed("preprocess"):
            pixels = vision.view(picture)
        with self.timed("vision"):
            features = vision.encode(pixels)
        self.vision_runs += 1
        return Encoded(pixels.grid, features)

    def _show(self, encoded: Encoded) -> int:
        """Put a picture or crop in the place of the next ``<image>``; returns its visual tokens."""
        self._context.views.append(encoded.features)
        self._context.grids.append(encoded.grid)
        self._visuals["image"].append(len(encoded.features))
        return len(encoded.features)

    def context(self, prompt: Prompt) -> Context:
        """What the next turn is generated from."""
        self.prefix_ids = [] if self.turns else prompt.encode(self._prefix)
        self._context.ids = prompt.conversation(self.messages, self._visuals) + self.prefix_ids
        return self._context

    def decide(self) -> Decision:
        """What the last turn asks for. A region's text is prompted again: no placeholders."""
        text = self.turns[-1].text
        decision = decide(text, self.picture.size, self.kind)
        if decision.actions and isinstance(decision.actions[0], Crop) and PLACEHOLDER.search(text):
            return Decision((), "malformed_region")
        return decision

    def look(self, decision: Decision, vision: Vision) -> Iterator[Looked]:
        """Do what the last turn asks for, and put the second round's messages."""
        action = decision.actions[0]
        if isinstance(action, Reencode):
            self.messages.append(
                Message(
                    "assistant",
                    "".join(f"<|{action.kind}_action{end}|>" for end in ("_start", "", "_end")),
                )
            )
            self.messages.append(Message("user", f"<{action.kind}_image>"))
            yield self._reencode(action, vision)
            return
        count = len(decision.actions)
        self.messages.append(Message("assistant", self.turns[-1].text))
        regions = (
            "".join(f"Region {index}: <image>\n" for index in range(count))
            if count > 1
            else "<image>"
        )
        self.messages.append(Message("user", regions))
        for action in decision.actions:
            assert isinstance(action, Crop)
            crop = self.picture.crop(action.box)
            self.looks.append(Looked(action, self._show(self._encode(crop, vision)), crop))
            yield self.looks[-1]

    def _reencode(self, action: Reencode, vision: Vision) -> Looked:
        """CLIP re-encodes the first view's features: the pixels are the same, and so are the
        features."""
        features = self._context.views[0] if action.kind == "clip" else self.view.reencoded
        if features is None:
            with self.timed("preprocess"):
                pixels = vision.pixels(self.picture)
            with self.timed("reencode"):
                features = self.view.reencoded = vision.reencode(pixels)
        self.reencoder_runs += 1
        self._context.reencodes.append(features)
        self._visuals[f"{action.kind}_image"].append(len(features))
        self.looks.append(Looked(action, len(features)))
        return self.looks[-1]

    def answer(self, finish_reason: str, decoder: Decoder) -> Answer:
        turn = self.turns[-1]
        usage = Usage(
            prompt_tokens=len(turn.prompt_ids),
            generated_tokens=sum(len(turn.generated_ids) for turn in self.turns),
            computed_tokens=decoder.computed_tokens,
            reused_tokens=decoder.reused_tokens,
            vision_runs=self.vision_runs,
            reencoder_runs=self.reencoder_runs,
            seconds={**self.seconds, "total": sum(self.seconds.values())},
            waits=tuple(self.waits),
        )
        return Answer(
            text=without_triggers(turn.text),
            raw=turn.text,
            turns=tuple(self.turns),
            looks=tuple(self.looks),
            finish_reason=finish_reason,
            usage=usage,
            question=self.question,
            image=self.picture.copy(),  # what is drawn into it is not in the next question's crops
        )
