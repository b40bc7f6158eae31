"""What every backend does alike: the contract of ``Session``.

TensorRT runs on the emulated device (see ``emulated``), in the API of three versions.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from emulated import build_plans, emulated
from emulated.graphs import ROWS, WIDTH, small_bundle
from golden import TAGS, Exporter

from vpt_edge.runtime.errors import SessionError
from vpt_edge.runtime.kv_cache import KVCache
from vpt_edge.runtime.sessions import open_session

if TYPE_CHECKING:
    from vpt_edge.runtime import Bundle
    from vpt_edge.runtime.sessions import Session

Opener = Callable[..., "Session"]
Array = np.ndarray[Any, Any]

BACKENDS: dict[str, dict[str, Any]] = {
    "onnxruntime-cpu": {},
    "tensorrt-10.3": {"version": "10.3.0"},
    "tensorrt-10.16": {"version": "10.16.2"},
    "tensorrt-11.4": {"version": "11.4.1"},
    "tensorrt-10.3-integrated": {"version": "10.3.0", "integrated": True},
    "tensorrt-rtx": {"version": "1.7.1", "library": "tensorrt-rtx"},
}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return small_bundle(tmp_path_factory.mktemp("small") / "bundle")


@pytest.fixture(params=BACKENDS)
def opener(request: pytest.FixtureRequest, small: Bundle) -> Iterator[Opener]:
    """Opens sessions of one backend, and closes them."""
    options, sessions = BACKENDS[request.param], list["Session"]()
    device = options.get("library", "tensorrt") if options else "cpu"
    planned = set[str]()

    def open_(name: str, bundle: Bundle = small) -> Session:
        if options and str(bundle.path) not in planned:
            build_plans(bundle, device)
            planned.add(str(bundle.path))
        sessions.append(open_session(bundle, name, device))
        return sessions[-1]

    with emulated(**options) if options else contextlib.nullcontext():
        yield open_
        for session in sessions:
            session.close()


@pytest.fixture
def double(opener: Opener) -> Session:
    return opener("double")


def rows(count: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=(1, count, WIDTH)).astype(np.float32)


def outputs_of_double(count: int) -> dict[str, Array]:
    return {
        "twice": np.full((1, count, WIDTH), np.nan, np.float32),
        "total": np.full((1, WIDTH), np.nan, np.float32),
    }


def check_double(session: Session, x: Array) -> None:
    outputs = outputs_of_double(x.shape[1])
    session.run({"x": x}, outputs)
    np.testing.assert_array_equal(outputs["twice"], 2 * x)
    np.testing.assert_allclose(outputs["total"], x.sum(1), atol=1e-4)


def test_outputs_land_in_the_given_arrays(double: Session) -> None:
    x, outputs = rows(5), outputs_of_double(5)
    places = {name: array.ctypes.data for name, array in outputs.items()}
    before = x.copy()
    double.run({"x": x}, outputs)
    np.testing.assert_array_equal(outputs["twice"], 2 * x)
    np.testing.assert_allclose(outputs["total"], x.sum(1), atol=1e-5)
    assert {name: array.ctypes.data for name, array in outputs.items()} == places
    np.testing.assert_array_equal(x, before)


def test_sizes_change_from_run_to_run(double: Session) -> None:
    for seed, count in enumerate((3, 5, 3, 3, 3, 5, 5, 64, 1, 1, 1, 64, 2)):
        check_double(double, rows(count, seed))


def test_a_bound_array_is_read_again(double: Session) -> None:
    """Its place in memory is what counts: other numbers in it are seen, run after run."""
    x, outputs = rows(4), outputs_of_double(4)
    for seed in range(5):
        x[:] = rows(4, seed)
        double.run({"x": x}, outputs)
        np.testing.assert_array_equal(outputs["twice"], 2 * x)


def test_another_array_may_take_the_place_of_a_bound_one(double: Session) -> None:
    first, second = outputs_of_double(4), outputs_of_double(4)
    for seed, outputs in enumerate((first, first, second, second, first)):
        x = rows(4, seed)
        double.run({"x": x}, outputs)
        np.testing.assert_array_equal(outputs["twice"], 2 * x)
    np.testing.assert_array_equal(second["twice"], 2 * rows(4, 3))


@pytest.mark.parametrize("name", ["twice", "total"])
def test_an_output_may_be_left_out(name: str, double: Session) -> None:
    for seed in range(3):
        x, outputs = rows(4, seed), outputs_of_double(4)
        double.run({"x": x}, {name: outputs[name]})
        expected = {"twice": 2 * x, "total": x.sum(1)}
        np.testing.assert_allclose(outputs[name], expected[name], atol=1e-5)


def test_other_outputs_may_be_asked_for(double: Session) -> None:
    for seed, name in enumerate(["twice"] * 3 + ["total"] * 3 + ["twice", "total"] * 2):
        x, outputs = rows(4, seed), outputs_of_double(4)
        double.run({"x": x}, {name: outputs[name]})
        np.testing.assert_allclose(
            outputs[name], {"twice": 2 * x, "total": x.sum(1)}[name], atol=1e-5
        )


def test_an_output_that_is_left_out_is_not_written(double: Session) -> None:
    outputs = outputs_of_double(4)
    double.run({"x": rows(4)}, outputs)
    outputs["twice"][:] = -1
    double.run({"x": rows(4, 1)}, {"total": outputs["total"]})
    assert (outputs["twice"] == -1).all()
    np.testing.assert_allclose(outputs["total"], rows(4, 1).sum(1), atol=1e-5)


X, Y = rows(4), outputs_of_double(4)
WRONG: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "an input that there is not": ({"x": X, "y": X}, Y),
    "no input": ({}, Y),
    "an input of another dtype": ({"x": X.astype(np.float64)}, Y),
    "an input of another rank": ({"x": X[0]}, Y),
    "an input of another width": ({"x": X[:, :, :3].copy()}, Y),
    "an output that there is not": ({"x": X}, {**Y, "z": X}),
    "an output of another size": ({"x": X}, {**Y, "total": np.empty((1, 3), np.float32)}),
    "an output of another dtype": ({"x": X}, {**Y, "total": np.empty((1, WIDTH), np.float16)}),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_arrays_that_do_not_fit_are_refused(wrong: str, double: Session) -> None:
    """The session can be used afterwards, and before."""
    inputs, outputs = WRONG[wrong]
    with pytest.raises(SessionError, match="double"):
        double.run(inputs, outputs)
    check_double(double, rows(4))
    check_double(double, rows(4, 1))
    with pytest.raises(SessionError, match="double"):
        double.run(inputs, outputs)
    check_double(double, rows(4, 2))


def test_an_output_of_another_length_is_refused(double: Session) -> None:
    """It would end in the middle, or be written behind its end."""
    for count in (3, 5):
        with pytest.raises(SessionError, match="double"):
            double.run({"x": rows(4)}, outputs_of_double(count))
    for _ in range(3):
        check_double(double, rows(4))
        with pytest.raises(SessionError, match="double"):
            double.run({"x": rows(6)}, outputs_of_double(5))
        check_double(double, rows(4))


def test_a_second_close_does_nothing(double: Session) -> None:
    check_double(double, rows(4))
    double.close()
    double.close()
    with pytest.raises(SessionError, match="double is closed"):
        check_double(double, rows(4))


def test_a_session_that_never_ran_closes(opener: Opener) -> None:
    opener("double").close()


def test_memory_of_the_session(opener: Opener) -> None:
    session = opener("decoder")
    memory: Any = session.zeros((3, 8, 4), np.float16)
    assert (memory.shape, memory.dtype) == ((3, 8, 4), np.float16)
    assert np.asarray(memory).shape == (3, 8, 4)
    assert not np.asarray(memory).any()
    assert memory[1:2].shape == (1, 8, 4)
    assert memory[1:, 2:5].shape == (2, 3, 4)
    assert memory[0:1, :3].shape == (1, 3, 4)
    other: Any = session.zeros((3, 3, 4), np.float16)
    memory[:, 2:5] = other
    assert not np.asarray(memory[:, 2:5]).any()
    with pytest.raises(ValueError):
        memory[:, 2:6] = other


def test_no_memory_after_the_close(opener: Opener) -> None:
    session = opener("decoder")
    session.close()
    with pytest.raises(SessionError, match="decoder is closed"):
        session.zeros((1, 2), np.float32)


# The key-value cache


class Reader:
    """The small decoder with a cache, beside a list of what it has read."""

    def __init__(self, bundle: Bundle, session: Session) -> None:
        self.session, self.cache = session, KVCache(bundle.manifest, session.zeros)
        self.read = np.zeros((0, WIDTH), np.float32)
        self.hidden, self.token = np.empty((1, WIDTH), np.float32), np.empty(1, np.int64)

    def run(self, new: Array) -> None:
        inputs, outputs = self.cache.bindings(len(new))
        wanted = {"hidden": self.hidden, "token": self.token}
        self.session.run({"embeds": new[None], **inputs}, {**wanted, **outputs})
        self.cache.append(len(new))
        self.read = np.concatenate((self.read, new))
        np.testing.assert_allclose(self.hidden[0], 3 * self.read.sum(0), rtol=1e-4, atol=1e-3)
        assert self.token[0] == self.hidden[0].argmax()

    def rewind(self, length: int) -> None:
        self.cache.rewind(length)
        self.read = self.read[:length]

    def check(self) -> None:
        np.testing.assert_array_equal(self.cache.read(0, "key"), self.read)
        np.testing.assert_array_equal(self.cache.read(0, "value"), 2 * self.read)


@pytest.fixture
def reader(opener: Opener, small: Bundle) -> Reader:
    return Reader(small, opener("decoder"))


def whole(count: int, seed: int = 0) -> Array:
    """Numbers whose sums are exact."""
    return np.random.default_rng(seed).integers(-8, 8, (count, WIDTH)).astype(np.float32)


def test_the_cache_holds_what_was_read(reader: Reader) -> None:
    reader.run(whole(5))
    for seed in range(6):
        reader.run(whole(1, seed))
    reader.check()
    reader.run(whole(64))
    reader.check()


def test_the_cache_grows_over_its_blocks(reader: Reader) -> None:
    for seed in range(8):
        reader.run(whole(62, seed))
        for step in range(3):
            reader.run(whole(1, step))
    assert reader.cache.length == 520
    reader.check()


def test_a_cache_that_is_rewound_forgets(reader: Reader) -> None:
    reader.run(whole(60))
    for seed in range(4):
        reader.run(whole(1, seed))
    reader.rewind(50)
    reader.check()
    for seed in range(4):
        reader.run(whole(1, 10 + seed))
    reader.check()
    reader.rewind(0)
    for seed in range(5):
        reader.run(whole(1, 20 + seed))
    reader.check()


def test_a_cache_that_is_rewound_over_a_block_reads_the_smaller_one(reader: Reader) -> None:
    """On a GPU each size of the past is captured once; going back must find the right one, with the
    right state.
    """
    for turn in range(3):
        for seed in range(4):
            reader.run(whole(63, 10 * turn + seed))
        for seed in range(8):
            reader.run(whole(1, 100 * turn + seed))
        assert reader.cache.length == 260
        reader.check()
        reader.rewind(3 if turn else 0)
        for seed in range(3):
            reader.run(whole(1, seed))
        reader.rewind(0)


def test_two_caches_of_one_session(opener: Opener, small: Bundle) -> None:
    """What is captured for one must not be run on the other."""
    session = opener("decoder")
    readers = [Reader(small, session) for _ in range(2)]
    for turn in range(3):
        for which, reader in enumerate(readers):
            for seed in range(3):
                reader.run(whole(1, 10 * turn + seed + 100 * which))
    for reader in readers:
        reader.check()


def test_a_full_cache(reader: Reader) -> None:
    for seed in range(ROWS // 64):
        reader.run(whole(64, seed))
    reader.check()
    reader.rewind(ROWS - 1)
    reader.run(whole(1, 99))
    reader.check()


def test_a_failed_run_leaves_the_cache_alone(reader: Reader) -> None:
    reader.run(whole(5))
    for _ in range(3):
        inputs, outputs = reader.cache.bindings(1)
        with pytest.raises(SessionError, match="decoder"):
            reader.session.run({"embeds": np.empty((1, 1, 3), np.float32), **inputs}, outputs)
        reader.check()
        reader.run(whole(1))
    reader.check()


# Threads


def test_threads_on_one_session_take_turns(double: Session) -> None:
    def work(seed: int) -> None:
        for step in range(20):
            check_double(double, rows(1 + (seed + step) % 7, 100 * seed + step))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))


def test_sessions_in_threads_run_beside_each_other(opener: Opener, small: Bundle) -> None:
    double, reader, barrier = (
        opener("double"),
        Reader(small, opener("decoder")),
        threading.Barrier(2, timeout=60),
    )

    def see() -> None:
        for step in range(15):
            barrier.wait()
            check_double(double, rows(1 + step % 5, step))

    def read() -> None:
        for step in range(15):
            barrier.wait()
            reader.run(whole(1 + step % 2, step))

    with ThreadPoolExecutor(2) as pool:
        for task in [pool.submit(see), pool.submit(read)]:
            task.result()
    reader.check()


def test_a_close_waits_for_a_run(opener: Opener) -> None:
    """Whoever runs meanwhile gets results or an error, and never somebody else's memory."""
    for _ in range(5):
        session, begun = opener("double"), threading.Event()

        def work(session: Session = session, begun: threading.Event = begun) -> None:
            for seed in range(100_000):
                check_double(session, rows(4, seed % 3))
                begun.set()

        with ThreadPoolExecutor(1) as pool:
            task = pool.submit(work)
            begun.wait(60)
            session.close()
            with pytest.raises(SessionError, match="double is closed"):
                task.result()


