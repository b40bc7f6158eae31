"""vpt-run with a model that thinks, calls in words and is shown several pictures."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from PIL import Image
from scripted import PICTURE
from zoom import REPLY, call, zoom_bundle

from vpt_edge.commands import run
from vpt_edge.runtime import Bundle, pipeline
from vpt_edge.runtime.testing import Script

if TYPE_CHECKING:
    from pathlib import Path

TURNS = (
    f"<think>Small.</think>Let me see. {call((100, 10, 140, 50), source=1)}",
    "<call>{</call>",
    "<think>Red.\nOr not.</think>It is red.",
)


@pytest.fixture
def arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Of a bundle that says TURNS, and two pictures."""
    script = Script(*TURNS)
    bundle = zoom_bundle(tmp_path / "bundle", monkeypatch)
    monkeypatch.setattr(pipeline, "open_session", lambda model, name, device: script(model, name))
    PICTURE.save(tmp_path / "a.png")
    Image.new("RGB", (180, 60)).save(tmp_path / "b.png")
    first = [str(bundle.path), str(tmp_path / "a.png"), "What?"]
    return [*first, "--also", str(tmp_path / "b.png")]


def test_what_it_thinks_and_says_is_told_apart(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run.main(arguments) == 0
    assert capsys.readouterr().out == (
        "[thinks] Small.\n"
        "Let me see. \n"
        "[looked again at 40x40 px from (100,10) of picture 2]\n"
        f"[no look: {REPLY}]\n"
        "[thinks] Red.\nOr not.\n"
        "It is red.\n"
    )


def test_a_budget_is_of_the_first_views_and_of_the_looks(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    budget = ["--first-max-pixels", "784", "--look-max-pixels", "1568"]
    assert run.main([*arguments, *budget, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    pad = Bundle.open(arguments[0]).manifest.tokens.image_pad
    assert said["turns"][0]["prompt_ids"].count(pad) == 1 + 3  # of 96x64 and of 180x60 pixels
    assert [look["tokens"] for look in said["looks"]] == [1]


def test_json_has_the_pictures_and_the_thoughts(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run.main([*arguments, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["text"], said["thoughts"]) == ("It is red.", "Small.\n\nRed.\nOr not.")
    (look,) = said["looks"]
    assert (look["picture"], look["source"], look["box"]) == (1, 1, [100, 10, 140, 50])


def test_a_share_of_the_first_view_is_asked_for(
    arguments: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    Image.new("RGB", (28 * 12, 28 * 10)).save(tmp_path / "b.png")
    assert run.main([*arguments, "--first-token-share", "0.75", "--json", "--stats"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["usage"]["dropped_tokens"] == 30
    assert " reused, 30 dropped; " in printed.err
    assert run.main([*arguments, "--first-token-share", "0"]) == 2
    assert "expected more than 0 and at most 1" in capsys.readouterr().err


def test_a_plot_replaces_none_of_the_pictures(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run.main([*arguments, "--plot", arguments[-1]]) == 2
    assert "it is the picture itself" in capsys.readouterr().err


def test_pictures_may_be_frames_of_a_scene(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    PICTURE.save(tmp_path / "b.png")
    frames = ["--frames-every", "0.5", "--still-pixels", "0.1", "--json"]
    assert run.main([*arguments, *frames, "--also", str(tmp_path / "a.png")]) == 0
    usage = json.loads(capsys.readouterr().out)["usage"]
    assert usage["vision_runs"] == 2  # of the first pair, and of what it looks at
    assert usage["dropped_tokens"] == 6
    assert run.main([*arguments, "--frames-every", "0"]) == 2
    assert "the moment of frame 2 is 0" in capsys.readouterr().err
