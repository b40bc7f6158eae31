"""How large a picture is shown, and which preprocessing is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from checkpoints import Copy, refused, set_value
from golden import needs_golden

from vpt_edge.export.checkpoint import Checkpoint
from vpt_edge.export.preprocessor import (
    PREPROCESSOR,
    PROCESSOR,
    image_limits,
    image_notes,
)
from vpt_edge.runtime.errors import CheckpointError
from vpt_edge.runtime.manifest import ImageConfig
from vpt_edge.runtime.models.qwen2_vl import PROCESSOR as QWEN
from vpt_edge.runtime.models.qwen3_vl import PROCESSOR as QWEN3

if TYPE_CHECKING:
    from vpt_edge.runtime.processor import Processor


def write(folder: Path, values: dict[str, Any], name: str = PREPROCESSOR) -> None:
    (folder / name).write_text(json.dumps(values), "utf-8")


def problem(folder: Path) -> str:
    with pytest.raises(CheckpointError) as error:
        image_limits(folder, QWEN)
    return error.value.problem


@needs_golden
def test_limits_come_from_the_preprocessor_where_there_is_one(copy: Copy) -> None:
    folder = copy("seg")
    checkpoint = Checkpoint.open(str(folder))
    assert checkpoint.image == ImageConfig(longest_side=512, min_pixels=3136, max_pixels=12845056)
    assert checkpoint.perception.block["longest_side"] == 1024
    write(folder, {"min_pixels": 5000, "max_pixels": 100000})
    image = Checkpoint.open(str(folder)).image
    assert (image.min_pixels, image.max_pixels) == (5000, 100000)
    (folder / PREPROCESSOR).unlink()
    assert Checkpoint.open(str(folder)).image.min_pixels == 3136


@pytest.mark.parametrize(
    ("processor", "least", "most"), [(QWEN, 3136, 12845056), (QWEN3, 65536, 16777216)]
)
@pytest.mark.parametrize("values", [None, {}, {"size": None, "min_pixels": None}])
def test_what_no_file_says_is_the_familys_own(
    values: dict[str, Any] | None, processor: Processor, least: int, most: int, tmp_path: Path
) -> None:
    if values is not None:
        write(tmp_path, {**values, "patch_size": processor.patch})
    assert image_limits(tmp_path, processor, shrinks=False) == ImageConfig(None, least, most)
    write(tmp_path, {"max_pixels": 1000000})
    assert image_limits(tmp_path, processor, shrinks=False) == ImageConfig(None, least, 1000000)


@needs_golden
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("image_resolution", 224.5),
        ("image_resolution", "224"),
        ("image_resolution", None),
        ("image_resolution", 0),
        ("image_resolution", -1),
        ("image_resolution", 10**9),
        ("max_pixels", 0),
        ("max_pixels", 100),
        ("max_pixels", "12845056"),
        ("max_pixels", 1e7),
        ("max_pixels", 10**18),
        ("max_pixels", 3000),  # less than min_pixels
        ("min_pixels", 0),
        ("min_pixels", -5),
        ("min_pixels", True),
        ("min_pixels", 12845057),
        ("size", 224),
        ("patch_size", 14.0),
        ("patch_size", "14"),
        ("image_mean", 0.5),
        ("image_mean", [0.5, 0.5, 0.5]),
        ("image_mean", [0.48145466, 0.4578275]),
        ("image_std", None),
        ("resample", True),
        ("resample", 2),
        ("rescale_factor", 1),
        ("do_normalize", False),
        ("do_normalize", "true"),
        ("do_resize", 0),
        ("do_center_crop", True),
        ("do_pad", True),
        ("image_processor_type", "CLIPImageProcessor"),
    ],
    ids=str,
)
def test_a_value_of_another_type_or_range_is_named(key: str, value: Any, copy: Copy) -> None:
    folder = copy("clip")
    set_value(folder, PREPROCESSOR, key, value)
    text = refused(folder)
    assert f"{PREPROCESSOR}" in text
    assert f"{key} is " in text or f"than {key} " in text


def test_rounded_constants_are_the_same(tmp_path: Path) -> None:
    write(
        tmp_path, {"rescale_factor": 0.003921569, "image_mean": [0.4814547, 0.4578275, 0.4082107]}
    )
    assert image_limits(tmp_path, QWEN).longest_side == 512


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("do_center_crop", None),
        ("do_pad", False),
        ("pad_size", None),
        ("image_processor_type", "Qwen2VLImageProcessorFast"),
        ("image_processor_type", None),
        ("data_format", "channels_first"),
    ],
)
def test_what_newer_versions_write_besides_is_taken(key: str, value: Any, tmp_path: Path) -> None:
    write(tmp_path, {key: value})
    assert image_limits(tmp_path, QWEN).longest_side == 512


def test_limits_of_null_are_those_of_the_size(tmp_path: Path) -> None:
    size = {"shortest_edge": 4000, "longest_edge": 50000}
    write(tmp_path, {"min_pixels": None, "max_pixels": None, "size": size})
    assert image_limits(tmp_path, QWEN) == ImageConfig(512, 4000, 50000)


def test_limits_of_null_without_a_size_are_the_usual_ones(tmp_path: Path) -> None:
    write(tmp_path, {"min_pixels": None, "max_pixels": None, "size": None})
    assert image_limits(tmp_path, QWEN) == ImageConfig(512, 3136, 12845056)


def test_the_older_keys_count_before_the_size(tmp_path: Path) -> None:
    size = {"shortest_edge": 4000, "longest_edge": 50000}
    write(tmp_path, {"max_pixels": 60000, "size": size})
    assert image_limits(tmp_path, QWEN) == ImageConfig(512, 4000, 60000)


def test_a_size_may_have_the_older_names(tmp_path: Path) -> None:
    write(tmp_path, {"size": {"min_pixels": 4000, "max_pixels": 50000}})
    assert image_limits(tmp_path, QWEN) == ImageConfig(512, 4000, 50000)


def test_a_size_of_something_else_is_refused(tmp_path: Path) -> None:
    write(tmp_path, {"size": {"height": 224, "width": 224}})
    assert problem(tmp_path).endswith("size lacks shortest_edge")


@pytest.mark.parametrize("value", [None, 0, "50000", 12.5])
def test_an_edge_of_another_type_or_range_is_named(value: Any, tmp_path: Path) -> None:
    write(tmp_path, {"size": {"shortest_edge": 3136, "longest_edge": value}})
    assert "longest_edge is " in problem(tmp_path)


def test_the_processor_holds_the_preprocessor(tmp_path: Path) -> None:
    size = {"shortest_edge": 4000, "longest_edge": 50000}
    write(tmp_path, {"image_processor": {"image_resolution": 224, "size": size}}, PROCESSOR)
    assert image_limits(tmp_path, QWEN) == ImageConfig(224, 4000, 50000)
    write(tmp_path, {"min_pixels": 3136, "max_pixels": 12845056})  # an older file beside it
    assert image_limits(tmp_path, QWEN) == ImageConfig(224, 4000, 50000)
    (note,) = image_notes(tmp_path, QWEN)
    assert note.startswith("processor_config.json and preprocessor_config.json do not show")
    write(tmp_path, {"image_resolution": 224, "min_pixels": 4000, "max_pixels": 50000})
    assert image_notes(tmp_path, QWEN) == ()
    write(tmp_path, {"image_resolution": "224"})
    assert len(image_notes(tmp_path, QWEN)) == 1


def test_a_processor_without_a_preprocessor_says_nothing_of_pictures(tmp_path: Path) -> None:
    write(tmp_path, {"processor_class": "Qwen2VLProcessor"}, PROCESSOR)
    write(tmp_path, {"max_pixels": 50000})
    assert image_limits(tmp_path, QWEN) == ImageConfig(512, 3136, 50000)


@pytest.mark.parametrize("inner", [[], "Qwen2VLImageProcessor", {"image_mean": [0.5, 0.5, 0.5]}])
def test_a_processor_of_something_else_is_refused(inner: Any, tmp_path: Path) -> None:
    write(tmp_path, {"image_processor": inner}, PROCESSOR)
    assert PROCESSOR in problem(tmp_path)
