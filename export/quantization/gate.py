"""Judges a quantized model by its float self, and gives back to float what costs most."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from vpt_edge.calibration.evaluation import Evaluation, compare, evaluate, latency
from vpt_edge.calibration.metrics import METRICS
from vpt_edge.calibration.model import open_pipeline
from vpt_edge.calibration.samples import Samples
from vpt_edge.runtime.errors import ExportError
from vpt_edge.runtime.manifest import Gate
from vpt_edge.runtime.stopwatch import STAGES

if TYPE_CHECKING:
    from vpt_edge.calibration.evaluation import Agreement
    from vpt_edge.calibration.model import RecordableModel
    from vpt_edge.calibration.outcome import Outcome
    from vpt_edge.calibration.recorder import Key
    from vpt_edge.calibration.sample import Sample
    from vpt_edge.export.progress import Progress
    from vpt_edge.export.quantization.options import Calibration
    from vpt_edge.export.quantization.plan import QuantizationPlan
    from vpt_edge.export.quantization.selection import Selection
    from vpt_edge.export.quantization.sensitivity import Sensitivity
    from vpt_edge.runtime.pipeline import Pipeline

SENSITIVITY_SAMPLES = 8
SPEED_SAMPLES = 8
FLOAT_STEP = 0.05  # share of the matmuls that return to float at a time
FLOAT_LIMIT = 0.5  # that may return at all
LABELLED_DROP = 0.5  # points of accuracy
CHANGED_DROP = 1.0  # percent of answers changed, without labels
BLAMED = 8  # matmuls that an error names


class Judgement(NamedTuple):
    """What the bundle's manifest says of the comparison, and all of it."""

    gate: Gate
    evaluation: Evaluation


