"""The page on an evaluation: figures, agreement, latency and the worst samples with pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from vpt_edge.calibration import html
from vpt_edge.calibration.evaluation import accuracy, latency, looked_again
from vpt_edge.calibration.outcome import overlap_of_looks
from vpt_edge.runtime.errors import ImageError
from vpt_edge.runtime.result import Answer, Usage

if TYPE_CHECKING:
    from PIL import Image

    from vpt_edge.calibration.evaluation import Evaluation
    from vpt_edge.calibration.outcome import Outcome
    from vpt_edge.calibration.sample import Sample


def page(evaluation: Evaluation, more: Sequence[tuple[str, str]] = ()) -> str:
    """The report of vpt-eval: figures, latency, ``more`` sections, and the worst twenty samples
    with pictures.
    """
    sections = [("Summary", _summary(evaluation))]
    if evaluation.agreement:
        header = ["", f"with {evaluation.other_name}"]
        sections.append(("Agreement", html.table(header, agreements(evaluation))))
    sections.append(("Latency", _latency(evaluation)))
    sections += more
    sections.append(("Worst samples", _worst_samples(evaluation)))
    title = evaluation.name
    if evaluation.others:
        title = f"{evaluation.name} against {evaluation.other_name}"
    return html.page(title, sections)


def _summary(evaluation: Evaluation) -> str:
    summary = html.table(["", *evaluation.runs], figures(evaluation))
    if evaluation.max_drop is None:
        return summary
    verdict = "held" if evaluation.passed else "exceeded"
    text = f"Allowed drop {evaluation.max_drop:g} points: {verdict}"
    return html.paragraph(text, "good" if evaluation.passed else "bad") + summary


def _latency(evaluation: Evaluation) -> str:
    """A plot of each stage's median, and a table."""
    medians = {}
    stages = list[str]()
    header = ["stage, ms"]
    for name, outcomes in evaluation.runs.items():
        seconds = latency(outcomes)
        stages = stages or list(seconds)
        medians[name] = [1000 * stage.median for stage in seconds.values()]
        header += [f"{name} median", f"{name} p95"]
    if not stages:
        return html.paragraph("No sample was answered.")
    return html.bars(stages, medians) + html.table(header, latencies(evaluation))


def figures(evaluation: Evaluation) -> list[tuple[str, ...]]:
    """Rows of a name and a text for each bundle."""
    runs = list(evaluation.runs.values())
    rows = [("samples", *(f"{len(run):,}" for run in runs))]
    labelled = sum(outcome.score is not None for outcome in evaluation.outcomes)
    if labelled:
        name = f"accuracy ({evaluation.metric}, {labelled:,} true answers)"
        rows.append((name, *map(_accuracy, runs)))
    rows.append(("looked again", *(_percent(looked_again(run)) for run in runs)))
    for reason in _reasons(runs):
        counts = [str(_count(run, reason)) for run in runs]
        rows.append((f"finished with {reason}", *counts))
    if evaluation.data.unreadable:
        count = str(len(evaluation.data.unreadable))
        rows.append(("unreadable pictures, left out", *[count] * len(runs)))
    return rows


def _count(outcomes: Sequence[Outcome], reason: str) -> int:
    return sum(outcome.finish_reason == reason for outcome in outcomes)


def _reasons(runs: Sequence[Sequence[Outcome]]) -> list[str]:
    """Why answers finished, where it was not a stop."""
    reasons = {outcome.finish_reason for run in runs for outcome in run}
    return sorted(reasons - {"stop"})


def agreements(evaluation: Evaluation) -> list[tuple[str, str]]:
    """Rows of a name and a text; none without a reference."""
    agreement = evaluation.agreement
    if agreement is None:
        return []
    low, high = agreement.drop_interval
    unit = "points" if agreement.labelled else "% of answers"
    rows = [
        ("drop", f"{agreement.drop:.2f} {unit} (95 %: {low:.2f} to {high:.2f})"),
        ("answers equal", _percent(agreement.answers_equal)),
        ("triggers equal", _percent(agreement.triggers_equal)),
        (f"region cells equal, of {agreement.regions:,}", _percent(agreement.cells_equal)),
        ("mean overlap of cells", f"{agreement.cells_iou:.4f}"),
    ]
    if agreement.first_token_kl is not None:
        name = f"first-token KL, of {agreement.first_tokens:,}"
        rows.append((name, f"{agreement.first_token_kl:.3g} nats"))
    return rows


