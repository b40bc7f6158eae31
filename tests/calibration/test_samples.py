"""Pictures with questions: the three sources, and the authors' crop suffix."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tables import table

from vpt_edge.calibration.sample import Sample
from vpt_edge.calibration.samples import QUESTIONS, crop_suffix, read_samples
from vpt_edge.runtime.errors import ImageError, VptError
from vpt_edge.runtime.image import regularize

SIZE = (64, 48)
REGION = "<|region_token_start|><|x_1|><|y_2|><|region_token_end|>"


def draw(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (SIZE[1], SIZE[0], 3), np.uint8)
    Image.fromarray(pixels).save(path, "PNG")
    return path


def write_lines(folder: Path, *entries: Any) -> Path:
    path = folder / "data.jsonl"
    path.write_text(
        "".join(f"{e if isinstance(e, str) else json.dumps(e)}\n" for e in entries), "utf-8"
    )
    return path


def write_dataset(
    folder: Path, *images: str, messages: list[tuple[str, str]] | None = None
) -> Path:
    path = folder / "data.json"
    talk = messages or [("user", "<image>\nWhat?"), ("assistant", "A cat.")]
    turns = [{"role": role, "content": content} for role, content in talk]
    path.write_text(
        json.dumps([{"messages": turns, "images": [image]} for image in images]), "utf-8"
    )
    return path


@pytest.mark.parametrize("row", table("path_suffix"), ids=lambda row: row["path"])
def test_a_path_suffix_is_the_authors_crop(row: dict[str, Any], tmp_path: Path) -> None:
    for name in ("a.png", "a_b.png", "noext", "no_ext", "a.b_c/x.png", "a.b_c/noext", "x.tar_png"):
        draw(tmp_path / name)
    data, expected = write_dataset(tmp_path, row["path"]), row["result_wh_or_error"]
    if isinstance(expected, str):
        with pytest.raises(VptError):
            read_samples(data)
        return
    (sample,) = read_samples(data).samples
    assert list(regularize(sample.open(), 512).size) == expected


def test_a_crop_is_cut_from_the_whole_picture(tmp_path: Path) -> None:
    path = draw(tmp_path / "a.png")
    (sample,) = read_samples(write_dataset(tmp_path, "a.png_-5,10,70,40")).samples
    pixels = np.asarray(sample.open())
    with Image.open(path) as whole:
        np.testing.assert_array_equal(pixels[:, 5:69], np.asarray(whole)[10:40])
    assert pixels.shape == (30, 75, 3)
    assert not pixels[:, :5].any()
    assert crop_suffix("a.png_-5,10,70,40") == ("a.png", (-5, 10, 70, 40))


@pytest.mark.parametrize(
    "suffix", ["1,2,3,4,5", "0,0,5,-1", "9" * 30 + ",0," + "9" * 31 + ",4", "0,0,99999,99999"]
)
def test_a_crop_that_pillow_cannot_cut_is_an_error(suffix: str, tmp_path: Path) -> None:
    draw(tmp_path / "a.png")
    with pytest.raises(VptError, match=r"a\.png"):
        read_samples(write_dataset(tmp_path, f"a.png_{suffix}"))


def test_lines_are_samples(tmp_path: Path) -> None:
    draw(tmp_path / "in" / "a.png")
    data = write_lines(
        tmp_path,
        {"image": "in/a.png", "question": "What\u2028is it?"},
        "",
        {"image": "in/a.png", "question": "Why?", "answer": "So.", "perception": "region"},
        {"image": "in/a.png", "question": "Why?", "answer": None},
    )
    image = tmp_path / "in" / "a.png"
    assert read_samples(data).samples == (
        Sample(image, "What\u2028is it?", None, "free"),
        Sample(image, "Why?", "So.", "region"),
        Sample(image, "Why?", None, "free"),
    )
    data.write_text('\ufeff{"image": "in/a.png", "question": "Unescaped\u2028?"}\r\n', "utf-8")
    assert [sample.question for sample in read_samples(data).samples] == ["Unescaped\u2028?"]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("{", "not JSON"),
        ("[1]", "found list"),
        ({"image": "a.png"}, "question is missing"),
        ({"image": "a.png", "question": " "}, "question is ' '"),
        ({"image": 3, "question": "Q"}, "image is 3"),
        ({"image": "a.png", "question": "Q", "answer": 3}, "answer is 3"),
        ({"image": "a.png", "question": "Q", "answer": ""}, "answer is ''"),
        ({"image": "a.png", "question": "Q", "perception": "crop"}, "perception is 'crop'"),
        ({"image": "a.png", "question": "Q", "perception": ["free"]}, "perception is"),
        ({"image": "a.png", "question": "Q", "asnwer": "A"}, "unknown asnwer"),
        ({"image": "a.png", "question": "<image> and <image>"}, "the question holds <image>"),
    ],
)
def test_a_bad_line_is_named(line: Any, fault: str, tmp_path: Path) -> None:
    draw(tmp_path / "a.png")
    data = write_lines(tmp_path, {"image": "a.png", "question": "Q"}, line)
    with pytest.raises(VptError, match=r"data\.jsonl, line 2: ") as error:
        read_samples(data)
    assert fault in str(error.value)


@pytest.mark.parametrize("depth", [100, 500, 800, 900, 950, 5_000, 200_000])
@pytest.mark.parametrize("key", ["image", "question", "answer", "perception", "more"])
def test_a_deep_line_is_named(depth: int, key: str, tmp_path: Path) -> None:
    entry = {"image": "a.png", "question": "Q", key: 0}
    line = json.dumps(entry).replace("0", "[" * depth + "]" * depth)
    with pytest.raises(VptError, match=r"data\.jsonl, line 2: ") as error:
        read_samples(write_lines(tmp_path, {"image": "a.png", "question": "Q"}, line))
    assert len(str(error.value)) < 300 + len(str(tmp_path))


@pytest.mark.parametrize("depth", [100, 900, 5_000])
def test_a_deep_dataset_is_named(depth: int, tmp_path: Path) -> None:
    data = tmp_path / "data.json"
    data.write_text("[" * depth + "]" * depth, "utf-8")
    with pytest.raises(VptError, match=r"data\.json"):
        read_samples(data)


def test_a_conversation_of_the_authors_is_a_sample(tmp_path: Path) -> None:
    draw(tmp_path / "a.png")
    sentence = "Identify the region that can help you answer the question"
    asked = f"<image>\nWhat? \n{sentence}, and then answer the question."
    talk = [
        ("system", "Be kind."),
        ("user", asked),
        ("assistant", REGION),
        ("user", "<image>"),
        ("assistant", "A cat."),
    ]
    data = write_dataset(tmp_path, "a.png", messages=talk)
    data.write_text(data.read_text().replace('"a.png"', '"a.png", "a.png_0,6,24,30"'))
    (sample,) = read_samples(data).samples
    assert sample == Sample(tmp_path / "a.png", asked, "A cat.", "free", None)


@pytest.mark.parametrize(
    "last", [REGION, "<|clip_action_start|><|clip_action|><|clip_action_end|>", "", None]
)
def test_a_trigger_is_no_true_answer(last: str | None, tmp_path: Path) -> None:
    draw(tmp_path / "a.png")
    talk = [("user", "<image>What?")] + ([] if last is None else [("assistant", last)])
    (sample,) = read_samples(write_dataset(tmp_path, "a.png", messages=talk)).samples
    assert sample.answer is None


@pytest.mark.parametrize(
    "entry",
    [
        3,
        {"messages": []},
        {"messages": [], "images": ["a.png"]},
        {"messages": [{"role": "user", "content": "Q"}], "images": []},
        {"messages": [{"role": "user", "content": "Q"}], "images": [None]},
        {"messages": [{"role": "user", "content": None}], "images": ["a.png"]},
        {"messages": [{"content": "Q"}], "images": ["a.png"]},
        {"messages": ["Q"], "images": ["a.png"]},
        {"messages": [{"role": "user", "content": "Q"}], "images": ["no_extension"]},
        {"messages": [{"role": "user", "content": "Q"}], "images": ["a.png_10,10,5,5"]},
    ],
)
def test_a_bad_entry_is_named(entry: Any, tmp_path: Path) -> None:
    draw(tmp_path / "a.png")
    good = {"messages": [{"role": "user", "content": "Q"}], "images": ["a.png"]}
    data = tmp_path / "data.json"
    data.write_text(
        json.dumps([good, entry, *[good] * 40])
    )  # so many that a picture would be left out
    with pytest.raises(VptError, match=r"data\.json, entry 2: "):
        read_samples(data)


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("data.json", "{}", "holds dict"),
        ("data.json", '{"a": 1}\n{"a": 2}', "jsonl"),
        ("data.json", "[]", "no samples"),
        ("data.jsonl", "\n\n", "no samples"),
        ("data.csv", "a", "unknown kind"),
        ("folder/readme.txt", "a", "no samples"),
        ("other.json", "[]", "no data at"),
    ],
)
def test_what_is_no_data_is_refused(name: str, content: str, fault: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)
    asked = (
        path.parent
        if path.suffix == ".txt"
        else path
        if path.name != "other.json"
        else tmp_path / "data.json"
    )
    with pytest.raises(VptError, match=fault):
        read_samples(asked)
    bad = tmp_path / "bytes.jsonl"
    bad.write_bytes(b"\xff\xfe")
    with pytest.raises(VptError, match="UTF-8"):
        read_samples(bad)


def test_each_picture_of_a_folder_is_asked_both_kinds_of_question(tmp_path: Path) -> None:
    names = [f"{index}.png" for index in range(6)]
    for name in [*names, "deep/7.JPG", ".hidden.png"]:
        draw(tmp_path / name)
    (tmp_path / "notes.txt").write_text("")
    samples = read_samples(tmp_path).samples
    assert sorted({str(sample.image.relative_to(tmp_path)) for sample in samples}) == [
        *names,
        "deep/7.JPG",
    ]
    assert [sample.perception for sample in samples] == ["region", "reencode"] * 7
    for perception in ("region", "reencode"):
        questions = QUESTIONS[perception]
        assert {sample.question for sample in samples if sample.perception == perception} == set(
            questions
        )


def test_a_model_without_those_modes_is_asked_freely(tmp_path: Path) -> None:
    for index in range(9):
        draw(tmp_path / f"{index}.png")
    samples = read_samples(tmp_path, ("free", "off")).samples
    assert [sample.perception for sample in samples] == ["free"] * 9
    assert [sample.question for sample in samples] == list(QUESTIONS["free"])
    samples = read_samples(tmp_path, ("free", "region")).samples
    assert {sample.perception for sample in samples} == {"region"}


def test_a_mode_that_the_model_lacks_is_said_before_the_work(tmp_path: Path) -> None:
    draw(tmp_path / "a.png")
    line = {"image": "a.png", "question": "Q", "perception": "reencode"}
    data = write_lines(tmp_path, {"image": "a.png", "question": "Q"}, line)
    assert [sample.perception for sample in read_samples(data).samples] == ["free", "reencode"]
    with pytest.raises(VptError, match=r"line 2: perception is 'reencode', .* one of: free, off"):
        read_samples(data, ("free", "off"))


def test_a_line_may_name_several_pictures(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        draw(tmp_path / name)
    Image.new("RGB", (30, 20)).save(tmp_path / "b.png")
    line = {"image": ["a.png", "b.png"], "question": "Q"}
    (sample,) = read_samples(write_lines(tmp_path, line)).samples
    assert (sample.image, sample.others) == (tmp_path / "a.png", (tmp_path / "b.png",))
    first, second = sample.open_all()
    assert (first.size, second.size) == (sample.open().size, (30, 20))


@pytest.mark.parametrize("image", [[], ["a.png", ""], ["a.png", 3], [["a.png"]], {}])
def test_a_list_of_anything_else_is_refused(tmp_path: Path, image: Any) -> None:
    draw(tmp_path / "a.png")
    with pytest.raises(VptError, match=r"line 1: image is .*, expected"):
        read_samples(write_lines(tmp_path, {"image": image, "question": "Q"}))


def test_a_further_picture_that_cannot_be_read_is_a_fault(tmp_path: Path) -> None:
    draw(tmp_path / "a.png")
    line = {"image": ["a.png", "missing.png"], "question": "Q"}
    with pytest.raises(VptError, match=r"1 of 1 samples .*missing\.png"):
        read_samples(write_lines(tmp_path, line))


def test_few_unreadable_pictures_are_left_out(tmp_path: Path) -> None:
    draw(tmp_path / "a.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "a.png").read_bytes()[:3000])
    Image.new("RGB", (4000, 1)).save(tmp_path / "thin.png")
    good, bad = (
        {"image": "a.png", "question": "Q"},
        [{"image": f"{n}.png", "question": "Q"} for n in ("cut", "thin")],
    )
    found = read_samples(write_lines(tmp_path, *[good] * 39, *bad))
    assert len(found.samples) == 39
    assert "cut.png is damaged" in found.unreadable[0]
    assert "4000x1 pixels is too thin" in found.unreadable[1]
    with pytest.raises(VptError, match="2 of 40 samples"):
        read_samples(write_lines(tmp_path, *[good] * 38, *bad))


def test_many_unreadable_pictures_are_counted_and_the_first_named(tmp_path: Path) -> None:
    data = write_lines(
        tmp_path, *({"image": f"none{index}.png", "question": "Q"} for index in range(8))
    )
    with pytest.raises(VptError, match="8 of 8 samples") as error:
        read_samples(data)
    assert "none4.png" in str(error.value)
    assert "none5.png" not in str(error.value)
    assert str(error.value).endswith("and 3 more")
    with pytest.raises(ImageError):
        Sample(tmp_path / "none0.png", "Q").open()


@pytest.mark.parametrize("name", [5000 * "x", "a\0b"])
def test_a_name_that_no_file_has_is_no_data(name: str) -> None:
    with pytest.raises(VptError, match="no data at"):
        read_samples(name)
