from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import pytest
from scripted import PICTURE

from vpt_edge.runtime import Bundle, Pipeline
from vpt_edge.runtime.errors import ImageError
from vpt_edge.runtime.testing import Script, tiny_bundle
from vpt_edge.server.picture_cache import PictureCache, encoded_bytes


class Pictures:
    """Stands for pictures: each file is its own picture, and takes as many bytes as it has."""

    def __init__(self) -> None:
        self.decoded = list[bytes]()

    def encode(self, data: bytes) -> Any:
        self.decoded.append(data)
        if data == b"bad":
            raise ImageError("it is damaged")
        return [data]

    def measure(self, picture: Any) -> int:
        return len(picture[0])


def new_cache(limit: int) -> tuple[PictureCache, Pictures]:
    pictures = Pictures()
    return PictureCache(limit, pictures.encode, pictures.measure), pictures


def test_the_same_bytes_are_the_same_picture() -> None:
    cache, pictures = new_cache(100)
    first = cache.get(b"a")
    assert cache.get(b"a") is first
    assert cache.get(b"b") is not first
    assert pictures.decoded == [b"a", b"b"]
    assert (cache.hits, cache.misses, cache.evictions, cache.size, len(cache)) == (1, 2, 0, 2, 2)


def test_the_one_that_was_asked_about_longest_ago_goes_first() -> None:
    cache, pictures = new_cache(9)
    for data in (b"aaaa", b"bbbb", b"aaaa", b"cccc"):
        cache.get(data)
    assert (len(cache), cache.size, cache.evictions) == (2, 8, 1)
    cache.get(b"aaaa")
    assert pictures.decoded == [b"aaaa", b"bbbb", b"cccc"]
    cache.get(b"d" * 9)
    assert (len(cache), cache.size, cache.evictions) == (1, 9, 3)


def test_one_that_is_too_large_is_not_kept_and_drives_nobody_out() -> None:
    cache, _ = new_cache(9)
    cache.get(b"a")
    assert cache.get(b"b" * 10) is not cache.get(b"b" * 10)
    assert (len(cache), cache.size, cache.evictions) == (1, 1, 0)


def test_nothing_is_kept_where_there_is_no_room() -> None:
    cache, _ = new_cache(0)
    cache.get(b"a")
    assert len(cache) == 0


def test_what_is_not_a_picture_is_not_kept() -> None:
    cache, pictures = new_cache(100)
    for _ in range(2):
        with pytest.raises(ImageError):
            cache.get(b"bad")
    assert (len(cache), cache.size, len(pictures.decoded)) == (0, 0, 2)
    cache.get(b"good")


def test_two_who_ask_at_once_about_the_same_bytes_get_one_picture() -> None:
    begun = threading.Event()
    go_on = threading.Event()
    decoded = list[bytes]()

    def encode(data: bytes) -> Any:
        decoded.append(data)
        begun.set()
        assert go_on.wait(10)
        return [data]

    cache = PictureCache(100, encode, lambda picture: 1)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(cache.get, b"a")
        assert begun.wait(10)
        second = pool.submit(cache.get, b"a")
        assert (len(cache), cache.size) == (0, 0)  # which waits for nobody
        go_on.set()
        assert first.result() is second.result()
    assert decoded == [b"a"]


def test_all_of_them_are_let_go() -> None:
    cache, pictures = new_cache(100)
    cache.get(b"a")
    cache.clear()
    assert (len(cache), cache.size) == (0, 0)
    cache.get(b"a")
    assert len(pictures.decoded) == 2


@pytest.fixture(params=["clip", "detection"])
def tiny(request: pytest.FixtureRequest, tmp_path: Path) -> Bundle:
    return tiny_bundle(tmp_path / "bundle", request.param)


def test_a_picture_takes_its_pixels_and_its_features(tiny: Bundle) -> None:
    kind = tiny.manifest.perception["kind"]
    reencode = f"<|{kind}_action_start|><|{kind}_action|><|{kind}_action_end|>"
    with Pipeline(tiny, opener=Script(reencode, "A dog.")) as pipeline:
        picture = pipeline.encode(PICTURE)
        before = encoded_bytes(picture, tiny.manifest)
        picture.ask("What?", perception="free")
        after = encoded_bytes(picture, tiny.manifest)
        (features,) = cast(Any, picture.features)
        (encoded,) = features._encoded.values()
        held = encoded.features.nbytes
        if features._reencoded is not None:
            held += features._reencoded.nbytes
    assert before == after == held + 4 * 64 * 96
    assert (kind == "clip") == (features._reencoded is None)


MEASURE = """
from pathlib import Path
from PIL import Image
from vpt_edge.server.picture_cache import image_bytes

def resident():
    return 4096 * int(Path("/proc/self/statm").read_text().split()[1])

for mode, colour in {"RGB": (1, 2, 3), "L": 1, "I;16": 1, "LA": (1, 2), "I": 1, "1": 1}.items():
    before = resident()
    pictures = [Image.new(mode, (3000, 3000), colour) for _ in range(3)]
    grown = resident() - before
    expected = sum(map(image_bytes, pictures))
    assert abs(grown - expected) < expected / 10, (mode, grown, expected)
    del pictures
"""


def test_the_bytes_of_a_picture_are_those_that_it_takes() -> None:
    """In a process of its own, where no memory is left over from before."""
    memory = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}  # what is let go is gone
    subprocess.run([sys.executable, "-c", MEASURE], check=True, env=memory)
