"""The memory that a server gives back."""

from __future__ import annotations

import contextlib
import ctypes

M_MMAP_THRESHOLD = -3  # of glibc's malloc.h
LARGE = 4 << 20  # bytes


def return_large_blocks() -> None:
    """Let each block of 4 MiB and more, such as a body, go back to the system when it is freed.

    Left alone glibc takes blocks as large as one that was freed, up to 32 MiB, from its heap, where
    what is free stays between what is not: a server of large pictures took twice what it used, for
    ever. For the whole process; other C libraries do as they do.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE)
