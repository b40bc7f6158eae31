"""Another way of looking again, added in one file: a box in pixels, asked for in JSON.

Only the table of ways learns of it; the loop, the chat and the decoder run as they are.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image
from scripted import PICTURE, PICTURE_TOKENS, answer_of, events_of

from vpt_edge.runtime import Bundle, Crop, Finished, Looked, Pipeline, Text
from vpt_edge.runtime.chat import Chat, Message
from vpt_edge.runtime.errors import BundleError, PromptError
from vpt_edge.runtime.manifest import read_block, write_manifest
from vpt_edge.runtime.perception import WAYS, open_perception
from vpt_edge.runtime.perception.actions import Decision
from vpt_edge.runtime.testing import Script, tiny_bundle

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from vpt_edge.runtime.manifest import Manifest
    from vpt_edge.runtime.perception import Perception
    from vpt_edge.runtime.perception.actions import Mode, Resampling
    from vpt_edge.runtime.perception.views import View

BOX = '{"box": [8, 4, 40, 28]}'
OTHER_BOX = '{"box": [48, 0, 96, 64]}'


@dataclass(frozen=True)
class JsonBoxConfig:
    """The manifest's block. ``system``: what the model is told."""

    system: str


class JsonBox:
    """``{"box": [left, top, right, bottom]}`` asks for a crop, which comes back as a picture."""

    def __init__(self, manifest: Manifest) -> None:
        config: JsonBoxConfig = read_block(JsonBoxConfig, manifest.perception, "perception")
        self._system = config.system
        self.can_look = True
        self.modes: tuple[Mode, ...] = ("free", "off")
        self.usual_mode: Mode = "free"
        self.pads = {"image": "<|image_pad|>"}
        self.hidden_ids = frozenset[int]()
        self.token_ids = dict[str, int]()
        self.action = None
        self.encoder = None
        self.longest_side = 0
        self.most_pictures = 1
        self.keeps_ids = False
        self.most_looks = 1
        self.stop: tuple[str, ...] = ()
        self.turn_prefix = ""
        self.first_resampling: Resampling = "lanczos"
        self.thoughts: tuple[str, str] | None = None
        self.hidden_spans: tuple[tuple[str, str], ...] = ()
        self.hidden_words: tuple[str, ...] = ()
        self.sampling = dict[str, float]()

    def opening(
        self,
        question: str,
        mode: Mode,
        history: Sequence[tuple[str, str]] = (),
        system: str | None = None,
        pictures: int = 1,
    ) -> list[Message]:
        if mode not in ("free", "off"):
            raise PromptError(f"perception {mode!r} is unknown, expected one of: free, off")
        texts = [text for exchange in history for text in exchange]
        texts.append(question)
        texts[0] = f"<image>\n{texts[0]}"
        messages = [Message("system", self._system if system is None else system)]
        for number, text in enumerate(texts):
            messages.append(Message("assistant" if number % 2 else "user", text))
        return messages

    def check_prefix(self, prefix: str) -> None:
        if "<image>" in prefix:
            raise PromptError("the assistant_prefix holds <image>", "remove it")

    def hint(self, mode: Mode) -> str | None:
        return None

    def forced(self, previous: int) -> int | None:
        return None

    def first_size(self, size: tuple[int, int]) -> tuple[int, int] | None:
        return None

    def read(self, text: str, views: Sequence[View], left: int) -> Decision:
        size = views[0].size
        try:
            call = json.loads(text)
        except (ValueError, RecursionError):
            return Decision(())
        if not isinstance(call, dict) or set(call) != {"box"}:
            return Decision(())
        box = call["box"]
        if not isinstance(box, list) or [type(side) for side in box] != [int] * 4:
            return Decision((), "malformed_box")
        left, top, right, bottom = box
        if not (0 <= left < right <= size[0] and 0 <= top < bottom <= size[1]):
            return Decision((), "malformed_box")
        return Decision((Crop(None, (left, top, right, bottom)),))

    def follow_up(
        self, text: str, decision: Decision, views: Sequence[View], left: int
    ) -> list[Message]:
        return [Message("assistant", text), Message("user", "<image>")]

    def example_look(self, view: View) -> str:
        return BOX

    def answer(self, text: str) -> str:
        return text.strip()

    def thoughts_of(self, text: str) -> str | None:
        return None


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    """A bundle whose manifest names the way; it has no graph of a re-encoder."""
    monkeypatch.setitem(WAYS, "json_box", (__name__, "JsonBox"))
    manifest = tiny_bundle(tmp_path).manifest
    graphs = {name: manifest.graphs[name] for name in ("vision_encoder", "decoder")}
    block = {"name": "json_box", "system": "Answer, or name a box."}
    write_manifest(replace(manifest, perception=block, graphs=graphs), tmp_path)
    return Bundle.open(tmp_path)


def chatml(*turns: str) -> str:
    """The conversation in the template's words, up to where the assistant is to speak."""
    text = "<|im_start|>system\nAnswer, or name a box.<|im_end|>\n"
    for index in range(0, len(turns), 2):
        text += f"<|im_start|>user\n{turns[index]}<|im_end|>\n<|im_start|>assistant\n"
        text += "".join(f"{said}<|im_end|>\n" for said in turns[index + 1 : index + 2])
    return text


def picture(tokens: int) -> str:
    return f"<|vision_start|>{'<|image_pad|>' * tokens}<|vision_end|>"


def prompts_of(bundle: Bundle, *turns: str) -> list[int]:
    return Chat(bundle.tokenizer_file, {}).encode(chatml(*turns))


