"""The memory that a server gives back."""

from __future__ import annotations

import contextlib
import ctypes

M_MMAP_THRESHOLD = -3  # of glibc's malloc.h
LARGE = 256 << 10  # bytes: glibc begins with half of it


def return_large_blocks() -> None:
    """Let each block of 256 KiB and more, such as a body or a picture, go back to the system when
    it is freed.

    Left alone glibc takes blocks as large as one that was freed, up to 32 MiB, from its heap, where
    what is free stays between what is not: under load with pictures of 512 to 2,048 pixels a side a
    server of a small model held 380 MiB and grew still, and holds 100 MiB so. For the whole
    process; other C libraries do as they do.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE)
