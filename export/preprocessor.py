"""How large a picture is shown, as a checkpoint's preprocessor tells it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from vpt_edge.export.config_fields import Area, read_fields, read_value, value_error
from vpt_edge.export.config_files import (
    DOWNLOAD_AGAIN,
    expect_if_given,
    expect_unless_null,
    read_optional,
)
from vpt_edge.runtime.errors import CheckpointError
from vpt_edge.runtime.image import MIN_SIDE
from vpt_edge.runtime.manifest import ImageConfig
from vpt_edge.runtime.processor import FRAMES, MERGE
from vpt_edge.runtime.schema import Range

if TYPE_CHECKING:
    from vpt_edge.runtime.processor import Processor

PREPROCESSOR = "preprocessor_config.json"
PROCESSOR = "processor_config.json"  # of transformers 5, which holds the other one
INNER = "image_processor"
EDGES = {"min_pixels": "shortest_edge", "max_pixels": "longest_edge"}
EXPECTED = {
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "merge_size": MERGE,
    "temporal_patch_size": FRAMES,
    "resample": 3,
    "rescale_factor": 1 / 255,
}
NOT_ASKED = {"do_center_crop": False, "do_pad": False}
OWN = ("Qwen2VL", "Qwen2_5_VL")  # one is in the name of each of Qwen's processors


@dataclass(frozen=True)
class _Limits:
    """As the file has them; the default is that of PROTOCOL 4."""

    min_pixels: Area
    max_pixels: Area
    image_resolution: Annotated[int, Range(MIN_SIDE, 100_000)] = 512


def image_limits(folder: Path, processor: Processor, *, shrinks: bool = True) -> ImageConfig:
    """How large a picture is shown, from the preprocessor's file in ``folder``, if there is one.

    ``shrinks``: whether it is first brought to a longest side, as VPT's authors do (PROTOCOL 4).
    Constants there must be those of the runtime's ``processor``, else CheckpointError.
    """
    limits = _limits(*_read_preprocessor(folder), processor)
    return limits if shrinks else replace(limits, longest_side=None)


def image_notes(folder: Path, processor: Processor) -> tuple[str, ...]:
    """A text where the older form, which transformers 4 reads, lies beside and has other limits."""
    data, file = _read_preprocessor(folder)
    older = folder / PREPROCESSOR
    if file == older or not older.exists():
        return ()
    try:
        limits = _limits(read_optional(older), older, processor)
        is_same = limits == _limits(data, file, processor)
    except CheckpointError:
        is_same = False
    if is_same:
        return ()
    return (
        f"{PROCESSOR} and {PREPROCESSOR} do not show a picture alike: the former counts, as in "
        "transformers 5",
    )


def _limits(data: Mapping[str, Any], file: Path, processor: Processor) -> ImageConfig:
    constants = {
        "image_mean": list(processor.mean),
        "image_std": list(processor.std),
        "patch_size": processor.patch,
    }
    expect_if_given(data, {**EXPECTED, **constants}, file)
    expect_unless_null(data, NOT_ASKED, file)
    name = data.get("image_processor_type")
    if name is not None and not any(own in str(name) for own in OWN):
        raise value_error(f"{file}: image_processor_type", name, f"one of {OWN[0]}")
    values: dict[str, Any] = {key: getattr(processor, key) for key in EDGES}
    values |= _pixel_limits(data, file)
    if "image_resolution" in data:
        values["image_resolution"] = data["image_resolution"]
    limits = read_fields(_Limits, values, file)
    least = processor.factor**2
    if limits.max_pixels < least:
        raise value_error(
            f"{file}: max_pixels", limits.max_pixels, f"a whole number from {least:,} on"
        )
    if limits.min_pixels > limits.max_pixels:
        expected = f"no more than max_pixels {limits.max_pixels}"
        raise value_error(f"{file}: min_pixels", limits.min_pixels, expected)
    return ImageConfig(limits.image_resolution, limits.min_pixels, limits.max_pixels)


def _read_preprocessor(folder: Path) -> tuple[dict[str, Any], Path]:
    """What describes it, and the file in which that stands; as transformers has it, the newer form
    counts where there are both.
    """
    file = folder / PROCESSOR
    inner = read_optional(file).get(INNER)
    if inner is None:
        file = folder / PREPROCESSOR
        return read_optional(file), file
    if not isinstance(inner, dict):
        raise value_error(f"{file}: {INNER}", inner, "an object")
    return inner, file


def _pixel_limits(data: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """``min_pixels`` and ``max_pixels`` as transformers finds them: those of ``size`` count where
    the older keys are absent or null.
    """
    size = data.get("size")
    if size is not None and not isinstance(size, dict):
        raise value_error(f"{file}: size", size, "an object")
    values = {}
    for key, edge in EDGES.items():
        if data.get(key) is not None:
            values[key] = data[key]
        elif size is not None:
            values[key] = _edge(size, (edge, key), file)
    return values


def _edge(size: Mapping[str, Any], names: tuple[str, ...], file: Path) -> Any:
    for name in names:
        if name in size:
            return read_value(Area, size[name], f"{file}: size.{name}")
    raise CheckpointError(f"{file}: size lacks {names[0]}", DOWNLOAD_AGAIN)
