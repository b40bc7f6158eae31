"""Runs calibration samples through a float bundle and keeps the statistics, so that a stopped run
goes on."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vpt_edge.calibration.ranges import Statistics
from vpt_edge.runtime.bundle import sha256
from vpt_edge.runtime.errors import ImageError, PromptError
from vpt_edge.runtime.files import write_file
from vpt_edge.runtime.pipeline import Pipeline

if TYPE_CHECKING:
    from vpt_edge.calibration.recorder import Observer
    from vpt_edge.calibration.samples import Sample
    from vpt_edge.runtime.bundle import Bundle

SAVE_EVERY, SAVE_SECONDS = 16, 120  # samples, or the time after which the next one saves
FORMAT = 3  # raised when the entries change
MAX_NEW_TOKENS = 64  # an answer's first words say enough about the ranges


@dataclass
class Cache:
    """The file in which statistics wait for the next run; another ``key`` makes them worthless."""

    path: Path
    key: str

    def load(self) -> dict[str, Any]:
        try:
            data = json.loads(self.path.read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        return (
            data.get("passes", {}) if isinstance(data, dict) and data.get("key") == self.key else {}
        )

    def save(self, name: str, entry: dict[str, Any]) -> None:
        text = json.dumps({"key": self.key, "passes": {**self.load(), name: entry}})
        write_file(self.path, text.encode())


def cache_key(
    bundle: Bundle, samples: Sequence[Sample], max_new_tokens: int = MAX_NEW_TOKENS
) -> str:
    """Of what every pass depends on: the weights, what is asked and how, and where a conversation
    ends."""
    asked = [
        (sha256(sample.image), sample.question, sample.perception, sample.box) for sample in samples
    ]
    manifest = bundle.manifest
    model = [manifest.files, repr(manifest.image), repr(manifest.tokens), repr(manifest.cache)]
    what = [FORMAT, manifest.kind, *model, asked, max_new_tokens]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def _divisors_key(observer: Observer) -> str:
    """Of what a pass depends on beside the cache's key; plain passes have it in common."""
    digest = hashlib.sha256()
    for key, divisor in sorted(observer.divisors.items()):
        digest.update(json.dumps([*key, len(divisor)]).encode())
        digest.update(np.asarray(divisor, np.float64).tobytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class Collected:
    """``looks`` counts the samples in which the model looked again."""

    observer: Observer
    looks: int


def collect(
    bundle: Bundle,
    samples: Sequence[Sample],
    observer: Observer,
    cache: Cache,
    name: str,
    progress: Callable[[int], object] = lambda done: None,
    max_new_tokens: int = MAX_NEW_TOKENS,
) -> Collected:
    """Let ``observer`` watch every sample, each through the whole loop; the pass is kept as
    ``name`` in ``cache``.

    A pass of that name that was observed with other divisors is worthless, and is replaced.
    """
    divisors = _divisors_key(observer)
    kept = cache.load().get(name)
    if kept is None or kept["divisors"] != divisors:
        kept = {"done": 0, "looks": 0, "statistics": {}, "largest": {}}
    done, looks = kept["done"], kept["looks"]
    for graph, weights in kept["statistics"].items():
        observer.statistics |= {
            (graph, weight): Statistics.from_dict(data) for weight, data in weights.items()
        }
    observer.largest |= {part: np.array(most, np.float32) for part, most in kept["largest"].items()}
    saved = time.monotonic()
    with Pipeline(bundle, opener=observer) as pipeline:
        for sample in samples[done:]:
            pipeline.forget()  # each sample shows all of its tokens, wherever a stopped pass went on
            try:
                answer = pipeline.ask(
                    sample.open(),
                    sample.question,
                    perception=sample.perception,
                    max_new_tokens=max_new_tokens,
                )
                looks += bool(answer.looks)
            except (ImageError, PromptError):
                pass  # counted when the samples were read; a prompt that does not fit has no range
            done += 1
            progress(done)
            late = time.monotonic() - saved > SAVE_SECONDS
            if late or done % SAVE_EVERY == 0 or done == len(samples):
                state = {"divisors": divisors, "done": done, "looks": looks}
                cache.save(name, {**state, **_found(observer)})
                saved = time.monotonic()
    return Collected(observer, looks)


def _found(observer: Observer) -> dict[str, Any]:
    nested: dict[str, dict[str, Any]] = {}
    for (graph, weight), found in observer.statistics.items():
        nested.setdefault(graph, {})[weight] = found.to_dict()
    return {
        "statistics": nested,
        "largest": {part: most.tolist() for part, most in observer.largest.items()},
    }
