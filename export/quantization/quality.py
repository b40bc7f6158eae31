"""The page on a quantized bundle: how it agrees with its float self, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from vpt_edge.calibration import html
from vpt_edge.calibration.ranges import minmax
from vpt_edge.calibration.report import page

if TYPE_CHECKING:
    from vpt_edge.calibration.evaluation import Evaluation
    from vpt_edge.calibration.ranges import Statistics
    from vpt_edge.calibration.recorder import Key
    from vpt_edge.export.quantization.plan import QuantizationPlan

LISTED = 24  # matmuls in a plot


def quality_report(
    evaluation: Evaluation,
    plan: QuantizationPlan,
    statistics: Mapping[Key, Statistics],
    errors: Mapping[Key, float],
) -> str:
    """Agreement, error (largest first) and range by matmul, what stayed in float, worst samples."""
    sections = [
        ("Error of the matmuls' outputs, percent", _error_bars(errors)),
        ("Widest ranges", _range_bars(plan, statistics)),
        ("Left in float", _float_table(plan)),
    ]
    return page(evaluation, sections)


def _error_bars(errors: Mapping[Key, float]) -> str:
    worst = list(errors)[:LISTED]
    return html.bars(_labels(worst), {"error": [100 * errors[key] for key in worst]})


def _range_bars(plan: QuantizationPlan, statistics: Mapping[Key, Statistics]) -> str:
    ranges = {key: minmax(of_weight) for key, of_weight in statistics.items()}
    widest = sorted(ranges, key=lambda key: -ranges[key])[:LISTED]
    largest = [ranges[key] for key in widest]
    clipped = [plan.thresholds.get(key, 0.0) for key in widest]
    return html.bars(_labels(widest), {"largest value": largest, "clipped at": clipped})


def _float_table(plan: QuantizationPlan) -> str:
    if not plan.floats:
        return html.paragraph("Nothing.")
    rows = [(f"{graph} {weight}", reason) for (graph, weight), reason in plan.floats.items()]
    return html.table(["matmul", "why"], rows)


def _labels(keys: Sequence[Key]) -> list[str]:
    return [weight.removesuffix(".weight") for _, weight in keys]
