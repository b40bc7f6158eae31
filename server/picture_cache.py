"""Pictures that were asked about, for the next question."""

from __future__ import annotations

import hashlib
import math
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL import Image

    from vpt_edge.runtime.encoded_picture import EncodedPicture
    from vpt_edge.runtime.manifest import Manifest

FLOAT = 4  # bytes
PIXEL = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2}  # bytes, as Pillow keeps them
WIDE_PIXEL = 4  # of all other modes, RGB too


@dataclass(frozen=True)
class Entry:
    picture: EncodedPicture
    size: int


class PictureCache:
    """Encoded pictures by the hash of their files, in at most ``limit`` bytes of memory.

    ``encode`` decodes a file; ``measure`` tells the bytes that a picture takes. The one that was
    asked about longest ago goes first, and one that is larger than all the memory is not kept. A
    picture that is in use lives on with its request. ``hits``, ``misses``, ``evictions`` and
    ``size``, in bytes, may be read at any time.

    To be used from any thread: they wait for each other, so that the same file is decoded once, and
    one file at a time.
    """

    def __init__(
        self,
        limit: int,
        encode: Callable[[bytes], EncodedPicture],
        measure: Callable[[EncodedPicture], int],
    ) -> None:
        self._limit = limit
        self._encode = encode
        self._measure = measure
        self._entries: OrderedDict[bytes, Entry] = OrderedDict()
        self._lock = threading.Lock()
        self.hits = 0
        self.misses = 0
        self.evictions = 0
        self.size = 0

    def get(self, data: bytes) -> EncodedPicture:
        """The picture in the file ``data``. Raises ImageError for what is not one."""
        key = hashlib.sha256(data).digest()
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None:
                self.hits += 1
                self._entries.move_to_end(key)
                return entry.picture
            self.misses += 1
            picture = self._encode(data)
            self._keep(key, Entry(picture, self._measure(picture)))
            return picture

    def _keep(self, key: bytes, entry: Entry) -> None:
        if entry.size > self._limit:
            return
        while self.size + entry.size > self._limit:
            _, oldest = self._entries.popitem(last=False)
            self.size -= oldest.size
            self.evictions += 1
        self._entries[key] = entry
        self.size += entry.size

    def clear(self) -> None:
        """Let all of them go."""
        with self._lock:
            self._entries.clear()
            self.size = 0

    def __len__(self) -> int:
        return len(self._entries)


def encoded_bytes(picture: EncodedPicture, manifest: Manifest) -> int:
    """What ``picture`` takes in memory once it was asked about: its pixels, its visual tokens, and
    the features of the second encoder where the model has one.
    """
    tokens = sum(each.outline().tokens for each in picture.features) * manifest.text.hidden_size
    features = 0
    graph = manifest.graphs.get("reencoder_features")
    if graph is not None:
        features = math.prod(int(size) for size in graph.outputs[0].shape)
    return image_bytes(picture.picture) + FLOAT * (tokens + features)


def image_bytes(image: Image.Image) -> int:
    """What the pixels of ``image`` take in memory."""
    return image.width * image.height * PIXEL.get(image.mode, WIDE_PIXEL)
