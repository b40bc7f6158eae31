"""What a bundle answers to samples, and how far two bundles agree."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from vpt_edge.calibration.metrics import divergence, interval
from vpt_edge.calibration.outcome import Outcome, overlap_of_looks
from vpt_edge.calibration.samples import too_many
from vpt_edge.runtime.errors import ImageError, PromptError, VptError

if TYPE_CHECKING:
    from PIL import Image
    from typing_extensions import Unpack

    from vpt_edge.calibration.metrics import Metric
    from vpt_edge.calibration.sample import Sample
    from vpt_edge.calibration.samples import Samples
    from vpt_edge.runtime.options import AskOptions
    from vpt_edge.runtime.pipeline import Pipeline
    from vpt_edge.runtime.result import Answer

# Of one bundle's first logits: 150,000 words over 2,000 samples would be more than a gigabyte.
LOGITS_BYTES = 512 << 20


@dataclass(frozen=True)
class Agreement:
    """How far a bundle agrees with its reference, in shares of ``count`` samples unless said
    otherwise.

    ``cells_equal`` and ``cells_iou`` are of the ``regions`` samples in which either looked at a
    region (1.0 if none); accuracies are of the ``labelled`` samples, None if there are none.
    ``drop``, in points: how much more accurate the reference is, or without labels the share of
    changed answers in percent; ``drop_interval`` is its 95 % interval. ``first_token_kl``: mean
    divergence of the first token's distribution from the reference's, in nats, over the
    ``first_tokens`` samples whose logits were kept in both.
    """

    count: int
    answers_equal: float
    triggers_equal: float
    cells_equal: float
    cells_iou: float
    regions: int
    labelled: int
    accuracy: float | None
    other_accuracy: float | None
    drop: float
    drop_interval: tuple[float, float]
    first_token_kl: float | None
    first_tokens: int

    def within(self, max_drop: float) -> bool:
        """Whether the drop is at most ``max_drop`` points; a rounding error is none."""
        return self.drop <= max_drop + 1e-9


@dataclass(frozen=True)
class Evaluation:
    """A bundle's outcomes for ``data``, and if there is a reference, its outcomes and how far they
    agree.
    """

    name: str
    metric: str
    data: Samples
    outcomes: list[Outcome]
    other_name: str = ""
    others: list[Outcome] | None = None
    agreement: Agreement | None = None
    max_drop: float | None = None

    @property
    def passed(self) -> bool:
        if self.agreement is None or self.max_drop is None:
            return True
        return self.agreement.within(self.max_drop)

    @property
    def runs(self) -> dict[str, list[Outcome]]:
        """The outcomes by the bundle's name, the judged one first."""
        runs = {self.name: self.outcomes}
        if self.others is not None:
            runs[self.other_name] = self.others
        return runs


class Latency(NamedTuple):
    """In seconds."""

    median: float
    p95: float


def evaluate(
    pipeline: Pipeline,
    samples: Sequence[Sample],
    metric: Metric,
    progress: Callable[[int], object] = lambda done: None,
    **options: Unpack[AskOptions],
) -> list[Outcome]:
    """Ask each sample with ``options``; ``progress`` is told how many are done.

    ``keep_logits``: the first ones alone, and of as many samples as fit into 512 MB.
    Raises VptError when 5 % of the samples or more cannot be asked, and what the pipeline raises
    beyond that.
    """
    outcomes: list[Outcome] = []
    remaining = LOGITS_BYTES if options.get("keep_logits") else 0
    failed = 0
    for sample in samples:
        options["keep_logits"] = remaining > 0
        try:
            answer = ask(pipeline, sample, **options)
        except (ImageError, PromptError) as error:
            failed += 1
            if too_many(failed, len(samples)):
                raise VptError(
                    f"{failed} of {len(samples)} samples cannot be asked, expected less than 5 %; "
                    f"the last is {sample.image}: {error}"
                ) from error
            outcomes.append(describe_failure(sample, error))
        else:
            outcomes.append(describe_answer(answer, sample, metric, keep_logits=remaining > 0))
            remaining -= pipeline.bundle.manifest.text.vocab_size * 4
        progress(len(outcomes))
    return outcomes


def ask(
    pipeline: Pipeline,
    sample: Sample,
    pictures: Sequence[Image.Image] = (),
    **options: Unpack[AskOptions],
) -> Answer:
    """The answer to a sample, which has chosen its perception, at temperature 0.

    ``pictures``: what ``open_all`` gave, where that was done before.

    Raises ImageError and PromptError for what cannot be shown or asked.
    """
    # The temperature is said, so that no hint recommends another.
    asked: AskOptions = {**options, "perception": sample.perception, "temperature": 0.0}
    with warnings.catch_warnings():  # the samples have chosen their perception
        warnings.filterwarnings("ignore", ".* was trained to look again", UserWarning)
        return pipeline.ask(list(pictures) or sample.open_all(), sample.question, **asked)


