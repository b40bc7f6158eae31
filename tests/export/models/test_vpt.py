"""What a checkpoint has because of its kind: tokens, triggers, limits."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from checkpoints import KINDS, MODELS, NAMES, Copy, refused, set_value
from golden import needs_golden

from vpt_edge.export.checkpoint import Checkpoint
from vpt_edge.export.models.vpt import RELEASED

pytestmark = needs_golden


@pytest.mark.parametrize("name", NAMES)
def test_ids_are_found_by_token(name: str) -> None:
    checkpoint = Checkpoint.open(str(MODELS / name))
    tokens = checkpoint.perception.tokens
    perception = checkpoint.perception.block
    kind = KINDS[name]
    ids = json.loads((MODELS / name / "added_tokens.json").read_text("utf-8"))
    pad = ids[f"<|{kind}_image_pad|>"]
    assert perception["reencode_pad"] == pad
    assert (perception["action_start"], perception["action"]) == (
        ids[f"<|{kind}_action_start|>"],
        ids[f"<|{kind}_action|>"],
    )
    assert (tokens.image_pad, tokens.end[0]) == (ids["<|image_pad|>"], ids["<|im_end|>"])
    special = [ids[token] for token in ids if ids["<|im_start|>"] <= ids[token] <= pad]
    assert sorted(tokens.end) == sorted(special)
    assert ids["<|endoftext|>"] not in tokens.end
    assert sorted(perception["triggers"]) == list(range(pad + 1, pad + 22))


@pytest.mark.parametrize(
    "token", ["<|clip_image_pad|>", "<|clip_action|>", "<|x_3|>", "<|vision_start|>"]
)
def test_a_tokenizer_that_lacks_a_token_is_refused(token: str, copy: Copy) -> None:
    file = copy("clip") / "tokenizer.json"
    file.write_text(file.read_text("utf-8").replace(token, "<|other|>"), "utf-8")
    assert f"lacks the tokens {token}" in refused(file.parent)


def test_the_tokenizer_of_another_kind_is_refused(copy: Copy) -> None:
    folder = copy("clip")
    shutil.copyfile(MODELS / "det" / "tokenizer.json", folder / "tokenizer.json")
    assert "<|clip_image_pad|>" in refused(folder)


def test_an_alignment_checkpoint_has_no_triggers(copy: Copy) -> None:
    folder = copy("det")
    file = folder / "tokenizer.json"
    data = json.loads(file.read_text("utf-8"))
    last = next(
        token["id"]
        for token in data["added_tokens"]
        if token["content"] == "<|detection_image_pad|>"
    )
    data["added_tokens"] = [token for token in data["added_tokens"] if token["id"] <= last]
    file.write_text(json.dumps(data), "utf-8")
    settings = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
    added = settings["added_tokens_decoder"]
    settings["added_tokens_decoder"] = {key: added[key] for key in added if int(key) <= last}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
    perception = Checkpoint.open(str(folder)).perception.block
    assert (perception["action_start"], perception["action"]) == (None, None)
    assert perception["triggers"] == []
    assert perception["reencode_pad"] == last


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("det", "size", {"shortest_edge": 224}),
        ("det", "crop_size", {"height": 256, "width": 256}),
        ("det", "crop_size", 224),
        ("det", "do_center_crop", False),
        ("det", "image_mean", [0.5, 0.5, 0.5]),
        ("det", "resample", 2),
        ("seg", "size", {"longest_edge": 512}),
        ("seg", "pad_size", {"height": 1024, "width": 512}),
        ("seg", "do_pad", "true"),
        ("seg", "image_std", None),
    ],
)
def test_other_pictures_for_the_encoder_are_refused(
    name: str, key: str, value: object, copy: Copy
) -> None:
    folder = copy(name)
    file = f"{KINDS[name]}_preprocessor_config.json"
    set_value(folder, file, key, value)
    text = refused(folder)
    assert f"{file} describes a model that vpt-edge cannot export: {key} is " in text


@pytest.mark.parametrize("release", RELEASED)
@pytest.mark.parametrize("form", ["{}", "models--rp-yu--{}/snapshots/0123abc"])
def test_a_released_checkpoint_is_known_by_its_folder(
    form: str, release: str, tmp_path: Path
) -> None:
    folder = tmp_path / form.format(release)
    folder.mkdir(parents=True)
    for file in (MODELS / "det").iterdir():
        shutil.copyfile(file, folder / file.name)
    checkpoint = Checkpoint.open(str(folder))
    assert checkpoint.perception.block["prompt_triggered"] == (
        not release.endswith(("NoPrompt", "Alignment"))
    )
