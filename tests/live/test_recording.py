"""What a watch recorded is asked again, of the same bundle and of another."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sources import BLACK, ClipSource, frame

from vpt_edge.live.recording import LINES, read_recording
from vpt_edge.live.replay import Tally, replay
from vpt_edge.live.sinks.recorder import Recorder
from vpt_edge.live.watch import watch
from vpt_edge.runtime import Bundle, Pipeline, VptError
from vpt_edge.runtime.errors import PromptError, SinkError
from vpt_edge.runtime.testing import Script, tiny_bundle

REGION = "<|region_token_start|><|x_1|><|y_2|><|x_3|><|region_token_end|>"
NOISE = np.random.default_rng(5).integers(0, 256, (3, *BLACK.shape), np.uint8)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("tiny"))


def record(bundle: Bundle, folder: Path, *turns: str) -> None:
    """Two questions about each of three frames."""
    frames = [frame(number, NOISE[number]) for number in range(3)]
    with Pipeline(bundle, opener=Script(*turns)) as pipeline:
        recorder = Recorder(folder, bundle.manifest, {"perception": "region"})
        answers = watch(pipeline, ClipSource(frames), "One?", "Two?", every=0, perception="region")
        for seen in answers:
            recorder.put(seen)
        recorder.close()


ANSWERS = ("a", "b", "c", "d", "e", "f")


def test_the_same_bundle_answers_the_same(bundle: Bundle, tmp_path: Path) -> None:
    turns = (f"{REGION}<|im_end|>", "yes", *ANSWERS[1:])
    record(bundle, tmp_path / "kept", *turns)
    tally = Tally()
    with Pipeline(bundle, opener=Script(*turns)) as pipeline:
        for replayed in replay(pipeline, tmp_path / "kept"):
            assert replayed.same_ids, replayed.describe()
            tally.add(replayed)
    assert tally == Tally(6, 6, 6, 6)


def test_a_picture_that_was_asked_about_again_is_recorded(bundle: Bundle, tmp_path: Path) -> None:
    """As what the model was shown, or its answers would not be those of the recording."""
    shades = (NOISE[0], NOISE[0] ^ 1)
    sources = []
    for name in ("a", "b"):
        frames = [frame(number, shade, source=name) for number, shade in enumerate(shades)]
        sources.append(ClipSource(frames, name))
    folder = tmp_path / "kept"
    turns = (*ANSWERS, "g", "h")
    with Pipeline(bundle, opener=Script(*turns)) as pipeline:
        recorder = Recorder(folder, bundle.manifest, {"perception": "region"})
        for seen in watch(pipeline, sources, "One?", "Two?", every=0, reuse=0.02):
            recorder.put(seen)
        recorder.close()
    names = [each.image.name for each in read_recording(folder)]
    assert names == [f"00000{index}.png" for index in (0, 0, 1, 1, 2, 2, 3, 3)]
    for name in names:
        with Image.open(folder / name) as image:
            assert (np.asarray(image) == NOISE[0]).all()


def test_one_source_that_barely_changes_is_recorded_once(bundle: Bundle, tmp_path: Path) -> None:
    frames = [frame(0, NOISE[0]), frame(1, NOISE[0] ^ 1), frame(2, NOISE[1])]
    with Pipeline(bundle, opener=Script(*ANSWERS)) as pipeline:
        recorder = Recorder(tmp_path / "kept", bundle.manifest, {"perception": "region"})
        for seen in watch(pipeline, ClipSource(frames), "One?", "Two?", every=0, reuse=0.02):
            recorder.put(seen)
        recorder.close()
    names = [each.image.name for each in read_recording(tmp_path / "kept")]
    assert names == ["000000.png"] * 4 + ["000001.png"] * 2


def test_a_recording_of_an_earlier_version_says_less_of_a_look(
    bundle: Bundle, tmp_path: Path
) -> None:
    turns = (f"{REGION}<|im_end|>", "yes", *ANSWERS[1:])
    record(bundle, tmp_path / "kept", *turns)
    lines = tmp_path / "kept" / LINES
    later = lines.read_text("utf-8")
    lines.write_text(later.replace(', "picture": 0, "source": 0', ""), "utf-8")
    assert lines.read_text("utf-8") != later
    with Pipeline(bundle, opener=Script(*turns)) as pipeline:
        assert all(each.same_looks for each in replay(pipeline, tmp_path / "kept"))
    with Pipeline(bundle, opener=Script(*ANSWERS)) as pipeline:
        first, *_ = replay(pipeline, tmp_path / "kept")
        assert not first.same_looks
    lines.write_text(later.replace('"tokens": 6', '"tokens": 7'), "utf-8")
    assert lines.read_text("utf-8") != later
    with Pipeline(bundle, opener=Script(*turns)) as pipeline:
        first, *_ = replay(pipeline, tmp_path / "kept")
        assert not first.same_looks


def test_what_differs_is_told(bundle: Bundle, tmp_path: Path) -> None:
    record(bundle, tmp_path / "kept", *ANSWERS)
    with Pipeline(bundle, opener=Script("a", "b", "X", "d", "e", "f")) as pipeline:
        all_replayed = list(replay(pipeline, tmp_path / "kept"))
    differing = [each.describe() for each in all_replayed if not each.same_answer]
    assert differing == ["000001.png  One?  c -> X"]
    assert [each.same_looks for each in all_replayed] == [True] * 6


def test_pictures_are_kept_pixel_for_pixel_and_once(bundle: Bundle, tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    record(bundle, folder, *ANSWERS)
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["000000.png", "000001.png", "000002.png", LINES]
    for number in range(3):
        kept = np.asarray(Image.open(folder / f"{number:06}.png"))
        assert np.array_equal(kept, NOISE[number])
    records = list(read_recording(folder))
    assert [each.image.name for each in records] == [name for name in names[:3] for _ in "12"]
    assert [each.answer for each in records] == list(ANSWERS)
    assert {each.options["perception"] for each in records} == {"region"}


def test_a_recording_goes_on(bundle: Bundle, tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    record(bundle, folder, *ANSWERS)
    with (folder / LINES).open("ab") as lines:
        lines.write(b'{"image": "0000')  # of a watch that was killed
    assert len(list(read_recording(folder))) == 6
    record(bundle, folder, *ANSWERS)
    records = list(read_recording(folder))
    assert len(records) == 12
    assert records[-1].image.name == "000005.png"
    with Pipeline(bundle, opener=Script(*ANSWERS, *ANSWERS)) as pipeline:
        assert all(each.same_answer for each in replay(pipeline, folder))


def test_the_truth_is_counted(bundle: Bundle, tmp_path: Path) -> None:
    record(bundle, tmp_path, *ANSWERS)
    path = tmp_path / LINES
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    for line, truth in zip(lines, ("a", "b", "X", "d", "e", "wrong"), strict=True):
        line["truth"] = truth
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    tally = Tally()
    with Pipeline(bundle, opener=Script("a", "b", "X", "d", "e", "f")) as pipeline:
        for replayed in replay(pipeline, tmp_path):
            tally.add(replayed)
    assert (tally.known, tally.right_before, tally.right_after) == (6, 4, 5)
    assert tally.describe().endswith("right 4 then, 5 now, of 6")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("image", "../secret.png"),
        ("image", "/etc/passwd"),
        ("image", None),
        ("options", []),
        ("options", {"max_tokens": 3}),
        ("options", {"max_new_tokens": 0}),
        ("turns", "abc"),
        ("turns", [3]),
        ("looks", None),
        ("question", 5),
        ("truth", 5),
    ],
)
def test_a_line_of_something_else_is_refused(
    bundle: Bundle, tmp_path: Path, key: str, value: object
) -> None:
    record(bundle, tmp_path, *ANSWERS)
    path = tmp_path / LINES
    first, *rest = path.read_text("utf-8").splitlines()
    line = json.loads(first)
    line[key] = value
    path.write_text("\n".join([json.dumps(line), *rest, ""]), "utf-8")
    with pytest.raises((VptError, PromptError)) as raised:
        list(read_recording(tmp_path))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("text", ["[" * 10_000 + "\n", "{\n", "3\n", "\x00\n"])
def test_damaged_lines_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / LINES).write_text(text, "utf-8")
    with pytest.raises(VptError, match=f"{LINES}:1"):
        list(read_recording(tmp_path))


def test_a_folder_of_something_else_is_left_alone(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(SinkError, match="holds something else"):
        Recorder(tmp_path, bundle.manifest, {})
    with pytest.raises(VptError, match="not a recording"):
        list(read_recording(tmp_path))
    with pytest.raises(SinkError, match="not a folder"):
        Recorder(tmp_path / "letter.txt", bundle.manifest, {})
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]
