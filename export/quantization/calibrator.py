"""From calibration samples to the plan of a quantized export."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from vpt_edge.calibration.collect import Collector
from vpt_edge.calibration.encoder_runs import EncoderRuns
from vpt_edge.calibration.ranges import RANGE_METHODS
from vpt_edge.calibration.recorder import ActivationRecorder
from vpt_edge.calibration.smoothing import Smoothing, SmoothingSearch
from vpt_edge.export.quantization.plan import EVERY, QuantizationPlan
from vpt_edge.runtime.errors import ExportError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vpt_edge.calibration.model import RecordableModel
    from vpt_edge.calibration.ranges import Statistics
    from vpt_edge.calibration.recorder import Key
    from vpt_edge.export.progress import Progress
    from vpt_edge.export.quantization.options import Calibration
    from vpt_edge.export.quantization.recipe import Recipe
    from vpt_edge.export.quantization.selection import Selection
    from vpt_edge.export.spec import Spec
    from vpt_edge.export.writer import BundleWriter

    Array = NDArray[np.float32]

PLAIN = "ranges"  # the passes
ENCODERS = "smoothed encoder ranges"
UNSEEN = (
    "no calibration sample made the model look again: crops and re-encodes are not in the ranges"
)


class Places(NamedTuple):
    """``ranges``: the file of what the passes observed; ``work``: a folder that is not kept."""

    ranges: Path
    work: Path


@dataclass(frozen=True)
class Draft:
    """What is to be quantized: ``read`` gives a weight (outputs, inputs) of the float model."""

    recipe: Recipe
    specs: Mapping[str, Spec]
    read: Callable[[Key], Array]

    @classmethod
    def of(cls, writer: BundleWriter) -> Draft:
        """What ``writer``, which has no plan yet, is to write."""
        load = cache(lambda graph: writer.loader(writer.specs[graph]))

        def read(key: Key) -> Array:
            graph, weight = key
            return load(graph)(weight).numpy()

        return cls(writer.recipe, writer.specs, read)


class Calibrator:
    """Asks the float model ``reference`` the samples of ``selection``.

    Ranges wait for another run in the file ``ranges``, what is kept from one pass to the next in
    the folder ``work``. ``statistics`` are those that the plan was made of, ``notes`` say what the
    user should know of it.
    """

    def __init__(
        self,
        draft: Draft,
        reference: RecordableModel,
        options: Calibration,
        selection: Selection,
        places: Places,
    ) -> None:
        self._draft = draft
        self._options = options
        self._count = len(selection.calibration)
        samples = selection.calibration
        self._collector = Collector(reference, samples, places.ranges, selection.answer_tokens)
        self._work = places.work
        self.notes = list(selection.notes)
        self.statistics: dict[Key, Statistics] = {}

    def calibrate(self, progress: Progress) -> QuantizationPlan:
        """Ranges, smoothing and importance, with every matmul quantized as the recipe says."""
        runs = self._encoder_runs()
        recorder = ActivationRecorder(runs=runs)
        self._record(PLAIN, recorder, progress.part(0.0, 0.5))
        statistics = recorder.statistics
        plan = self._empty_plan(statistics)
        if self._options.smoothing:
            plan = replace(plan, smoothing=self._smooth(plan, statistics, progress.part(0.5, 0.5)))
        if plan.divisors:
            statistics = self._observe_smoothed(plan, statistics, runs, progress.part(0.5, 1.0))
        self.statistics = statistics
        if self._options.kv_cache == "int8":
            plan = replace(plan, cache_scales=self._cache_scales(recorder, plan))
        return self._with_ranges(plan, statistics)

    def _encoder_runs(self) -> EncoderRuns | None:
        """Where to keep them; None where nobody would run them again, or some are missing: of a
        pass that an earlier process began.
        """
        is_int4 = self._draft.recipe.matmuls.get("decoder") == "int4"
        if not is_int4 or not self._options.smoothing or PLAIN in self._collector.file.load():
            return None
        return EncoderRuns(self._work / "runs")

    def _observe_smoothed(
        self,
        plan: QuantizationPlan,
        plain: Mapping[Key, Statistics],
        runs: EncoderRuns | None,
        progress: Progress,
    ) -> dict[Key, Statistics]:
        """The statistics behind the divisors of ``plan``.

        A histogram must be observed anew. Where the decoder needs none, as INT4 does not, its
        statistics are the ``plain`` ones divided, and the encoders alone run again.
        """
        recorder = ActivationRecorder(plan.divisors)
        if _needs_histograms(plan, plain, "decoder"):
            self._record("smoothed ranges", recorder, progress)
            return recorder.statistics
        if runs is None:
            self._record(ENCODERS, recorder, progress)
        else:

            def tell(done: int, count: int) -> None:
                progress.tell(f"observing {ENCODERS}: {done} of {count} pictures", done / count)

            self._collector.run_encoders(ENCODERS, recorder, runs, tell)
        decoder = {key: of_key for key, of_key in plain.items() if key[0] == "decoder"}
        for key, divisor in plan.divisors.items():
            if key in decoder:
                decoder[key] = decoder[key].divided(divisor)
        return {**recorder.statistics, **decoder}

    def _record(self, name: str, recorder: ActivationRecorder, progress: Progress) -> None:
        def tell(done: int) -> None:
            progress.tell(f"observing {name}: {done} of {self._count} samples", done / self._count)

        looks = self._collector.run(name, recorder, tell)
        if not looks and UNSEEN not in self.notes:
            self.notes.append(UNSEEN)

    def _empty_plan(self, statistics: Mapping[Key, Statistics]) -> QuantizationPlan:
        """Without ranges; graphs that no sample ran stay in float."""
        recorded = {graph for graph, _ in statistics}
        floats = {}
        for graph in self._draft.recipe.matmuls:
            if graph in self._draft.specs and graph not in recorded:
                floats[graph, EVERY] = "no calibration sample ran this graph"
        return QuantizationPlan(self._draft.recipe, {}, {}, {}, floats, self._options.block)

    def _smooth(
        self, plan: QuantizationPlan, statistics: Mapping[Key, Statistics], progress: Progress
    ) -> dict[str, Smoothing]:
        smoothing = {}
        for graph, spec in self._draft.specs.items():
            progress.tell(f"smoothing {graph}", 0.0)
            of_graph = {}
            for (name, weight), of_weight in statistics.items():
                if name == graph:
                    of_graph[weight] = of_weight
            read = partial(self._read, graph)
            is_int4 = partial(_is_int4, plan, graph, of_graph)
            search = SmoothingSearch(of_graph, read, is_int4, plan.block)
            smoothing[graph] = search.run(spec.folds)
        return smoothing

    def _read(self, graph: str, weight: str) -> Array:
        return self._draft.read((graph, weight))

    def _with_ranges(
        self, plan: QuantizationPlan, statistics: Mapping[Key, Statistics]
    ) -> QuantizationPlan:
        """``plan`` with the threshold of each int8 matmul and the importance of each int4 one."""
        threshold = RANGE_METHODS[self._options.range_method]
        thresholds: dict[Key, float] = {}
        importance: dict[Key, Array] = {}
        for key, of_weight in statistics.items():
            kind = plan.kind(key, len(of_weight.maxima))
            if kind == "int8":
                thresholds[key] = threshold(of_weight)
            elif kind == "int4":
                importance[key] = of_weight.mean_squares.astype(np.float32)
        return replace(plan, thresholds=thresholds, importance=importance)

    def _cache_scales(
        self, recorder: ActivationRecorder, plan: QuantizationPlan
    ) -> dict[str, Array]:
        if not recorder.largest:
            raise ExportError(
                "no calibration sample ran the decoder: --kv-cache int8 has no ranges",
                "give other samples",
            )
        decoder = self._draft.specs["decoder"]
        return decoder.cache_scales(recorder.largest, plan.smoothing.get("decoder"))


def _needs_histograms(
    plan: QuantizationPlan, statistics: Mapping[Key, Statistics], graph: str
) -> bool:
    """Whether INT8 clips an activation of ``graph`` that smoothing divides."""
    for key in plan.divisors:
        if key[0] == graph and plan.kind(key, len(statistics[key].maxima)) == "int8":
            return True
    return False


def _is_int4(
    plan: QuantizationPlan, graph: str, statistics: Mapping[str, Statistics], weight: str
) -> bool:
    inputs = len(statistics[weight].maxima)
    return plan.kind((graph, weight), inputs) == "int4"
