"""The page on a tuning: the choice, the plot, the table, and what was given up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vpt_edge.calibration import html
from vpt_edge.tuning.decision import ALPHA
from vpt_edge.tuning.plot import Point, scatter
from vpt_edge.tuning.table import HEADER, describe_choice, stopped_texts, texts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vpt_edge.tuning.table import Row

NOTE = (
    "Accuracies and drops with their 95 % intervals; seconds are medians. No row is as good in "
    "drop, seconds and memory as one with a star, and better in one of them."
)
WARNING = (
    "The choice is the fastest of several on these samples, which flatters it: vpt-eval on samples "
    "that were not used here says what it is worth."
)


def page(title: str, rows: Sequence[Row], chosen: Row, max_drop: float) -> str:
    """The report of vpt-tune; the first of the ``rows`` is the default's."""
    allowed = f"Allowed drop {max_drop:g}."
    choice = html.paragraph(describe_choice(chosen, rows[0]), "good") + html.paragraph(allowed)
    sections = [("Choice", choice + html.paragraph(WARNING))]
    points = [_point(row, chosen) for row in rows if not row.stopped and row.whole is not None]
    if points:
        unit = "accuracy, %" if rows[0].accuracy is not None else "answers equal, %"
        sections.append(("Plot", scatter(points, "seconds of a whole answer, median", unit)))
    table = html.table(HEADER, texts(rows))
    sections.append(("Settings that were asked all samples", html.paragraph(NOTE) + table))
    stopped = stopped_texts(rows)
    if stopped:
        why = f"A setting that holds is given up in at most {ALPHA:.0%} of all tunings."
        given_up = html.table(("", "samples", "why"), stopped)
        sections.append(("Given up", html.paragraph(why) + given_up))
    return html.page(title, sections)


def _point(row: Row, chosen: Row) -> Point:
    assert row.whole is not None
    value = 100 * (row.accuracy or 0.0)
    low = value
    high = value
    if row.accuracy_interval is not None:
        low = 100 * row.accuracy_interval[0]
        high = 100 * row.accuracy_interval[1]
    elif row.drop is not None and row.drop_interval is not None:
        value = 100 - row.drop
        low = 100 - row.drop_interval[1]
        high = 100 - row.drop_interval[0]
    return Point(row.name, row.whole, value, low, high, row.optimal, row == chosen)
