"""What the trials say: a row each, those that nothing beats, and the choice."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from vpt_edge.calibration.evaluation import accuracy
from vpt_edge.tuning.candidate import DEFAULT

if TYPE_CHECKING:
    from vpt_edge.tuning.candidate import Candidate
    from vpt_edge.tuning.reply import Reply
    from vpt_edge.tuning.search import Trial

HEADER = (
    *("", "accuracy", "drop", "answers equal", "boxes' IoU"),
    *("first token", "whole answer", "peak memory"),
)
MILLISECONDS = "{:,.1f} ms"


@dataclass(frozen=True)
class Row:
    """A trial in figures; ``count``: samples that were asked.

    ``accuracy`` and its 95 % interval, None without true answers; ``drop`` from the default in the
    same samples, in points, or without true answers in percent of answers that differ, and its 95 %
    interval; ``answers_equal`` the share of answers that are the default's; ``boxes_iou`` the mean
    overlap of the regions that were looked at. ``first_token`` and ``whole``: median seconds.
    ``memory``: peak bytes, None where it was not measured. ``held``: whether all samples were asked
    and the drop is allowed; ``stopped``: why not all were. ``optimal``: whether no other row with
    all samples is as good in drop, whole and memory, and better in one.
    """

    name: str
    candidate: Candidate
    held: bool
    stopped: str
    count: int = 0
    labelled: int = 0
    accuracy: float | None = None
    accuracy_interval: tuple[float, float] | None = None
    drop: float | None = None
    drop_interval: tuple[float, float] | None = None
    answers_equal: float | None = None
    boxes_iou: float | None = None
    first_token: float | None = None
    whole: float | None = None
    memory: int | None = None
    optimal: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The row as JSON types."""
        data = asdict(self)
        candidate = data.pop("candidate")
        del candidate["cost"]
        return {**candidate.pop("setting"), **candidate, **data}


def describe_trial(
    trial: Trial, default: Trial, names: Sequence[str], max_drop: float, timed: Sequence[Reply]
) -> Row:
    """The row of a trial, but for its memory; ``timed``: replies whose seconds count, or none."""
    row = Row(
        name=trial.candidate.describe(list(names)),
        candidate=trial.candidate,
        held=trial.holds(default, max_drop),
        stopped=trial.stopped,
    )
    agreement = trial.compare(default)
    if agreement is None:
        return row
    replies = trial.replies.values()
    first_tokens = [reply.first_token for reply in timed or replies]
    wholes = [reply.whole for reply in timed or replies]
    row = replace(
        row,
        count=agreement.count,
        labelled=agreement.labelled,
        drop=agreement.drop,
        drop_interval=agreement.drop_interval,
        answers_equal=agreement.answers_equal,
        boxes_iou=agreement.cells_iou,
        first_token=_median(first_tokens),
        whole=_median(wholes),
    )
    mean_and_interval = accuracy([reply.outcome for reply in replies])
    if mean_and_interval is None:
        return row
    mean, interval = mean_and_interval
    return replace(row, accuracy=mean, accuracy_interval=interval)


def _median(values: Sequence[float | None]) -> float | None:
    measured = [value for value in values if value is not None]
    return statistics.median(measured) if measured else None


def describe_trials(
    trials: Sequence[Trial],
    names: Sequence[str],
    max_drop: float,
    timed: Mapping[Candidate, Sequence[Reply]],
    memories: Mapping[Candidate, int | None],
) -> list[Row]:
    """The rows, the default's first, each with whether it is ``optimal``.

    ``timed``: replies whose seconds count, in the place of the trials'.
    """
    rows = []
    for trial in trials:
        seconds = timed.get(trial.candidate, ())
        row = describe_trial(trial, trials[0], names, max_drop, seconds)
        rows.append(replace(row, memory=memories.get(trial.candidate)))
    complete = [row for row in rows if not row.stopped]
    marked = []
    for row in rows:
        is_beaten = any(_beats(other, row) for other in complete)
        marked.append(replace(row, optimal=not row.stopped and not is_beaten))
    return marked


def _beats(row: Row, other: Row) -> bool:
    losses = _losses(row)
    others = _losses(other)
    is_as_good = all(one <= two for one, two in zip(losses, others, strict=True))
    return is_as_good and losses != others


def _losses(row: Row) -> tuple[float, float, float]:
    """What is better the less of it there is."""
    return (row.drop or 0.0, row.whole or 0.0, float(row.memory or 0))


def choose(rows: Sequence[Row]) -> Row:
    """The row with the shortest whole answer among those that held: the default's is one."""
    held = [row for row in rows if row.held and row.whole is not None]
    return min(held, key=_seconds, default=rows[0])


def _seconds(row: Row) -> float:
    assert row.whole is not None
    return row.whole


def texts(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """HEADER's columns of the rows with all samples."""
    return [_texts(row) for row in rows if not row.stopped]


def _texts(row: Row) -> tuple[str, ...]:
    name = row.name
    if row.optimal:
        name += " *"
    accuracies = ""
    if row.accuracy is not None and row.accuracy_interval is not None:
        low, high = row.accuracy_interval
        accuracies = f"{100 * row.accuracy:.2f} % ({100 * low:.2f} to {100 * high:.2f})"
    return (
        name,
        accuracies,
        _drop(row),
        _format(row.answers_equal, 100, "{:.1f} %"),
        _format(row.boxes_iou, 1, "{:.3f}"),
        _format(row.first_token, 1000, MILLISECONDS),
        _format(row.whole, 1000, MILLISECONDS),
        _format(row.memory, 1 / (1 << 20), "{:,.0f} MiB"),
    )


def _drop(row: Row) -> str:
    if row.candidate == DEFAULT or row.drop is None or row.drop_interval is None:
        return ""
    low, high = row.drop_interval
    return f"{row.drop:.2f} ({low:.2f} to {high:.2f})"


def _format(value: float | None, factor: float, form: str) -> str:
    """``value`` times ``factor``; nothing where it was not measured."""
    return "" if value is None else form.format(value * factor)


def stopped_texts(rows: Sequence[Row]) -> list[tuple[str, str, str]]:
    """Of the rows without all samples: the name, how many were asked, and why."""
    return [(row.name, f"{row.count:,}", row.stopped) for row in rows if row.stopped]


def describe_choice(row: Row, default: Row) -> str:
    """The choice in one sentence."""
    if row.candidate == DEFAULT or row.whole is None or default.whole is None:
        return "Nothing that was tried is faster and holds: the bundle stays as it was exported."
    share = row.whole / default.whole
    return (
        f"Chosen: {row.name}: {_format(row.whole, 1000, MILLISECONDS)} an answer, {share:.0%} of "
        f"the default's {_format(default.whole, 1000, MILLISECONDS)}, at a drop of {row.drop:.2f}."
    )
