"""What a pass that verifies a draft costs against a step, by precision: when drafts pay.

    python -m benchmarks.drafts --layers 4

Decoders of Qwen2-VL-2B's widths with random weights. Every round times each pass once, in turn; the
ratios are medians of ratios within a round. The share is that of a draft's tokens which must be
accepted, on average, so that its pass costs no more than the steps that it saves.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.graphs import CACHED, write_bundle, write_checkpoint
from vpt_edge.runtime.kv_cache import KVCache
from vpt_edge.runtime.sessions.ort import OrtSession

if TYPE_CHECKING:
    from vpt_edge.runtime.bundle import Bundle

COUNTS = (1, 2, 3, 5, 9, 16)  # tokens of a pass: one that is known, and a draft
PRECISIONS = ("fp32", "int8", "int4")

Times = dict[int, list[float]]  # seconds of each round, by tokens of a pass


class Passes:
    """Passes of the decoder of ``bundle`` behind CACHED tokens, each of which reads out all of its
    positions.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._session = OrtSession(bundle, "decoder")
        self._text = bundle.manifest.text
        self._cache = KVCache(bundle.manifest)
        self._cache.length = CACHED

    def run(self, count: int) -> float:
        """The seconds of one pass over ``count`` tokens."""
        text = self._text
        rope = np.ones((count, text.head_dim // 2), np.float32)
        random = np.random.default_rng(count)
        embeds = random.standard_normal((1, count, text.hidden_size)).astype(np.float32)
        outputs = {
            "logits": np.empty((count, text.vocab_size), np.float32),
            "hidden": np.empty((count, text.hidden_size), np.float32),
        }
        inputs, written = self._cache.bindings(count)
        inputs |= {"embeds": embeds, "last": np.arange(count)}
        inputs |= self._cache.rotations(rope, rope)
        start = time.perf_counter()
        self._session.run(inputs, {**outputs, **written})
        return time.perf_counter() - start

    def close(self) -> None:
        self._session.close()


def measure(bundle: Bundle, rounds: int) -> Times:
    """The first round warms up and is left out."""
    passes = Passes(bundle)
    times: Times = {count: [] for count in COUNTS}
    for index in range(rounds + 1):
        for count in COUNTS:
            taken = passes.run(count)
            if index:
                times[count].append(taken)
    passes.close()
    return times


def row(name: str, times: Times) -> str:
    """A line of the table."""
    steps = np.array(times[1])
    cells = [f"{1000 * np.median(steps):.1f} ms"]
    for count in COUNTS[1:]:
        ratio = float(np.median(np.array(times[count]) / steps))
        share = (ratio - 1) / (count - 1)
        cells.append(f"{ratio:.2f}, {share:.0%}")
    return f"| {name} | " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description="What a pass that verifies a draft costs.")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    heads = [f"pass of {count}" for count in COUNTS[1:]]
    print("| | step | " + " | ".join(heads) + " |")
    print("|---|" + "---:|" * len(COUNTS))
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) / "checkpoint"
        folder.mkdir()
        checkpoint = write_checkpoint(folder, options.layers, 1)
        for name in PRECISIONS:
            bundle = write_bundle(checkpoint, name, Path(work) / name)
            print(row(name, measure(bundle, options.rounds)), flush=True)


if __name__ == "__main__":
    main()
