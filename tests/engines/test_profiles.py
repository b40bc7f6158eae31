"""Every shape within a graph's bounds has a profile, and the first that holds it is the least."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vpt_edge.engines.profiles import make_profiles
from vpt_edge.runtime.manifest import Graph, Tensor

if TYPE_CHECKING:
    from vpt_edge.runtime.sessions.plan import Profile

LIBRARIES = ("tensorrt", "tensorrt-rtx")
sizes = st.integers(1, 5000)


def vision_encoder(most: int) -> Graph:
    inputs = (
        Tensor("patches", "float32", (1, "patches", 1176)),
        Tensor("cos", "float32", ("patches", 40)),
    )
    bounds = {"patches": (4, 4 * min(256, most), 4 * most), "tokens": (1, min(256, most), most)}
    return Graph(
        "vision_encoder.onnx", inputs, (Tensor("features", "float32", (1, "tokens", 8)),), bounds
    )


def decoder(most: int, blocks: int) -> Graph:
    inputs = (
        Tensor("embeds", "float32", (1, "sequence", 8)),
        Tensor("past.0.key", "float16", (1, "past", 4)),
        Tensor("filled", "int32", ()),
    )
    bounds = {
        "sequence": (1, min(256, most), most),
        "past": (256, 256 * min(2, blocks), 256 * blocks),
    }
    return Graph("decoder.onnx", inputs, (), bounds)


def first(made: tuple[Profile, ...], shapes: dict[str, tuple[int, ...]]) -> Profile:
    return next(profile for profile in made if profile.holds(shapes))


@given(most=sizes, part=st.floats(0, 1))
def test_every_picture_has_a_bucket(most: int, part: float) -> None:
    patches = 4 * max(round(part * most), 1)
    made = make_profiles(vision_encoder(most), "tensorrt")
    shapes = {"patches": (1, patches, 1176), "cos": (patches, 40)}
    held = [profile.holds(shapes) for profile in made]
    assert held == sorted(held) and held[-1]  # from the smallest to the largest
    assert not any(
        profile.holds({**shapes, "patches": (1, 4 * most + 1, 1176)}) for profile in made
    )
    largest = [profile.shapes["patches"][2][1] for profile in made]
    assert largest == sorted(set(largest)) and largest[-1] == 4 * most
    for profile in made:
        least, usual, top = (shape[1] for shape in profile.shapes["patches"])
        assert least == 4 and usual == top and top % 4 == 0
        assert profile.shapes["cos"][2] == (top, 40)
        assert profile.name == f"to {top} patches"


def windowed_encoder(most: int) -> Graph:
    """Qwen2.5-VL's, whose windows have four visual tokens a side."""
    usual = min(256, most)
    inputs = (
        Tensor("patches", "float32", (1, "patches", 1176)),
        Tensor("slots", "int64", ("windows", 64)),
    )
    bounds = {
        "patches": (4, 4 * usual, 4 * most),
        "tokens": (1, usual, most),
        "windows": (1, -(-usual // 16), -(-most // 4)),
    }
    return Graph("vision_encoder.onnx", inputs, (), bounds)


def test_windows_are_those_of_a_square_picture_and_reach_to_a_row() -> None:
    made = make_profiles(windowed_encoder(2048), "tensorrt")
    assert [profile.shapes["slots"] for profile in made] == [
        ((1, 64), (32, 64), (128, 64)),
        ((1, 64), (64, 64), (256, 64)),
        ((1, 64), (128, 64), (512, 64)),
    ]
    assert [profile.shapes["patches"][1] for profile in made] == [
        (1, 2048, 1176),
        (1, 4096, 1176),
        (1, 8192, 1176),
    ]


@given(most=sizes, rows=st.integers(1, 70), columns=st.integers(1, 5000))
def test_the_patches_of_a_picture_alone_choose_its_bucket(
    most: int, rows: int, columns: int
) -> None:
    tokens = rows * columns
    if tokens > most:
        return
    windows = -(-rows // 4) * -(-columns // 4)
    made = make_profiles(windowed_encoder(most), "tensorrt")
    patches = {"patches": (1, 4 * tokens, 1176)}
    shapes = {**patches, "slots": (windows, 64)}
    expected = next(p for p in made if p.shapes["patches"][2][1] >= 4 * tokens)
    assert first(made, shapes) is expected


def test_the_buckets_of_the_released_checkpoints() -> None:
    assert [profile.name for profile in make_profiles(vision_encoder(324), "tensorrt")] == [
        "to 324 patches",
        "to 648 patches",
        "to 1296 patches",
    ]


@pytest.mark.parametrize("library", LIBRARIES)
@given(most=sizes, blocks=st.integers(1, 20), sequence=sizes, past=st.integers(1, 20))
def test_every_pass_of_the_decoder_has_a_profile(
    library: str, most: int, blocks: int, sequence: int, past: int
) -> None:
    sequence, past = min(sequence, most), 256 * min(past, blocks)
    made = make_profiles(decoder(most, blocks), library)
    shapes = {"embeds": (1, sequence, 8), "past.0.key": (1, past, 4), "filled": ()}
    found = first(made, shapes)
    assert [profile.name for profile in made][-1] == "prefill"
    if sequence == 1 and most > 2:
        assert found.name == "step"
        assert [shape[1] for shape in found.shapes["embeds"]] == [
            1,
            1,
            1 if library == "tensorrt" else 2,
        ]
    if sequence > 2:
        assert found.name == "prefill"
    assert not any(
        profile.holds({**shapes, "past.0.key": (1, 256 * blocks + 1, 4)}) for profile in made
    )
    assert not any(profile.holds({**shapes, "embeds": (1, most + 1, 8)}) for profile in made)


@given(bound=st.tuples(st.integers(0, 300), st.integers(0, 300), st.integers(1, 300)).map(sorted))
def test_odd_bounds_are_held_to_their_ends(bound: list[int]) -> None:
    least, usual, largest = bound
    graph = Graph(
        "x.onnx", (Tensor("x", "float32", ("axis", 3)),), (), {"axis": (least, usual, largest)}
    )
    made = make_profiles(graph, "tensorrt")
    for size in range(least, largest + 1):
        assert first(made, {"x": (size, 3)})
    assert len({profile.name for profile in made}) == len(made)
    assert all(
        shape[0] <= shape[1] <= shape[2] for profile in made for shape in profile.shapes.values()
    )


def test_a_static_graph_has_one_profile() -> None:
    graph = Graph("x.onnx", (Tensor("pixels", "float32", (1, 3, 8, 8)),), (), {})
    (profile,) = make_profiles(graph, "tensorrt")
    assert (profile.name, profile.shapes) == ("static", {"pixels": ((1, 3, 8, 8),) * 3})