def latencies(evaluation: Evaluation) -> list[tuple[str, ...]]:
    """Rows of a stage, and median and 95th percentile in milliseconds for each bundle."""
    seconds = [latency(run) for run in evaluation.runs.values()]
    rows = []
    for stage in seconds[0]:
        values = [value for of_run in seconds for value in of_run[stage]]
        rows.append((stage, *(f"{1000 * value:.2f}" for value in values)))
    return rows


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _accuracy(outcomes: Sequence[Outcome]) -> str:
    mean_and_interval = accuracy(outcomes)
    if mean_and_interval is None:
        return ""
    mean, (low, high) = mean_and_interval
    return f"{_percent(mean)} (95 %: {100 * low:.2f} to {100 * high:.2f})"


def worst(
    outcomes: Sequence[Outcome], others: Sequence[Outcome] | None = None, count: int = 20
) -> list[int]:
    """The indices of the ``count`` samples that lost most against ``others``, or that are most
    wrong; worst first.

    First by score, then by answer, triggers and cells. A sample with nothing wrong is not among
    them.
    """

    badness = dict[int, tuple[float, ...]]()
    for index, outcome in enumerate(outcomes):
        other = others[index] if others is not None else None
        badness[index] = _badness(outcome, other)
    ranked = sorted(badness, key=lambda index: badness[index], reverse=True)
    return [index for index in ranked if any(badness[index])][:count]


def _badness(one: Outcome, other: Outcome | None) -> tuple[float, ...]:
    """To be compared from the left on; all zeros where nothing is wrong."""
    if other is None:
        error = 0.0 if one.score is None else 1 - one.score
        return (one.finish_reason == "failed", error)
    return (
        (other.score or 0.0) - (one.score or 0.0),
        one.text != other.text,
        one.triggers != other.triggers,
        one.finish_reason != other.finish_reason,
        1 - overlap_of_looks(one, other),
    )


def _worst_samples(evaluation: Evaluation) -> str:
    indices = worst(evaluation.outcomes, evaluation.others)
    if not indices:
        return html.paragraph("No sample differs." if evaluation.others else "No sample is wrong.")
    parts = []
    for index in indices:
        sample = evaluation.data.samples[index]
        truth = "" if sample.answer is None else f" True answer: {sample.answer}"
        parts.append(html.paragraph(f"{sample.image.name}: {sample.question}{truth}", "sample"))
        runs = evaluation.runs.items()
        parts.append(html.pair(*(_figure(name, sample, run[index]) for name, run in runs)))
    return "\n".join(parts)


def _figure(name: str, sample: Sample, outcome: Outcome) -> str:
    looks = "; ".join(look.describe() for look in outcome.looks) or "answered at the first look"
    answer = outcome.error or outcome.text
    try:
        plot = _overlay(sample, outcome)
    except (ImageError, ValueError, ZeroDivisionError) as error:  # last two: crop without a pixel
        return html.paragraph(f"{name}: {answer} (no picture: {error})")
    return html.picture(plot, [(f"{name}:", answer), ("", looks)])


def _overlay(sample: Sample, outcome: Outcome) -> Image.Image:
    """What ``Answer.plot`` draws: outcomes keep no pictures, so the crops are cut again."""
    image, *others = images = sample.open_all()
    looks = []
    for look in outcome.looks:
        crop = images[look.picture].crop(look.box) if look.box else None
        looks.append(replace(look, crop=crop))
    answer = Answer(
        text=outcome.text,
        raw=outcome.raw,
        turns=(),
        looks=tuple(looks),
        finish_reason=outcome.finish_reason,
        usage=Usage(0, 0, 0, 0, 0, 0, {}),
        question=sample.question,
        image=image,
        others=tuple(others),
    )
    return answer.plot()
