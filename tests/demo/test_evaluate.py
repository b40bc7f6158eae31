"""A bundle of the demo's model answers as the network does, and is counted by length."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import evaluate
import pytest
import torch
from evaluate import SEED, Tally, draw_scenes
from network import Network, save
from network_reply import REGION, load, reply
from signs.attention import TrainingAttention
from signs.conversation import Conversations
from signs.draw import Drawer
from signs.heads import Heads
from signs.losses import Losses
from signs.see_scenes import encode_scenes
from signs.speak import ask_looked, speak
from signs.tokens import build_tokenizer
from signs_tiny import GEOMETRY
from talk import ACTION, Talk

from vpt_edge.export.exporter import export
from vpt_edge.live.signs.faces import faces_of
from vpt_edge.live.signs.grounds import Grounds, find_photographs
from vpt_edge.live.signs.painter import Painter
from vpt_edge.live.signs.questions import read_question
from vpt_edge.runtime import Pipeline

if TYPE_CHECKING:
    from vpt_edge.runtime.perception.actions import Mode

STEPS = 100
MODES: tuple[Mode, ...] = ("region", "reencode", "free")


@pytest.fixture(name="checkpoint", scope="module")
def fixture_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Taught what is said of one scene, so that it looks."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    network = Network(GEOMETRY.vision, GEOMETRY.text, TrainingAttention)
    heads = Heads(GEOMETRY.text.hidden_size)
    talk = Talk(build_tokenizer())
    drawer = Drawer(7, "test")
    records = drawer.scenes(0, 1)
    scenes = [drawer.scene(0)]
    looks = [drawer.look(0, scenes[0])]
    optimizer = torch.optim.AdamW([*network.parameters(), *heads.parameters()], 1e-2)
    with torch.no_grad():
        first, crops = encode_scenes(network, records)
    for step in range(STEPS):
        losses = Losses()
        conversations = Conversations(network, heads, talk, first, losses)
        speak(conversations, crops, scenes, looks, Random(step % 4))
        optimizer.zero_grad()
        losses.total().backward()
        optimizer.step()
    folder = tmp_path_factory.mktemp("signs") / "checkpoint"
    save(network, talk.tokenizer, folder, torch.float16)
    return folder


@pytest.fixture(name="bundle", scope="module")
def fixture_bundle(checkpoint: Path) -> Path:
    folder = checkpoint.parent / "bundle"
    export(str(checkpoint), folder, precision="fp32")
    return folder


def test_a_bundle_answers_as_the_network_does(checkpoint: Path, bundle: Path) -> None:
    """Of a scene that was taught, and of another where it asks for a look as it should."""
    network = load(checkpoint, Network(GEOMETRY.vision, GEOMETRY.text))
    talk = Talk(build_tokenizer())
    drawer = Drawer(7, "test")
    grounds = Grounds(find_photographs("test"))
    looks = list[str]()
    with Pipeline(bundle) as pipeline, torch.no_grad():
        for index in range(2):
            scene = drawer.scene(index)
            picture = Painter(scene, grounds).picture()
            question = read_question(scene.signs[0], index)
            for mode in MODES:
                answer = pipeline.ask(picture, question, perception=mode, max_new_tokens=12)
                expected, first = reply(network, talk, picture, question, mode)
                if index == 0 or is_whole(first):
                    assert answer.text == expected
                    looks.extend(look.kind for look in answer.looks)
    assert {"region", "clip"} <= set(looks)


def is_whole(first: str) -> bool:
    """Whether what is said first asks for one look and nothing else, or for none."""
    is_look = REGION.fullmatch(first) or first == ACTION
    return bool(is_look) or "<|" not in first


def test_what_was_taught_is_said(checkpoint: Path, bundle: Path) -> None:
    drawer = Drawer(7, "test")
    scene = drawer.scene(0)
    look = drawer.look(0, scene)
    picture = Painter(scene, Grounds(find_photographs("test"))).picture()
    sample = ask_looked([scene], [look], 0)[0]
    with Pipeline(bundle) as pipeline:
        answer = pipeline.ask(picture, sample.question, perception="region", max_new_tokens=12)
    assert answer.text == sample.answer and len(answer.looks) == 1


def test_the_table_has_every_length(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["evaluate.py", str(bundle), "--count", "2"])
    evaluate.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[0] for line in lines[4:10]] == [
        "| 3",
        "| 4",
        "| 5",
        "| 6",
        "| 7",
        "| all",
    ]
    assert lines[9].startswith("| all | 2 | ")
    assert [line.split(" | ")[:2] for line in lines[-3:]] == [
        ["| place", "2"],
        ["| colour", "2"],
        ["| there", "2"],
    ]
    monkeypatch.setattr(sys, "argv", ["evaluate.py", str(bundle), "--count", "1", "--json"])
    evaluate.main()
    report = json.loads(capsys.readouterr().out)
    assert report["scenes"] == 1
    assert report["questions"]["read off"]["asked"] == 1


def test_answers_are_counted_by_character() -> None:
    tally = Tally()
    name = ("read", "region")
    tally.add(name, "CAFE", "CAFE")
    tally.add(name, "COFE", "CAFE")
    tally.add(name, "CAF", "CAFE")
    tally.add(name, "CAFES", "CAFE")
    assert tally.asked(name) == 4 and tally.right(name) == 0.25
    assert tally.characters(name) == (4 + 3 + 3 + 4) / 17
    assert tally.right(("read", "off")) == 0


def test_what_is_asked_about_was_never_seen_in_training() -> None:
    drawer = Drawer(0)
    training = {sign.card.face for index in range(40) for sign in drawer.scene(index).signs}
    assert training <= set(faces_of("training"))
    assert not training & set(faces_of("test"))
    assert not set(find_photographs("training")) & set(find_photographs("test"))
    _, samples = next(draw_scenes(SEED))
    faces = {sample.about.card.face for sample in samples if sample.about}
    assert faces and faces <= set(faces_of("test"))
