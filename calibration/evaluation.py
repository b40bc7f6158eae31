"""What a bundle answers to samples, and how far two bundles agree."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from vpt_edge.calibration.metrics import divergence, interval, overlap
from vpt_edge.calibration.samples import too_many
from vpt_edge.runtime.errors import ImageError, PromptError, VptError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vpt_edge.calibration.metrics import Metric
    from vpt_edge.calibration.samples import Sample, Samples
    from vpt_edge.runtime.image import Box
    from vpt_edge.runtime.pipeline import Pipeline
    from vpt_edge.runtime.result import Answer, Looked

LOGITS_BYTES = (
    512 << 20
)  # of one bundle's first logits: 150,000 words over 2,000 samples would be more than a gigabyte


@dataclass(frozen=True)
class Outcome:
    """What became of one sample.

    ``looks`` are the answer's, without their crops; ``score`` is None without a true answer;
    ``seconds`` by stage; ``first_logits`` (vocabulary,) float32 of the first turn, if they were to
    be kept. A picture or a question that the model cannot be shown has ``finish_reason`` "failed",
    says why in ``error`` and scores 0."""

    text: str
    raw: str
    looks: tuple[Looked, ...]
    score: float | None
    seconds: dict[str, float]
    finish_reason: str
    error: str = ""
    first_logits: NDArray[np.float32] | None = field(default=None, repr=False, compare=False)

    @property
    def triggers(self) -> tuple[str, ...]:
        """The kinds of the looks, in order."""
        return tuple(look.kind for look in self.looks)

    @property
    def cells(self) -> tuple[Box, ...]:
        """The cells of the region looks, in order."""
        return tuple(look.cells for look in self.looks if look.cells is not None)


@dataclass(frozen=True)
class Agreement:
    """How far a bundle agrees with its reference, in shares of ``count`` samples unless said
    otherwise.

    ``cells_equal`` and ``cells_iou`` are of the ``regions`` samples in which either looked at a
    region (1.0 if none); accuracies are of the ``labelled`` samples, None if there are none.
    ``drop``, in points: how much more accurate the reference is, or without labels the share of
    changed answers in percent; ``drop_interval`` is its 95 % interval. ``first_token_kl``: mean
    divergence of the first token's distribution from the reference's, in nats, over the
    ``first_tokens`` samples whose logits were kept in both."""

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
    agree."""

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
        return (
            self.agreement is None or self.max_drop is None or self.agreement.within(self.max_drop)
        )

    @property
    def runs(self) -> dict[str, list[Outcome]]:
        """The outcomes by the bundle's name, the judged one first."""
        return {self.name: self.outcomes} | (
            {} if self.others is None else {self.other_name: self.others}
        )


class Latency(NamedTuple):
    """In seconds."""

    median: float
    p95: float


def evaluate(
    pipeline: Pipeline,
    samples: Sequence[Sample],
    metric: Metric,
    progress: Callable[[int], object] = lambda done: None,
    *,
    max_new_tokens: int = 1024,
    keep_logits: bool = False,
) -> list[Outcome]:
    """Ask each sample; ``progress`` is told how many are done.

    keep_logits: keep the first logits, of as many samples as fit into 512 MB.
    Raises VptError when 5 % of the samples or more cannot be asked, and what the pipeline raises
    beyond that."""
    outcomes: list[Outcome] = []
    room, failed = LOGITS_BYTES if keep_logits else 0, 0
    for sample in samples:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter(
                    "ignore", UserWarning
                )  # the hint at perceptions: the samples have chosen theirs
                answer = pipeline.ask(
                    sample.open(),
                    sample.question,
                    perception=sample.perception,
                    max_new_tokens=max_new_tokens,
                    keep_logits=room > 0,
                )
        except (ImageError, PromptError) as error:
            failed += 1
            if too_many(failed, len(samples)):
                raise VptError(
                    f"{failed} of {len(samples)} samples cannot be asked, expected less than 5 %; "
                    f"the last is {sample.image}: {error}"
                ) from error
            outcomes.append(_failed(sample, error))
        else:
            outcomes.append(_outcome(answer, sample, metric, keep_logits=room > 0))
            room -= pipeline.bundle.manifest.text.vocab_size * 4
        progress(len(outcomes))
    return outcomes


