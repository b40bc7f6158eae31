"""Runs calibration samples through a float model and keeps the statistics, so that a stopped run
goes on.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vpt_edge.calibration.model import open_pipeline
from vpt_edge.calibration.ranges import Statistics
from vpt_edge.runtime.errors import ImageError, PromptError
from vpt_edge.runtime.files import resolve, sha256, write_file
from vpt_edge.runtime.lock import lock_place
from vpt_edge.runtime.schema import parse_json

if TYPE_CHECKING:
    from vpt_edge.calibration.encoder_runs import EncoderRuns
    from vpt_edge.calibration.model import RecordableModel
    from vpt_edge.calibration.recorder import ActivationRecorder
    from vpt_edge.calibration.sample import Sample
    from vpt_edge.runtime.pipeline import Pipeline

SAVE_EVERY = 16  # samples
SAVE_SECONDS = 120  # after which the next sample saves, too
FORMAT = 3  # raised when the entries change
MAX_NEW_TOKENS = 64  # an answer's first words say enough about the ranges


@dataclass(frozen=True)
class StatisticsFile:
    """The file in which statistics wait for the next run; another ``key`` makes them worthless."""

    path: Path
    key: str

    def load(self) -> dict[str, Any]:
        """The passes by name; nothing where the file is missing, damaged or of another key.

        Raises OSError where it cannot be read: what it holds is not given up for that.
        """
        try:
            data = parse_json(self.path.read_bytes())
        except (FileNotFoundError, ValueError):
            return {}
        if not isinstance(data, dict) or data.get("key") != self.key:
            return {}
        passes = data.get("passes")
        return passes if isinstance(passes, dict) else {}

    def save(self, name: str, entry: dict[str, Any]) -> None:
        """Put ``entry`` among the passes."""
        text = json.dumps({"key": self.key, "passes": {**self.load(), name: entry}})
        write_file(self.path, text.encode())


def statistics_key(model: RecordableModel, samples: Sequence[Sample], max_new_tokens: int) -> str:
    """Of what every pass depends on: the weights, what is asked and how, and where a conversation
    ends.
    """
    manifest = model.manifest
    questions = []
    for sample in samples:
        asked: tuple[Any, ...] = (sample.question, sample.perception, sample.box)
        questions.append((sha256(sample.image), *asked, *map(sha256, sample.others)))
    blocks = (manifest.image, manifest.tokens, manifest.cache, manifest.model, manifest.perception)
    parts = [FORMAT, manifest.files, repr(blocks), questions, max_new_tokens]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


class Collector:
    """Asks ``model`` every sample through the whole loop, as often as there are passes.

    What a pass has recorded waits in the file ``path``; answers end after ``max_new_tokens``.
    """

    def __init__(
        self,
        model: RecordableModel,
        samples: Sequence[Sample],
        path: Path,
        max_new_tokens: int = MAX_NEW_TOKENS,
    ) -> None:
        self._model = model
        self._samples = samples
        self._max_new_tokens = max_new_tokens
        self.file = StatisticsFile(path, statistics_key(model, samples, max_new_tokens))

    def run(
        self,
        name: str,
        recorder: ActivationRecorder,
        progress: Callable[[int], object] = lambda done: None,
    ) -> int:
        """Let ``recorder`` watch the pass ``name``; returns in how many samples the model looked
        again.

        A pass of that name with other divisors is worthless, and is replaced. ``progress`` is told
        how many samples are done. Raises LockedError where another process writes the same file.
        """
        with lock_place(resolve(self.file.path), "calibration"):
            return self._run(name, recorder, progress)

    def run_encoders(
        self,
        name: str,
        recorder: ActivationRecorder,
        runs: EncoderRuns,
        progress: Callable[[int, int], object] = lambda done, count: None,
    ) -> None:
        """As ``run``, where nothing of the decoder is wanted and ``runs`` has what an earlier pass
        gave the encoders: that is done again, and no word is said.
        """
        with lock_place(resolve(self.file.path), "calibration"):
            divisors = _divisors_key(recorder)
            count = len(self._samples)
            done, _ = self._resume(name, recorder, divisors)
            if done < count:
                recorder.statistics.clear()
                runs.replay(partial(self._model.open_session, recorder=recorder), progress)
                state = {"divisors": divisors, "done": count, "looks": 0}
                self.file.save(name, {**state, **_to_dict(recorder)})

    def _run(
        self, name: str, recorder: ActivationRecorder, progress: Callable[[int], object]
    ) -> int:
        divisors = _divisors_key(recorder)
        done, looks = self._resume(name, recorder, divisors)
        saved = time.monotonic()
        with open_pipeline(self._model, recorder) as pipeline:
            for sample in self._samples[done:]:
                looks += self._ask(pipeline, sample)
                done += 1
                progress(done)
                is_late = time.monotonic() - saved > SAVE_SECONDS
                if is_late or done % SAVE_EVERY == 0 or done == len(self._samples):
                    state = {"divisors": divisors, "done": done, "looks": looks}
                    self.file.save(name, {**state, **_to_dict(recorder)})
                    saved = time.monotonic()
        return looks

    def _resume(self, name: str, recorder: ActivationRecorder, divisors: str) -> tuple[int, int]:
        """Give ``recorder`` what an earlier run has recorded; returns samples done, and looks."""
        entry: Any = self.file.load().get(name)
        try:
            if entry["divisors"] != divisors:
                return 0, 0
            statistics = dict[tuple[str, str], Statistics]()
            for graph, weights in entry["statistics"].items():
                for weight, data in weights.items():
                    statistics[graph, weight] = Statistics.from_dict(data)
            largest = dict[str, np.ndarray[Any, Any]]()
            for part, values in entry["largest"].items():
                largest[part] = np.array(values, np.float32)
            done = _count(entry["done"], len(self._samples))
            looks = _count(entry["looks"], done)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError):
            return 0, 0  # missing or damaged
        recorder.statistics.update(statistics)
        recorder.largest.update(largest)
        return done, looks

    def _ask(self, pipeline: Pipeline, sample: Sample) -> int:
        """1 where the model looked again, 0 elsewhere."""
        pipeline.forget()  # each sample shows all of its tokens, wherever a stopped pass went on
        try:
            answer = pipeline.ask(
                sample.open_all(),
                sample.question,
                perception=sample.perception,
                max_new_tokens=self._max_new_tokens,
                temperature=0.0,  # said, so that no hint recommends another
            )
        except (ImageError, PromptError):
            return 0  # counted when the samples were read; a prompt that does not fit has no range
        return int(bool(answer.looks))


def _count(value: Any, most: int) -> int:
    """``value``; raises ValueError where it is not a number from 0 to ``most``."""
    if type(value) is not int or not 0 <= value <= most:
        raise ValueError(f"{value!r}, expected 0 to {most}")
    return value


def _divisors_key(recorder: ActivationRecorder) -> str:
    """Of what a pass depends on beside the file's key; plain passes have it in common."""
    digest = hashlib.sha256()
    for key, divisor in sorted(recorder.divisors.items()):
        digest.update(json.dumps([*key, len(divisor)]).encode())
        digest.update(np.asarray(divisor, np.float64).tobytes())
    return digest.hexdigest()


def _to_dict(recorder: ActivationRecorder) -> dict[str, Any]:
    statistics: dict[str, dict[str, Any]] = {}
    for (graph, weight), of_weight in recorder.statistics.items():
        statistics.setdefault(graph, {})[weight] = of_weight.to_dict()
    largest = {part: values.tolist() for part, values in recorder.largest.items()}
    return {"statistics": statistics, "largest": largest}