class QualityGate:
    """Holds candidates against the float model ``reference`` on the held-out samples.

    ``streamed`` is a reference that reads the checkpoint again for each token: it is asked once,
    and ``sensitivity`` records at the same time; its speed says nothing. ``notes`` are what to know
    of the samples, and of the candidates that fell back.
    """

    def __init__(
        self,
        reference: RecordableModel,
        options: Calibration,
        selection: Selection,
        sensitivity: Sensitivity,
        streamed: bool,
    ) -> None:
        self._reference = reference
        self._options = options
        self._metric = METRICS[options.metric]
        self._selection = selection
        self._sensitivity = sensitivity
        self._streamed = streamed
        self._is_recorded = False
        self._others: list[Outcome] | None = None
        self.notes = list(selection.notes)

    def compare_with_float(
        self, candidate: RecordableModel, plan: QuantizationPlan, progress: Progress
    ) -> Judgement:
        """The candidate against the reference, first tokens and speed included."""
        outcomes = self._evaluate_candidate(candidate, progress.part(0.0, 0.5))
        others = self._evaluate_reference(progress.part(0.5, 1.0))
        agreement = compare(outcomes, others)
        allowed = self._allowed_drop(agreement)
        evaluation = Evaluation(
            name=plan.recipe.name,
            metric=self._options.metric,
            data=Samples(self._selection.held_out),
            outcomes=outcomes,
            other_name="fp32",
            others=others,
            agreement=agreement,
            max_drop=allowed,
        )
        speed = {} if self._streamed else self._compare_speed(candidate)
        floats = {f"{graph}/{weight}": reason for (graph, weight), reason in plan.floats.items()}
        gate = Gate(
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
            speed=speed,
            floats=floats,
            notes=tuple(self.notes),
        )
        return Judgement(gate, evaluation)

    def fall_back(self, plan: QuantizationPlan, gate: Gate) -> QuantizationPlan:
        """``plan`` with its most sensitive matmuls in float, or first of all its cache.

        Raises ExportError when too many are there already.
        """
        if plan.cache_scales:
            self.notes.append(
                f"keys and values stay in float: with int8 ones the gate lost {gate.drop:.2f}"
            )
            return replace(plan, cache_scales={})
        errors = self.measure_errors()
        count = math.ceil(FLOAT_STEP * len(errors))
        if len(plan.floats) + count > FLOAT_LIMIT * len(errors):
            raise _refusal(plan, gate, errors)
        quantized = [key for key in errors if key not in plan.floats]
        floats = dict(plan.floats)
        for key in quantized[:count]:
            change = f"rounding changes its output by {errors[key]:.1%}"
            floats[key] = f"{change}; the gate lost {gate.drop:.2f}"
        return replace(plan, floats=floats)

    def measure_errors(self) -> dict[Key, float]:
        """Relative error of each quantized matmul's output on held-out samples, the largest
        first.
        """
        if not self._is_recorded:
            samples = self._selection.held_out[:SENSITIVITY_SAMPLES]
            with open_pipeline(self._reference, self._sensitivity.recorder) as pipeline:
                self._ask(pipeline, samples)
            self._is_recorded = True
        return self._sensitivity.errors

    def _evaluate_candidate(self, candidate: RecordableModel, progress: Progress) -> list[Outcome]:
        with open_pipeline(candidate) as pipeline:
            return self._judge(pipeline, "candidate", progress)

    def _evaluate_reference(self, progress: Progress) -> list[Outcome]:
        """Its outcomes, asked once for all candidates."""
        if self._others is None:
            recorder = self._sensitivity.recorder if self._streamed else None
            with open_pipeline(self._reference, recorder) as pipeline:
                self._others = self._judge(pipeline, "reference", progress)
            self._is_recorded = self._streamed
        return self._others

    def _judge(self, pipeline: Pipeline, name: str, progress: Progress) -> list[Outcome]:
        samples = self._selection.held_out
        total = len(samples)

        def tell(done: int) -> None:
            progress.tell(f"judging the {name}: {done} of {total} samples", done / total)

        return evaluate(
            pipeline,
            samples,
            self._metric,
            tell,
            max_new_tokens=self._selection.answer_tokens,
            keep_logits=True,
        )

    def _ask(self, pipeline: Pipeline, samples: Sequence[Sample]) -> list[Outcome]:
        tokens = self._selection.answer_tokens
        return evaluate(pipeline, samples, self._metric, max_new_tokens=tokens)

    def _compare_speed(self, candidate: RecordableModel) -> dict[str, float]:
        """The reference's median seconds over the candidate's, by stage, asked in turn so that
        noise strikes both.
        """
        samples = self._selection.held_out[:SPEED_SAMPLES]
        reference_runs: list[Outcome] = []
        candidate_runs: list[Outcome] = []
        with open_pipeline(self._reference) as reference, open_pipeline(candidate) as quantized:
            for sample in (samples[0], *samples):
                reference_runs += self._ask(reference, [sample])
                candidate_runs += self._ask(quantized, [sample])
        reference_seconds = latency(reference_runs[1:])  # the first run of each warms up
        speed = {}
        for stage, seconds in latency(candidate_runs[1:]).items():
            if stage in STAGES[1:] and seconds.median > 0:
                speed[stage] = reference_seconds[stage].median / seconds.median
        return speed

    def _allowed_drop(self, agreement: Agreement) -> float:
        if self._options.max_drop is not None:
            return self._options.max_drop
        return LABELLED_DROP if agreement.labelled else CHANGED_DROP


def _refusal(plan: QuantizationPlan, gate: Gate, errors: Mapping[Key, float]) -> ExportError:
    blamed = []
    for graph, weight in list(errors)[:BLAMED]:
        blamed.append(f"{graph} {weight} ({errors[graph, weight]:.1%})")
    return ExportError(
        f"{plan.recipe.name} does not hold: {gate.drop:.2f} points are lost, {gate.allowed:.2f} "
        f"allowed, with {len(plan.floats)} of {len(errors)} matmuls in float already. To blame, "
        f"with the error that rounding makes in their outputs: {', '.join(blamed)}",
        "give more calibration data, smoothing, or another precision",
    )
