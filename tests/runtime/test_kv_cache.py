"""The cache's buffers against a plain list of tokens."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vpt_edge.runtime.errors import PromptError, SessionError
from vpt_edge.runtime.interface import BLOCK, whole_blocks
from vpt_edge.runtime.kv_cache import KVCache
from vpt_edge.runtime.manifest import CacheConfig, Tensor
from vpt_edge.runtime.testing import tiny_bundle

if TYPE_CHECKING:
    from vpt_edge.runtime.manifest import Manifest

LAYOUTS = ["shared", "appended"]
LAYERS = 2
HEADS = 3
HEAD_DIM = 2
CAPACITY = 20
NAMES = {f"{layer}.{part}" for layer in range(LAYERS) for part in ("key", "value")}

Arrays = dict[str, np.ndarray[Any, Any]]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    tiny = tiny_bundle(tmp_path_factory.mktemp("tiny")).manifest
    text = replace(tiny.text, layers=LAYERS, kv_heads=HEADS, head_dim=HEAD_DIM)
    return replace(tiny, text=text)


def cache_of(manifest: Manifest, layout: str, dtype: str = "float32") -> KVCache:
    return KVCache(replace(manifest, cache=CacheConfig(layout, dtype, CAPACITY)))


def row(name: str, token: int) -> np.ndarray[Any, Any]:
    """The numbers that stand for ``token`` in one buffer: (kv_heads * head_dim,)."""
    seed = sorted(NAMES).index(name)
    return np.arange(HEADS * HEAD_DIM, dtype=np.float32) + 10 * token + 10000 * seed


def write(cache: KVCache, layout: str, tokens: list[int]) -> None:
    """What a decoder graph does: the rows of ``tokens`` go behind the past."""
    inputs, outputs = cache.bindings(len(tokens))
    for name in NAMES:
        new = np.stack([row(name, token) for token in tokens])
        present = outputs[f"present.{name}"]
        if layout == "appended":
            present[0] = new
        else:
            (last,) = inputs["seqlens_k"]
            total = int(inputs["total_sequence_length"])
            assert total == last + 1
            heads = new.reshape(len(tokens), HEADS, HEAD_DIM).transpose(1, 0, 2)
            present[0, :, total - len(tokens) : total] = heads
    cache.append(len(tokens))


def check(cache: KVCache, tokens: list[int]) -> None:
    assert cache.length == len(tokens)
    for name in NAMES:
        layer, part = name.split(".")
        expected = np.array([row(name, token) for token in tokens]).reshape(
            len(tokens), HEADS * HEAD_DIM
        )
        np.testing.assert_array_equal(cache.read(int(layer), part), expected)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_new_cache_is_empty(layout: str, dtype: str, manifest: Manifest) -> None:
    cache = cache_of(manifest, layout, dtype)
    assert (cache.length, cache.capacity) == (0, CAPACITY)
    assert cache.read(0, "key").shape == (0, HEADS * HEAD_DIM)
    inputs, outputs = cache.bindings(1)
    assert {array.dtype for name, array in (inputs | outputs).items() if "key" in name} == {
        np.dtype(dtype)
    }


def test_shared_past_and_present_are_one_buffer(manifest: Manifest) -> None:
    cache = cache_of(manifest, "shared")
    cache.append(4)
    inputs, outputs = cache.bindings(3)
    assert set(inputs) == {
        *(f"past.{name}" for name in NAMES),
        "seqlens_k",
        "total_sequence_length",
    }
    assert set(outputs) == {f"present.{name}" for name in NAMES}
    for name in NAMES:
        past = inputs[f"past.{name}"]
        present = outputs[f"present.{name}"]
        assert (past.ctypes.data, past.shape) == (present.ctypes.data, present.shape)
        assert inputs[f"past.{name}"].shape == (1, HEADS, CAPACITY, HEAD_DIM)
    lengths = inputs["seqlens_k"], inputs["total_sequence_length"]
    assert [(array.dtype, array.shape, array.tolist()) for array in lengths] == [
        (np.int32, (1,), [6]),  # the index of the last token, not their number
        (np.int32, (), 7),
    ]


def test_shared_buffers_stay_where_they_are(manifest: Manifest) -> None:
    """A bound array may stay bound: the same object comes each time."""
    cache = cache_of(manifest, "shared")
    first = cache.bindings(2)[0]["past.0.key"]
    cache.append(2)
    assert cache.bindings(1)[0]["past.0.key"] is first


def test_an_appended_past_is_bound_in_whole_blocks(manifest: Manifest) -> None:
    """So few shapes, and new rows that always go to the same place, are what a captured graph
    needs.
    """
    large = replace(manifest, cache=CacheConfig("appended", "float32", 2 * BLOCK + 1))
    cache = KVCache(large)
    places = set()
    for length, rows in (
        (0, BLOCK),
        (BLOCK, BLOCK),
        (BLOCK + 1, 2 * BLOCK),
        (2 * BLOCK, 2 * BLOCK),
    ):
        cache.length = length
        inputs, outputs = cache.bindings(1)
        assert set(inputs) == {*(f"past.{name}" for name in NAMES), "filled"}
        assert set(outputs) == {f"present.{name}" for name in NAMES}
        filled = inputs["filled"]
        assert (filled.dtype, filled.shape, int(filled)) == (np.int32, (), length)
        for name in NAMES:
            past = inputs[f"past.{name}"]
            present = outputs[f"present.{name}"]
            assert (past.shape, present.shape) == (
                (1, rows, HEADS * HEAD_DIM),
                (1, 1, HEADS * HEAD_DIM),
            )
            assert past.flags.c_contiguous
            assert present.flags.c_contiguous
        places.add(outputs["present.1.value"].ctypes.data)
    assert len(places) == 1


def test_empty_rows_of_the_past_are_finite(manifest: Manifest) -> None:
    """A masked row still takes part in the product with the values: zero times NaN is NaN."""
    inputs, _ = cache_of(manifest, "appended").bindings(1)
    assert all(np.isfinite(array).all() for array in inputs.values())


def test_whole_blocks() -> None:
    assert [whole_blocks(tokens) for tokens in (0, 1, 256, 257, 4096)] == [256, 256, 256, 512, 4096]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layers_and_parts_do_not_overlap(layout: str, manifest: Manifest) -> None:
    cache = cache_of(manifest, layout)
    outputs = list(cache.bindings(CAPACITY)[1].values())
    for index, array in enumerate(outputs):
        assert not any(np.shares_memory(array, other) for other in outputs[index + 1 :])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_it_fills_to_the_last_token_and_no_further(layout: str, manifest: Manifest) -> None:
    cache = cache_of(manifest, layout)
    write(cache, layout, list(range(CAPACITY)))
    check(cache, list(range(CAPACITY)))
    with pytest.raises(PromptError, match="21 tokens do not fit into the cache of 20"):
        cache.bindings(1)
    cache.rewind(CAPACITY - 1)
    write(cache, layout, [77])
    check(cache, [*range(CAPACITY - 1), 77])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_request_for_room_changes_nothing(layout: str, manifest: Manifest) -> None:
    cache = cache_of(manifest, layout)
    write(cache, layout, [1, 2])
    cache.bindings(5)
    check(cache, [1, 2])


@pytest.mark.parametrize("length", [-1, 3, 100])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_it_rewinds_only_to_what_it_holds(layout: str, length: int, manifest: Manifest) -> None:
    cache = cache_of(manifest, layout)
    write(cache, layout, [1, 2])
    with pytest.raises(ValueError, match=f"of 2 tokens to {length}"):
        cache.rewind(length)
    check(cache, [1, 2])


def test_rotations_are_given_as_they_are(manifest: Manifest) -> None:
    cos, sin = np.ones((2, 2, 1), np.float32)
    given = cache_of(manifest, "shared").rotations(cos, sin)
    assert given["cos"] is cos
    assert given["sin"] is sin


def test_an_attention_that_rotates_finds_the_rotation_of_each_slot(manifest: Manifest) -> None:
    """In the same arrays every time; what was rewound is written again."""
    table = tuple(Tensor(name, "float32", ("capacity", HEAD_DIM // 2)) for name in ("cos", "sin"))
    decoder = replace(manifest.graphs["decoder"], inputs=table)
    cache = cache_of(replace(manifest, graphs={**manifest.graphs, "decoder": decoder}), "shared")
    arrays = set[int]()
    expected = np.zeros((2, CAPACITY, 1), np.float32)
    for start, count in ((0, 5), (5, 1), (3, 4), (7, CAPACITY - 7)):
        cache.rewind(start)
        new = np.random.default_rng(start).random((2, count, 1)).astype(np.float32)
        expected[:, start : start + count] = new
        given = cache.rotations(*new)
        np.testing.assert_array_equal([given["cos"], given["sin"]], expected)
        arrays |= {id(given["cos"]), id(given["sin"])}
        cache.append(count)
    assert len(arrays) == 2


runs = st.lists(st.integers(0, 900), min_size=1, max_size=8)
rewinds = st.integers(0, 8)


@pytest.mark.parametrize("layout", LAYOUTS)
@given(steps=st.lists(runs | rewinds, max_size=12))
def test_it_holds_what_a_list_would(
    layout: str, steps: list[list[int] | int], manifest: Manifest
) -> None:
    cache = cache_of(manifest, layout)
    tokens = list[int]()
    for step in steps:
        if isinstance(step, int):
            tokens = tokens[: max(len(tokens) - step, 0)]
            cache.rewind(len(tokens))
        elif len(tokens) + len(step) > CAPACITY:
            with pytest.raises(PromptError):
                cache.bindings(len(step))
        else:
            write(cache, layout, step)
            tokens += step
        check(cache, tokens)


@pytest.mark.parametrize("error", [MemoryError, ValueError])
@pytest.mark.parametrize("layout", ["shared", "appended"])
def test_a_cache_that_does_not_fit_is_named(
    layout: str, error: type[Exception], manifest: Manifest
) -> None:
    def fail(*arguments: Any) -> Any:
        raise error("array is too big")

    cache = replace(manifest.cache, layout=layout)
    with pytest.raises(SessionError, match=r"no memory for a cache of \d+ tokens.*--cache-tokens"):
        KVCache(replace(manifest, cache=cache), fail)