def _outcome(answer: Answer, sample: Sample, metric: Metric, keep_logits: bool) -> Outcome:
    logits = answer.turns[0].logits
    return Outcome(
        text=answer.text,
        raw=answer.raw,
        looks=tuple(replace(look, crop=None) for look in answer.looks),
        score=None if sample.answer is None else metric(answer.text, sample.answer),
        seconds=answer.usage.seconds,
        finish_reason=answer.finish_reason,
        first_logits=logits[0].copy() if keep_logits and logits is not None else None,
    )


def _failed(sample: Sample, error: VptError) -> Outcome:
    return Outcome("", "", (), None if sample.answer is None else 0.0, {}, "failed", str(error))


def compare(outcomes: Sequence[Outcome], others: Sequence[Outcome]) -> Agreement:
    """How far ``outcomes`` agree with ``others``, the reference's for the same samples."""
    if len(outcomes) != len(others) or not outcomes:
        raise VptError(
            f"found {len(outcomes)} and {len(others)} outcomes, expected as many of each and one at least"
        )
    pairs = list(zip(outcomes, others, strict=True))
    changed = [float(one.text != other.text) for one, other in pairs]
    regions = [(one.cells, other.cells) for one, other in pairs if one.cells or other.cells]
    scores = [(a.score, b.score) for a, b in pairs if a.score is not None and b.score is not None]
    losses = [100 * (other - score) for score, other in scores] or [
        100 * share for share in changed
    ]
    kls = [
        divergence(b.first_logits, a.first_logits)
        for a, b in pairs
        if a.first_logits is not None
        and b.first_logits is not None
        and a.first_logits.shape == b.first_logits.shape
    ]
    return Agreement(
        count=len(pairs),
        answers_equal=1 - _mean(changed),
        triggers_equal=_mean([one.triggers == other.triggers for one, other in pairs]),
        cells_equal=_mean([one == other for one, other in regions]) if regions else 1.0,
        cells_iou=_mean([overlap(one, other) for one, other in regions]) if regions else 1.0,
        regions=len(regions),
        labelled=len(scores),
        accuracy=_mean([score for score, _ in scores]) if scores else None,
        other_accuracy=_mean([other for _, other in scores]) if scores else None,
        drop=_mean(losses),
        drop_interval=interval(losses),
        first_token_kl=_mean(kls) if kls else None,
        first_tokens=len(kls),
    )


def latency(outcomes: Sequence[Outcome]) -> dict[str, Latency]:
    """Median and 95th percentile of each stage's seconds over the samples that were answered."""
    stages = next((outcome.seconds for outcome in outcomes if outcome.seconds), {})
    found = {
        stage: [outcome.seconds[stage] for outcome in outcomes if outcome.seconds]
        for stage in stages
    }
    return {
        stage: Latency(*map(float, np.percentile(values, (50, 95))))
        for stage, values in found.items()
    }


def accuracy(outcomes: Sequence[Outcome]) -> tuple[float, tuple[float, float]] | None:
    """The mean score and its 95 % interval; None where no true answer is known."""
    scores = [outcome.score for outcome in outcomes if outcome.score is not None]
    return (_mean(scores), interval(scores)) if scores else None


def worst(
    outcomes: Sequence[Outcome], others: Sequence[Outcome] | None = None, count: int = 20
) -> list[int]:
    """The indices of the ``count`` samples that lost most against ``others``, or that are most
    wrong; worst first.

    First by score, then by answer, triggers and cells. A sample with nothing wrong is not among
    them."""

    def badness(index: int) -> tuple[float, ...]:
        one = outcomes[index]
        if others is None:
            return (one.finish_reason == "failed", 0.0 if one.score is None else 1 - one.score)
        other = others[index]
        loss = (other.score or 0.0) - (one.score or 0.0)
        differs = (
            one.text != other.text,
            one.triggers != other.triggers,
            one.finish_reason != other.finish_reason,
        )
        return loss, *differs, 1 - overlap(one.cells, other.cells)

    ranked = sorted(range(len(outcomes)), key=badness, reverse=True)
    return [index for index in ranked if any(badness(index))][:count]


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))
