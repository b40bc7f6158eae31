"""Memory of the emulated GPU: host memory behind addresses that only the emulated driver knows.

What is emulated: device memory and page-locked host memory in blocks, garbage in what is new, an
error for every access outside of a live block. What is not: caches, page tables, and any notion of
speed. An address never comes back, so that a use of freed memory is always found.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass
from typing import Any

import numpy as np

ALIGNMENT = 256
FIRST_ADDRESS = (
    1 << 41
)  # far from what the host's memory uses, so that the two cannot be taken for each other
GAP = 1 << 16  # between blocks: an access behind the end of one never falls into the next
GARBAGE = 0xFF  # NaN in every float, -1 in every integer

INVALID_VALUE, OUT_OF_MEMORY, INVALID_CONTEXT, INVALID_HANDLE = 1, 2, 201, 400
ILLEGAL_ADDRESS, CAPTURE_UNSUPPORTED, CAPTURE_INVALIDATED, UNKNOWN = 700, 900, 901, 999

Bytes = np.ndarray[Any, np.dtype[np.uint8]]
Span = tuple[int, int]  # address on the device, bytes


class Refusal(Exception):  # noqa: N818
    """A call ends with ``code``, as it may on a machine in order (no memory left)."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class Misuse(Refusal):
    """A call ends with ``code`` because its caller is wrong: the emulation records it, once."""

    recorded = False


@dataclass
class Block:
    """One allocation; ``host`` is where page-locked memory lies for the host, else 0."""

    address: int
    size: int
    memory: Bytes | None  # None: freed device memory
    host: int
    live: bool = True


class Memory:
    """All blocks that were ever allocated."""

    def __init__(self, total: int) -> None:
        self.total, self._next = total, FIRST_ADDRESS
        self._blocks: dict[int, Block] = {}
        self._addresses: list[int] = []  # ascending
        self._pinned: list[Block] = []

    @property
    def live(self) -> list[Block]:
        return [block for block in list(self._blocks.values()) if block.live]

    @property
    def free_bytes(self) -> int:
        return self.total - sum(block.size for block in self.live)

    def allocate(self, size: int, pinned: bool = False) -> Block:
        if size <= 0:
            raise Misuse(INVALID_VALUE, f"an allocation of {size} bytes")
        if size > self.free_bytes:
            raise Refusal(OUT_OF_MEMORY, f"{size} bytes of {self.free_bytes}")
        room = np.empty(size + ALIGNMENT, np.uint8)
        memory = room[-room.ctypes.data % ALIGNMENT :][:size]
        memory.fill(GARBAGE)
        block = Block(self._next, size, memory, memory.ctypes.data if pinned else 0)
        self._next += -(-size // GAP) * GAP + GAP
        self._blocks[block.address] = block
        self._addresses.append(block.address)
        if pinned:
            self._pinned.append(block)
        return block

    def free(self, address: int, pinned: bool) -> None:
        """Free the block at ``address``: that of the host for page-locked memory."""
        block = self.pinned_block(address, 0) if pinned else self._blocks.get(address)
        begin = block and (block.host if pinned else block.address)
        if block is None or not block.live or begin != address or bool(block.host) != pinned:
            raise Misuse(INVALID_VALUE, f"{address:#x} is freed, but is no live allocation")
        block.live = False
        if block.memory is not None and block.host:
            block.memory.fill(GARBAGE)  # and kept: the host may still hold arrays on it
        else:
            block.memory = None

    def pinned_block(self, host: int, size: int) -> Block | None:
        """The page-locked block, live or freed, that holds ``size`` bytes at the host's address."""
        blocks = (
            block
            for block in self._pinned
            if block.host <= host and host + size <= block.host + block.size
        )
        return next(blocks, None)

    def bytes_at(self, address: int, size: int) -> Bytes:
        """A view of ``size`` bytes at ``address``.

        Raises Misuse unless they lie in one live block.
        """
        if size == 0:
            return np.empty(0, np.uint8)
        index = bisect.bisect_right(self._addresses, address) - 1
        block = self._blocks[self._addresses[index]] if index >= 0 else None
        if block is None or address >= block.address + block.size:
            raise Misuse(ILLEGAL_ADDRESS, f"{address:#x} is in no allocation")
        if not block.live or block.memory is None:
            raise Misuse(ILLEGAL_ADDRESS, f"{address:#x} is in an allocation that was freed")
        start = address - block.address
        if start + size > block.size:
            raise Misuse(
                ILLEGAL_ADDRESS,
                f"{size} bytes at {address:#x} end behind their allocation of {block.size}",
            )
        return block.memory[start : start + size]


def overlap(one: Span, other: Span) -> bool:
    return one[0] < other[0] + other[1] and other[0] < one[0] + one[1]
