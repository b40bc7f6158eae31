"""From calibration samples to the plan of a quantized export that passes the gate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vpt_edge.calibration.collect import Cache, cache_key, collect
from vpt_edge.calibration.evaluation import Agreement, Evaluation, compare, evaluate, latency
from vpt_edge.calibration.html import bars, paragraph, table
from vpt_edge.calibration.metrics import METRICS
from vpt_edge.calibration.ranges import OBSERVERS, minmax
from vpt_edge.calibration.recorder import Observer, Sensitivity
from vpt_edge.calibration.report import page
from vpt_edge.calibration.samples import Samples, read_samples, split
from vpt_edge.calibration.smoothing import Smoothing, search
from vpt_edge.export.models.qwen2_vl.decoder import cache_scales
from vpt_edge.export.quantization.plan import EVERY, Plan
from vpt_edge.export.quantization.recipe import INT4_BLOCK
from vpt_edge.export.quantization.sensitivity import rounding_errors
from vpt_edge.export.streamed import StreamedBundle, open_streamed
from vpt_edge.runtime.bundle import Gate
from vpt_edge.runtime.errors import ExportError
from vpt_edge.runtime.pipeline import Pipeline
from vpt_edge.runtime.result import STAGES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vpt_edge.calibration.evaluation import Outcome
    from vpt_edge.calibration.ranges import Statistics
    from vpt_edge.calibration.recorder import Key
    from vpt_edge.calibration.samples import Sample
    from vpt_edge.export.writer import BundleWriter, Progress
    from vpt_edge.runtime.bundle import Bundle
    from vpt_edge.runtime.sessions import SessionOpener

    Array = NDArray[np.float32]

FEW, FEWEST = (
    64,
    12,
)  # samples, below which the result is called little proven, and none is held out
UNSEEN = (
    "no calibration sample made the model look again: crops and re-encodes are not in the ranges"
)
SENSITIVITY_SAMPLES = SPEED_SAMPLES = 8
LISTED = 24  # products in a plot
STEP, MOST = (
    0.05,
    0.5,
)  # shares of the products: that return to float at a time, and that may do so at all
MAX_NEW_TOKENS = 64
STREAMED_SAMPLES, STREAMED_TOKENS = 16, 8  # where each token is a pass over the checkpoint
LABELLED_DROP, CHANGED_DROP = (
    0.5,
    1.0,
)  # points of accuracy; percent of answers changed, without labels


@dataclass(frozen=True)
class Calibration:
    """How a quantized export is calibrated and judged.

    ``data`` as ``samples.read_samples`` takes it; ``observer`` is one of minmax, percentile,
    entropy, mse; ``max_drop`` in points of accuracy, or in percent of changed answers without
    labels (defaults 0.5 and 1).

    ``streamed``: whether the float model is read from the checkpoint again for each token, instead
    of from a float bundle; None: where the float bundle would be large. ``samples`` and
    ``answer_tokens`` limit what is asked (None: all samples and 64 tokens, fewer where the model is
    streamed). ``kv_cache``: what keys and values are kept in, "float" or "int8"."""

    data: str
    observer: str = "percentile"
    smoothing: bool = True
    max_drop: float | None = None
    metric: str = "exact"
    block: int = INT4_BLOCK
    kv_cache: str = "float"
    streamed: bool | None = None
    samples: int | None = None
    answer_tokens: int | None = None


class Planner:
    """Calibrates with the float bundle ``reference`` and judges candidates against it, all in the
    runtime's loop."""

    def __init__(
        self,
        job: BundleWriter,
        reference: Bundle,
        calibration: Calibration,
        ranges: Path,
        progress: Progress,
    ) -> None:
        self._job, self._reference, self._options, self._progress = (
            job,
            reference,
            calibration,
            progress,
        )
        self._opener = open_streamed if isinstance(reference, StreamedBundle) else None
        self._tokens = calibration.answer_tokens or (
            STREAMED_TOKENS if self._opener else MAX_NEW_TOKENS
        )
        samples = read_samples(calibration.data)
        self.notes = list(samples.unreadable)
        chosen = self._chosen(samples.samples)
        if len(chosen) < FEW:
            self.notes.append(
                f"only {len(chosen)} samples: ranges and gate say little about other pictures; give {FEW} or more"
            )
        self._calibration, self.held_out = split(chosen)
        if len(chosen) < FEWEST:
            self.notes.append(
                "too few samples to hold any out: the gate judges on the calibration samples"
            )
            self._calibration = self.held_out = chosen
        self._cache = Cache(ranges, cache_key(reference, self._calibration, self._tokens))
        self._others: list[Outcome] | None = None
        self._rows: Sensitivity | None = None
        self._loader = cache(lambda graph: job.loader(job.specs[graph]))
        self._evaluation: Evaluation | None = None
        self._seen: dict[Key, Statistics] = {}

    def _chosen(self, samples: tuple[Sample, ...]) -> tuple[Sample, ...]:
        """As many of the samples as are to be asked, drawn alike each time; what is left out is no
        secret."""
        most = self._options.samples or (STREAMED_SAMPLES if self._opener else len(samples))
        few = (
            f"{most} of {len(samples)} samples are asked (--samples)" if most < len(samples) else ""
        )
        short = (
            f"answers end after {self._tokens} tokens (--answer-tokens)"
            if self._tokens < MAX_NEW_TOKENS
            else ""
        )
        if few or short:
            why = (
                "the float model is streamed from the checkpoint for each token: "
                if self._opener
                else ""
            )
            self.notes.append(why + " and ".join(filter(None, (few, short))))
        drawn = np.random.default_rng(0).permutation(len(samples))[:most]
        return tuple(samples[index] for index in sorted(drawn))

    def plan(self) -> Plan:
        """Ranges, smoothing and importance, with every product quantized as the recipe says."""
        observer = Observer(session=self._opener)
        seen = self._collect("ranges", observer)
        unseen = [
            graph
            for graph in self._job.recipe.products
            if graph in self._job.specs and graph not in dict(seen.keys())
        ]
        floats = {(graph, EVERY): "no calibration sample ran this graph" for graph in unseen}
        draft = Plan(self._job.recipe, {}, {}, {}, floats, self._options.block)
        smoothing = self._smoothing(draft, seen) if self._options.smoothing else {}
        divisors = {
            (graph, weight): s
            for graph, part in smoothing.items()
            for weight, s in part.columns.items()
        }
        if divisors:
            seen = self._collect("smoothed ranges", Observer(divisors, self._opener))
        self._seen = seen
        observe = OBSERVERS[self._options.observer]
        kinds = {key: draft.kind(key, len(found.maxima)) for key, found in seen.items()}
        return replace(
            draft,
            smoothing=smoothing,
            thresholds={key: observe(seen[key]) for key, kind in kinds.items() if kind == "int8"},
            importance={
                k: seen[k].mean_squares.astype(np.float32)
                for k, kind in kinds.items()
                if kind == "int4"
            },
            cache_scales=self._cache_scales(observer, smoothing)
            if self._options.kv_cache == "int8"
            else {},
        )

    def _cache_scales(
        self, observer: Observer, smoothing: dict[str, Smoothing]
    ) -> dict[str, Array]:
        if not observer.largest:
            raise ExportError(
                "no calibration sample ran the decoder: --kv-cache int8 has no ranges; give other samples"
            )
        return cache_scales(observer.largest, smoothing.get("decoder"))

    def _collect(self, name: str, observer: Observer) -> dict[Key, Statistics]:
        total = len(self._calibration)
        found = collect(
            self._reference,
            self._calibration,
            observer,
            self._cache,
            name,
            lambda done: self._progress(
                f"observing {name}: {done} of {total} samples", 0.3 + 0.2 * done / total
            ),
            self._tokens,
        )
        if not found.looks and UNSEEN not in self.notes:
            self.notes.append(UNSEEN)
        return found.observer.statistics

    def _smoothing(self, draft: Plan, seen: dict[Key, Statistics]) -> dict[str, Smoothing]:
        found = {}
        for graph, spec in self._job.specs.items():
            self._progress(f"smoothing {graph}", 0.5)
            load = self._loader(graph)
            own = {
                weight: statistics for (name, weight), statistics in seen.items() if name == graph
            }
            kinds = {weight: draft.kind((graph, weight), len(own[weight].maxima)) for weight in own}
            found[graph] = search(
                spec.folds,
                own,
                lambda weight, load=load: load(weight).numpy(),  # type: ignore[misc]
                lambda weight, kinds=kinds: kinds[weight] == "int4",  # type: ignore[misc]
                draft.block,
            )
        return found

    def judge(self, candidate: Bundle, plan: Plan) -> Gate:
        """The candidate against the reference on the held-out samples, first tokens and speed
        included."""
        outcomes = self._evaluate(candidate, "candidate")
        if self._others is None:
            if self._opener:  # each pass is dear: the same one keeps the rows for the sensitivity
                self._rows = self._watching(plan)
            self._others = self._evaluate(self._reference, "reference", self._rows)
        agreement = compare(outcomes, self._others)
        allowed = self._allowed(agreement)
        data, name = Samples(self.held_out), self._job.recipe.name
        self._evaluation = Evaluation(
            name, self._options.metric, data, outcomes, "fp32", self._others, agreement, allowed
        )
        return Gate(
            samples=agreement.count,
            labelled=agreement.labelled,
            accuracy=agreement.accuracy,
            float_accuracy=agreement.other_accuracy,
            answers_equal=agreement.answers_equal,
            triggers_equal=agreement.triggers_equal,
            cells_equal=agreement.cells_equal,
            cells_iou=agreement.cells_iou,
            first_token_kl=agreement.first_token_kl,
            drop=agreement.drop,
            allowed=allowed,
            held=agreement.within(allowed),
            speed=self._speed(candidate),
            floats={f"{graph}/{weight}": reason for (graph, weight), reason in plan.floats.items()},
            notes=tuple(self.notes),
        )

    def _evaluate(
        self, bundle: Bundle, name: str, opener: SessionOpener | None = None
    ) -> list[Outcome]:
        total = len(self.held_out)
        with Pipeline(bundle, opener=opener) as pipeline:
            return evaluate(
                pipeline,
                self.held_out,
                METRICS[self._options.metric],
                lambda done: self._progress(
                    f"judging the {name}: {done} of {total} samples", 0.7 + 0.2 * done / total
                ),
                max_new_tokens=self._tokens,
                keep_logits=True,
            )

    def _speed(self, candidate: Bundle) -> dict[str, float]:
        """The reference's median seconds over the candidate's, by stage, asked in turn so that
        noise strikes both.

        Nothing where the reference is streamed: its time is that of reading the checkpoint.
        """
        if self._opener:
            return {}
        metric, samples = METRICS[self._options.metric], self.held_out[:SPEED_SAMPLES]
        runs: tuple[list[Outcome], list[Outcome]] = ([], [])
        with Pipeline(self._reference) as one, Pipeline(candidate) as other:
            for sample in (samples[0], *samples):
                for pipeline, outcomes in zip((one, other), runs, strict=True):
                    outcomes += evaluate(pipeline, [sample], metric, max_new_tokens=self._tokens)
        theirs, ours = (
            latency(outcomes[1:]) for outcomes in runs
        )  # the first run of each warms up
        timed = [stage for stage in ours if stage in STAGES[1:] and ours[stage].median > 0]
        return {stage: theirs[stage].median / ours[stage].median for stage in timed}

    def page(self, plan: Plan) -> str:
        """The report of the last judgement: agreement, error and range by product, what stayed in
        float, samples."""
        assert self._evaluation is not None
        errors = self._sensitivity(plan)
        worst = list(errors)[:LISTED]
        widest = sorted(self._seen, key=lambda key: -minmax(self._seen[key]))[:LISTED]
        ranges = {
            "largest value": [minmax(self._seen[key]) for key in widest],
            "clipped at": [plan.thresholds.get(key, 0.0) for key in widest],
        }
        floats = [(f"{graph} {weight}", reason) for (graph, weight), reason in plan.floats.items()]
        more = [
            (
                "Error of the products' outputs, percent",
                bars(_named(worst), {"error": [100 * errors[k] for k in worst]}),
            ),
            ("Widest ranges", bars(_named(widest), ranges)),
            (
                "Left in float",
                table(["product", "why"], floats) if floats else paragraph("Nothing."),
            ),
        ]
        return page(self._evaluation, more)

    def _allowed(self, agreement: Agreement) -> float:
        if self._options.max_drop is not None:
            return self._options.max_drop
        return LABELLED_DROP if agreement.labelled else CHANGED_DROP

    def relieved(self, plan: Plan, gate: Gate) -> Plan:
        """``plan`` with its most sensitive products in float, or first of all its cache.

        Raises ExportError when too many are there already.
        """
        if plan.cache_scales:
            self.notes.append(
                f"keys and values stay in float: with int8 ones the gate lost {gate.drop:.2f}"
            )
            return replace(plan, cache_scales={})
        errors = self._sensitivity(plan)
        count = math.ceil(STEP * len(errors))
        if len(plan.floats) + count > MOST * len(errors):
            worst = ", ".join(
                f"{graph} {weight} ({errors[graph, weight]:.1%})"
                for graph, weight in list(errors)[:8]
            )
            raise ExportError(
                f"{self._job.recipe.name} does not hold: {gate.drop:.2f} points are lost, {gate.allowed:.2f} allowed, "
                f"with {len(plan.floats)} of {len(errors)} products in float already. To blame, with the error that "
                f"rounding makes in their outputs: {worst}. Give more calibration data, smoothing, or another precision"
            )
        blamed = [key for key in errors if key not in plan.floats][:count]
        reasons = {
            key: f"rounding changes its output by {errors[key]:.1%}; the gate lost {gate.drop:.2f}"
            for key in blamed
        }
        return replace(plan, floats={**plan.floats, **reasons})

    def _sensitivity(self, plan: Plan) -> dict[Key, float]:
        """Relative error of each quantized product's output on held-out samples, the largest first."""
        self._progress("measuring sensitivity", 0.9)
        bare, sensitivity = replace(plan, floats={}), self._rows
        if sensitivity is None:
            sensitivity = self._watching(plan)
            samples: Sequence[Sample] = self.held_out[:SENSITIVITY_SAMPLES]
            with Pipeline(self._reference, opener=sensitivity) as pipeline:
                evaluate(
                    pipeline, samples, METRICS[self._options.metric], max_new_tokens=self._tokens
                )
        return rounding_errors(bare, sensitivity, lambda key: self._loader(key[0])(key[1]).numpy())

    def _watching(self, plan: Plan) -> Sensitivity:
        divisors = {
            (graph, weight): s
            for graph, part in plan.smoothing.items()
            for weight, s in part.columns.items()
        }
        return Sensitivity(divisors, plan.thresholds, self._opener)


def _named(keys: Sequence[Key]) -> list[str]:
    return [weight.removesuffix(".weight") for _, weight in keys]
