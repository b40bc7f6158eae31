"""A way of looking in words, for tests of the loop: calls in JSON, thoughts, several pictures."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vpt_edge.runtime import Bundle
from vpt_edge.runtime.chat import Message
from vpt_edge.runtime.manifest import write_manifest
from vpt_edge.runtime.perception import WAYS
from vpt_edge.runtime.perception.actions import Crop, Decision, Whole
from vpt_edge.runtime.perception.split import Markup, split
from vpt_edge.runtime.testing import tiny_bundle

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pytest

    from vpt_edge.runtime.manifest import Manifest
    from vpt_edge.runtime.perception.actions import Mode, PerceptionAction, Resampling
    from vpt_edge.runtime.perception.views import View

SYSTEM = "Answer, or zoom."
THOUGHTS = ("<think>", "</think>")
CALL = ("<call>", "</call>")
REPLY = "Error: that is not a call."


def call(*boxes: Any, source: int = 0, **more: Any) -> str:
    """What asks for crops of the view ``source``."""
    return f"<call>{json.dumps({'boxes': boxes, 'source': source, **more})}</call>"


WHOLE = '<call>{"whole": 0}</call>'


class Zoom:
    """``<call>{"boxes": [[left, top, right, bottom]], "source": 0}</call>`` asks for crops.

    The manifest's block says what else it does, by the names of the protocol.
    """

    def __init__(self, manifest: Manifest) -> None:
        block = dict(manifest.perception)
        self.can_look = True
        self.modes: tuple[Mode, ...] = ("free", "off")
        self.usual_mode: Mode = "free"
        self.pads = {"image": "<|image_pad|>", "video": "<|video_pad|>"}
        self.hidden_ids = frozenset[int]()
        self.token_ids = dict[str, int]()
        self.action = None
        self.encoder = None
        self.longest_side = 0
        self.most_pictures: int = block.get("most_pictures", 3)
        self.keeps_ids: bool = block.get("keeps_ids", True)
        self.most_looks: int = block.get("most_looks", 4)
        self.stop: tuple[str, ...] = tuple(block.get("stop", ()))
        self.turn_prefix: str = block.get("turn_prefix", "")
        self.thoughts: tuple[str, str] | None = THOUGHTS
        self.hidden_spans: tuple[tuple[str, str], ...] = (CALL,)
        self.hidden_words = ("<answer>", "</answer>")
        self.sampling: dict[str, float] = block.get("sampling", {})
        self.first_resampling: Resampling = "lanczos"
        self._halves: bool = block.get("halves", False)
        self._end: str = block.get("end", "\n")

    def first_size(self, size: tuple[int, int]) -> tuple[int, int] | None:
        if not self._halves:
            return None
        return size[0] // 2, size[1] // 2

    def opening(
        self,
        question: str,
        mode: Mode,
        history: Sequence[tuple[str, str]] = (),
        system: str | None = None,
        pictures: int = 1,
    ) -> list[Message]:
        texts = [text for exchange in history for text in exchange]
        texts.append(question)
        texts[0] = "<image>" * pictures + texts[0]
        messages = [Message("system", SYSTEM if system is None else system)]
        for number, text in enumerate(texts):
            messages.append(Message("assistant" if number % 2 else "user", text))
        return messages

    def check_prefix(self, prefix: str) -> None: ...

    def hint(self, mode: Mode) -> str | None:
        return None

    def forced(self, previous: int) -> int | None:
        return None

    def read(self, text: str, views: Sequence[View], left: int) -> Decision:
        _, opening, rest = text.rpartition(CALL[0])
        if not opening:
            return Decision(())
        try:
            asked = json.loads(rest.partition(CALL[1])[0])
        except ValueError:
            return Decision((), reply=REPLY)
        actions: list[PerceptionAction] = []
        if "whole" in asked:
            actions.append(Whole(asked["whole"]))
        for box in asked.get("boxes", ()):
            size = tuple(asked["size"]) if "size" in asked else None
            limits = tuple(asked["limits"]) if "limits" in asked else None
            actions.append(Crop(None, tuple(box), asked["source"], size, "lanczos", limits))
        return Decision(tuple(actions))

    def follow_up(
        self, text: str, decision: Decision, views: Sequence[View], left: int
    ) -> list[Message]:
        reply = decision.reply
        if reply is None:
            reply = "<image>" * len(decision.actions) + f" {left} left"
        return [Message("assistant", text, end=self._end), Message("user", reply)]

    def example_look(self, view: View) -> str:
        return call((0, 0, 8, 8))

    def answer(self, text: str) -> str:
        return split(text, self._markup)[1].strip()

    def thoughts_of(self, text: str) -> str | None:
        return split(text, self._markup)[0]

    @property
    def _markup(self) -> Markup:
        return Markup(self.thoughts, self.hidden_spans, self.hidden_words)


def zoom_bundle(path: Path, monkeypatch: pytest.MonkeyPatch, **block: Any) -> Bundle:
    """A bundle whose manifest names the way, with ``block``."""
    monkeypatch.setitem(WAYS, "zoom", (__name__, "Zoom"))
    manifest = tiny_bundle(path).manifest
    graphs = {name: manifest.graphs[name] for name in ("vision_encoder", "decoder")}
    perception = {"name": "zoom", **block}
    write_manifest(replace(manifest, perception=perception, graphs=graphs), path)
    return Bundle.open(path)
