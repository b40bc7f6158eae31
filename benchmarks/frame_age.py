"""How old is a picture when its question begins? Read from a clock that a real RTSP server draws.

PYTHONPATH=tests/typing:tests:. python -m benchmarks.frame_age --size 1920x1080 --rate 30

The age that the clock tells holds the server's encoder, the network, the decoder and the wait for
the next picture; the age that the frame tells begins when it is decoded, with ``--eco`` when its
packet has come. ``--busy``: seconds that a question takes, in which the processor multiplies
matrices.
"""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import rtsp

from vpt_edge import live
from vpt_edge.live.source import each_frame

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vpt_edge.live.source import Source

WARM = 2  # questions until the stream runs evenly
EVERY = 2.0  # seconds between questions while decoding is measured
ROUNDS = 5


class Ages(NamedTuple):
    """Seconds by the clock and by the frame when a question begins, and until it has its pixels."""

    clock: float
    frame: float
    wait: float


def measure(source: Source, options: argparse.Namespace) -> Iterator[Ages]:
    """At the beginning of each question."""
    for index, frame in enumerate(each_frame(source)):
        age = frame.age
        now = time.monotonic()
        pixels = frame.pixels
        wait = time.monotonic() - now
        if index >= WARM:
            luma = pixels.mean(axis=2).astype(np.uint8)
            yield Ages(now - rtsp.read_clock(luma), age, wait)
        if index == options.questions + WARM - 1:
            return
        work(options.busy)


def work(seconds: float) -> None:
    matrix = np.random.default_rng(0).random((512, 512), np.float32)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        matrix = matrix @ matrix
        matrix /= np.abs(matrix).max()


def share_of_a_core(source: Source, looks: bool) -> float:
    """What reading ``source`` takes of the processor, a frame being looked at EVERY so often."""
    began = time.monotonic()
    processor = time.process_time()
    for _ in range(ROUNDS):
        time.sleep(EVERY)
        frame = source.poll()
        if looks and frame is not None:
            frame.pixels  # noqa: B018 - decodes
    return (time.process_time() - processor) / (time.monotonic() - began)


def show(name: str, seconds: list[float], interval: float) -> None:
    median = np.median(seconds)
    print(
        f"{name}: median {1000 * median:.0f} ms, largest {1000 * max(seconds):.0f} ms, "
        f"{median / interval:.2f} and {max(seconds) / interval:.2f} picture intervals"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", default="1920x1080")
    parser.add_argument("--rate", type=int, default=30)
    parser.add_argument("--questions", type=int, default=20)
    parser.add_argument("--busy", type=float, default=1.0)
    parser.add_argument("--eco", action="store_true")
    options = parser.parse_args()
    server = rtsp.RtspServer("--size", options.size, "--rate", str(options.rate))
    with server:
        source = live.open(f"rtsp://127.0.0.1:{server.port}/clock", eco=options.eco)
        with source:
            ages = list(measure(source, options))
            unasked = share_of_a_core(source, looks=False)
            asked = share_of_a_core(source, looks=True)
            counts = source.counts
    show("by the clock", [age.clock for age in ages], 1 / options.rate)
    show("by the frame", [age.frame for age in ages], 1 / options.rate)
    show("until it has its pixels", [age.wait for age in ages], 1 / options.rate)
    print(f"decoding takes {100 * unasked:.1f} % of a core, nothing being asked")
    print(f"and {100 * asked:.1f} % with a look each {EVERY:g} s")
    print(
        f"{counts.frames} pictures came, {counts.dropped} of them were passed over, "
        f"{counts.undecoded} never decoded"
    )


if __name__ == "__main__":
    main()