# A model


def test_the_decoder_of_a_model(opener: Opener, exported: Exporter) -> None:
    """Prefill, steps and a rewind: the same numbers as ONNX Runtime without a cache that was
    rewound.
    """
    bundle = exported(TAGS, "fp32", "tensorrt")
    text, session = bundle.manifest.text, opener("decoder", bundle)
    random = np.random.default_rng(3)
    embeds = random.normal(size=(1, 40, text.hidden_size)).astype(np.float32)
    angles = random.normal(size=(40, text.head_dim // 2)).astype(np.float32)
    cos, sin = np.cos(angles), np.sin(angles)

    def read(session: Session, cache: KVCache, start: int, stop: int) -> dict[str, Array]:
        inputs, present = cache.bindings(stop - start)
        got: dict[str, Array] = {
            "logits": np.empty((1, text.vocab_size), np.float32),
            "hidden": np.empty((1, text.hidden_size), np.float32),
            "token": np.empty(1, np.int64),
        }
        given = {
            "embeds": embeds[:, start:stop],
            **cache.rotations(cos[start:stop], sin[start:stop]),
        }
        session.run({**given, **inputs}, {**got, **present})
        cache.append(stop - start)
        assert got["token"][0] == got["logits"].argmax()
        return got

    cache = KVCache(bundle.manifest, session.zeros)
    read(session, cache, 0, 30)
    for step in range(30, 40):
        last = read(session, cache, step, step + 1)
    cache.rewind(20)
    for step in range(20, 40):
        again = read(session, cache, step, step + 1)
    reference = open_session(bundle, "decoder", "cpu")
    expected = read(reference, KVCache(bundle.manifest), 0, 40)
    reference.close()
    for got in (last, again):
        for name in ("logits", "hidden"):
            scale = np.abs(expected[name]).max()
            np.testing.assert_allclose(got[name], expected[name], rtol=0, atol=2e-5 * scale)