def describe_answer(
    answer: Answer, sample: Sample, metric: Metric, keep_logits: bool = False
) -> Outcome:
    """What became of a sample that was answered."""
    looks = [replace(look, crop=None) for look in answer.looks]
    score = None if sample.answer is None else metric(answer.text, sample.answer)
    logits = answer.turns[0].logits
    first_logits = logits[0].copy() if keep_logits and logits is not None else None
    return Outcome(
        text=answer.text,
        raw=answer.raw,
        looks=tuple(looks),
        score=score,
        seconds=answer.usage.seconds,
        finish_reason=answer.finish_reason,
        first_logits=first_logits,
    )


def describe_failure(sample: Sample, error: VptError) -> Outcome:
    """What became of a sample that cannot be asked."""
    score = None if sample.answer is None else 0.0
    return Outcome("", "", (), score, {}, "failed", str(error))


def compare(outcomes: Sequence[Outcome], others: Sequence[Outcome]) -> Agreement:
    """How far ``outcomes`` agree with ``others``, the reference's for the same samples."""
    if len(outcomes) != len(others) or not outcomes:
        raise VptError(
            f"found {len(outcomes)} and {len(others)} outcomes, "
            "expected as many of each and one at least"
        )
    pairs = list(zip(outcomes, others, strict=True))
    changed = [float(one.text != other.text) for one, other in pairs]
    same_triggers = [one.triggers == other.triggers for one, other in pairs]
    regions = [pair for pair in pairs if pair[0].regions or pair[1].regions]
    same_cells = [one.regions == other.regions for one, other in regions]
    ious = [overlap_of_looks(one, other) for one, other in regions]
    scores, other_scores = _common_scores(pairs)
    losses = _losses(scores, other_scores, changed)
    divergences = _first_token_divergences(pairs)
    return Agreement(
        count=len(pairs),
        answers_equal=1 - _mean(changed),
        triggers_equal=_mean(same_triggers),
        cells_equal=_mean(same_cells or [True]),
        cells_iou=_mean(ious or [1.0]),
        regions=len(regions),
        labelled=len(scores),
        accuracy=_mean_or_none(scores),
        other_accuracy=_mean_or_none(other_scores),
        drop=_mean(losses),
        drop_interval=interval(losses),
        first_token_kl=_mean_or_none(divergences),
        first_tokens=len(divergences),
    )


def _common_scores(pairs: Sequence[tuple[Outcome, Outcome]]) -> tuple[list[float], list[float]]:
    """The scores of both, over the samples with a true answer."""
    scores = []
    other_scores = []
    for one, other in pairs:
        if one.score is not None and other.score is not None:
            scores.append(one.score)
            other_scores.append(other.score)
    return scores, other_scores


def _losses(
    scores: Sequence[float], other_scores: Sequence[float], changed: Sequence[float]
) -> list[float]:
    """Of each sample: points that are lost, or without labels 100 where the answer has changed."""
    if not scores:
        return [100 * share for share in changed]
    return [100 * (other - one) for one, other in zip(scores, other_scores, strict=True)]


def _first_token_divergences(pairs: Sequence[tuple[Outcome, Outcome]]) -> list[float]:
    divergences = []
    for one, other in pairs:
        logits = one.first_logits
        reference = other.first_logits
        if logits is None or reference is None or logits.shape != reference.shape:
            continue
        divergences.append(divergence(reference, logits))
    return divergences


def latency(outcomes: Sequence[Outcome]) -> dict[str, Latency]:
    """Median and 95th percentile of each stage's seconds over the samples that were answered."""
    answered = [outcome.seconds for outcome in outcomes if outcome.seconds]
    if not answered:
        return {}
    latencies = {}
    for stage in answered[0]:
        median, p95 = np.percentile([seconds[stage] for seconds in answered], (50, 95))
        latencies[stage] = Latency(float(median), float(p95))
    return latencies


def accuracy(outcomes: Sequence[Outcome]) -> tuple[float, tuple[float, float]] | None:
    """The mean score and its 95 % interval; None where no true answer is known."""
    scores = [outcome.score for outcome in outcomes if outcome.score is not None]
    if not scores:
        return None
    return _mean(scores), interval(scores)


def looked_again(outcomes: Sequence[Outcome]) -> float:
    """The share of the samples in which the model looked again."""
    return sum(bool(outcome.looks) for outcome in outcomes) / len(outcomes)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def _mean_or_none(values: Sequence[float]) -> float | None:
    return _mean(values) if values else None