def test_it_keeps_to_the_protocol(bundle: Bundle) -> None:
    way: Perception = JsonBox(bundle.manifest)
    assert isinstance(open_perception(bundle.manifest), type(way))
    assert bundle.manifest.kind == "json_box"


def test_its_block_is_held_against_its_config(bundle: Bundle) -> None:
    block = {**bundle.manifest.perception, "colour": "red"}
    write_manifest(replace(bundle.manifest, perception=block), bundle.path)
    with pytest.raises(BundleError, match=r"manifest.json: perception has .*: unknown colour"):
        Bundle.read(bundle.path)


def test_it_looks_twice_and_answers(bundle: Bundle) -> None:
    script = Script(BOX, OTHER_BOX, "A sign. ")
    events = events_of(script, bundle, max_looks=2)
    looks = [event for event in events if isinstance(event, Looked)]
    assert [look.action for look in looks] == [
        Crop(None, (8, 4, 40, 28)),
        Crop(None, (48, 0, 96, 64)),
    ]
    for look in looks:
        assert look.crop is not None and look.box is not None
        assert look.crop.tobytes() == PICTURE.crop(look.box).tobytes()
    pieces = [event.piece for event in events if isinstance(event, Text)]
    assert "".join(pieces) == f"{BOX}{OTHER_BOX}A sign. "  # no token is hidden
    assert isinstance(events[-1], Finished)
    answer = events[-1].answer
    assert (answer.text, answer.finish_reason, answer.looks) == ("A sign.", "stop", tuple(looks))
    tokens = [look.tokens for look in looks]
    first = f"{picture(PICTURE_TOKENS)}\nWhat?"
    said = (first, BOX, picture(tokens[0]), OTHER_BOX, picture(tokens[1]))
    for turn, count in zip(answer.turns, (1, 3, 5), strict=True):
        assert list(turn.prompt_ids) == prompts_of(bundle, *said[:count])
    computed = len(answer.turns[-1].prompt_ids) + len(answer.turns[-1].generated_ids) - 1
    assert answer.usage.computed_tokens == computed  # each token once
    assert (answer.usage.vision_runs, answer.usage.reencoder_runs) == (3, 0)


def test_a_look_more_than_allowed_is_not_taken(bundle: Bundle) -> None:
    answer = answer_of(Script(BOX, OTHER_BOX), bundle)
    assert (len(answer.looks), answer.finish_reason, answer.raw) == (1, "look_limit", OTHER_BOX)


@pytest.mark.parametrize(
    "text", ['{"box": [8, 4, 40', '{"bix": [8, 4, 40, 28]}', "[8]", "[" * 999, "A sign."]
)
def test_what_is_not_its_json_is_the_answer(text: str, bundle: Bundle) -> None:
    answer = answer_of(Script(text), bundle)
    assert (answer.text, answer.looks, answer.finish_reason) == (text, (), "stop")


@pytest.mark.parametrize("box", ["[8, 4, 400, 28]", "[40, 4, 8, 28]", "[8, 4, 40]", '"8"'])
def test_what_is_wrong_with_a_call_is_the_finish_reason(box: str, bundle: Bundle) -> None:
    answer = answer_of(Script(f'{{"box": {box}}}'), bundle)
    assert (answer.looks, answer.finish_reason) == ((), "malformed_box")


def test_perception_off_takes_a_box_for_text(bundle: Bundle) -> None:
    answer = answer_of(Script(BOX), bundle, perception="off")
    assert (answer.text, answer.looks, answer.finish_reason) == (BOX, (), "stop")


def test_it_says_which_modes_it_has(bundle: Bundle) -> None:
    with Pipeline(bundle, opener=Script("Yes.")) as pipeline:
        for mode in ("region", "reencode", "Free"):
            options: Any = {"perception": mode}
            with pytest.raises(PromptError, match="expected one of: free, off"):
                pipeline.stream(PICTURE, "What?", **options)


def test_an_encoded_picture_takes_several_questions(bundle: Bundle) -> None:
    script = Script(BOX, "Yes.", "No.")
    with Pipeline(bundle, opener=script) as pipeline, pipeline.encode(PICTURE) as encoded:
        first = encoded.ask("What?")
        second = encoded.ask("Which?")
    assert (first.text, second.text, second.usage.vision_runs) == ("Yes.", "No.", 0)
    assert second.usage.reused_tokens > PICTURE_TOKENS


def test_it_is_asked_on(bundle: Bundle) -> None:
    history = (("Which?", "That."),)
    answer = answer_of(Script(BOX, "Yes."), bundle, history=history)
    (look,) = answer.looks
    said = (f"{picture(PICTURE_TOKENS)}\nWhich?", "That.", "What?", BOX, picture(look.tokens))
    for turn, count in zip(answer.turns, (3, 5), strict=True):
        assert list(turn.prompt_ids) == prompts_of(bundle, *said[:count])


def test_its_answer_is_said_saved_and_drawn(bundle: Bundle, tmp_path: Path) -> None:
    answer = answer_of(Script(BOX, "A sign."), bundle)
    (look,) = answer.looks
    assert look.describe() == "looked again at 32x24 px from (8,4)"
    answer.save(tmp_path / "answer")
    saved = json.loads((tmp_path / "answer" / "answer.json").read_text("utf-8"))
    place = {"cells": None, "box": [8, 4, 40, 28], "picture": 0, "source": 0}
    assert saved["looks"] == [{"kind": "region", **place, "tokens": look.tokens}]
    with Image.open(tmp_path / "answer" / "crop_0.png") as crop:
        assert crop.size == (32, 24)
