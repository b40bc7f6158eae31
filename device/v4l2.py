"""A camera as Video4Linux describes it: <https://docs.kernel.org/userspace-api/media/v4l/>."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

READ = 2
WRITE = 1
CAPTURE = 0x1  # capabilities of a device node
CAPTURE_MPLANE = 0x1000
DEVICE_CAPS = 0x80000000  # those of the node itself are given, not only of the whole device
PLANES = {CAPTURE: 1, CAPTURE_MPLANE: 9}  # a capability, and the buffer type that belongs to it
DISCRETE = 1
MOST = 256  # answers to one question: a driver that never ends is not asked for ever

CAPABILITY = struct.Struct("16s32s32sII3I4x")  # driver, card, bus, version, device, node
FORMAT = struct.Struct("III32s4sI12x")  # index, buffer type, flags, description, codec, bus code
SIZE = struct.Struct("I4sI6I8x")  # index, codec, kind, width and height or their steps
INTERVAL = struct.Struct("I4sIII6I8x")  # index, codec, width, height, kind, seconds as fractions


def _request(direction: int, number: int, data: struct.Struct) -> int:
    """_IOC of asm-generic/ioctl.h, which x86 and ARM have."""
    return direction << 30 | data.size << 16 | ord("V") << 8 | number


QUERY_CAPABILITY = _request(READ, 0, CAPABILITY)
ENUMERATE_FORMATS = _request(READ | WRITE, 2, FORMAT)
ENUMERATE_SIZES = _request(READ | WRITE, 74, SIZE)
ENUMERATE_INTERVALS = _request(READ | WRITE, 75, INTERVAL)


@dataclass(frozen=True)
class Mode:
    """Pictures that a camera offers: ``codec`` as its four characters, MJPG, behind
    them -BE where it is big-endian; ``rates`` a second,
    the highest first, without any where the driver does not tell. Of a camera that takes any size,
    or rate, between two, those two.
    """

    codec: str
    width: int
    height: int
    rates: tuple[float, ...]


@dataclass(frozen=True)
class Camera:
    """``device``: the path to open it by; ``bus``: where it is plugged in."""

    device: str
    name: str
    driver: str
    bus: str
    modes: tuple[Mode, ...]


def read_camera(path: Path) -> Camera | None:
    """What the driver behind ``path`` says; None for a node that gives no pictures.

    A camera that another program uses answers all the same. Raises OSError.
    """
    handle = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return _describe(handle, path)
    finally:
        os.close(handle)


def _describe(handle: int, path: Path) -> Camera | None:
    answer = _ask(handle, QUERY_CAPABILITY, bytes(CAPABILITY.size))
    driver, card, bus, _, capabilities, node, *_ = CAPABILITY.unpack(answer)
    if capabilities & DEVICE_CAPS:
        capabilities = node
    modes = list[Mode]()
    for capability, planes in PLANES.items():
        if capabilities & capability:
            modes += _modes(handle, planes)
    if not capabilities & (CAPTURE | CAPTURE_MPLANE):
        return None
    return Camera(str(path), _text(card), _text(driver), _text(bus), tuple(dict.fromkeys(modes)))


def _modes(handle: int, planes: int) -> Iterator[Mode]:
    for index in range(MOST):
        question = FORMAT.pack(index, planes, 0, b"", b"", 0)
        answer = _next(handle, ENUMERATE_FORMATS, question)
        if answer is None:
            return
        codec: bytes = FORMAT.unpack(answer)[4]
        for width, height in _sizes(handle, codec):
            yield Mode(_codec_name(codec), width, height, _rates(handle, codec, width, height))


def _sizes(handle: int, codec: bytes) -> Iterator[tuple[int, int]]:
    for index in range(MOST):
        question = SIZE.pack(index, codec, 0, 0, 0, 0, 0, 0, 0)
        answer = _next(handle, ENUMERATE_SIZES, question)
        if answer is None:
            return
        _, _, kind, *numbers = SIZE.unpack(answer)
        if kind == DISCRETE:
            yield numbers[0], numbers[1]
            continue
        least_width, most_width, _, least_height, most_height, _ = numbers
        yield most_width, most_height
        if (least_width, least_height) != (most_width, most_height):
            yield least_width, least_height
        return


def _rates(handle: int, codec: bytes, width: int, height: int) -> tuple[float, ...]:
    rates = set[float]()
    for index in range(MOST):
        question = INTERVAL.pack(index, codec, width, height, 0, 0, 0, 0, 0, 0, 0)
        answer = _next(handle, ENUMERATE_INTERVALS, question)
        if answer is None:
            break
        _, _, _, _, kind, *numbers = INTERVAL.unpack(answer)
        ends = [numbers[0:2]]
        if kind != DISCRETE:
            ends.append(numbers[2:4])
        for seconds, parts in ends:  # an interval is seconds/parts
            if seconds:
                rates.add(round(parts / seconds, 2))
        if kind != DISCRETE:
            break
    return tuple(sorted(rates, reverse=True))


def _next(handle: int, request: int, question: bytes) -> bytes | None:
    """The answer to one of a row of questions; None behind the last one."""
    try:
        return _ask(handle, request, question)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOTTY):  # no more, or a question it does not know
            return None
        raise


def _ask(handle: int, request: int, question: bytes) -> bytes:
    from fcntl import ioctl  # of Unix alone

    return ioctl(handle, request, question)


def _codec_name(codec: bytes) -> str:
    """The highest bit of the last character stands for big-endian, as v4l2-ctl writes it too."""
    last = codec[3]
    if last & 0x80:
        return f"{_text(codec[:3] + bytes([last & 0x7F]))}-BE"
    return _text(codec)


def _text(data: bytes) -> str:
    """Up to the first zero byte, as it can be shown."""
    text = data.split(b"\0")[0].decode("utf-8", errors="replace")
    return "".join(character for character in text if character.isprintable()).strip()
