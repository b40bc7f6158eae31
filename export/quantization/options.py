"""How a quantized export is calibrated and judged."""

from __future__ import annotations

from dataclasses import dataclass

from vpt_edge.calibration.metrics import METRICS
from vpt_edge.calibration.ranges import RANGE_METHODS
from vpt_edge.export.quantization.recipe import INT4_BLOCK
from vpt_edge.runtime.errors import ExportError

KV_CACHES = ("float", "int8")


@dataclass(frozen=True)
class Calibration:
    """How a quantized export is calibrated and judged.

    ``data`` as ``samples.read_samples`` takes it; ``range_method`` is one of minmax, percentile,
    entropy, mse; ``max_drop`` in points of accuracy, or in percent of changed answers without
    labels (defaults 0.5 and 1); ``metric`` judges answers that have a label; ``block`` of int4
    weights; ``kv_cache``: what keys and values are kept in, "float" or "int8"; None: what is usual
    for the model where the target has it (Qwen3-VL: int8), else float.

    ``streamed``: whether the float model is read from the checkpoint again for each token, instead
    of from a float bundle; None: where the float bundle would be large. ``samples`` and
    ``answer_tokens`` limit what is asked (None: all samples and 64 tokens, fewer where the model is
    streamed). Raises ExportError for a value that is none of these.
    """

    data: str
    range_method: str = "percentile"
    smoothing: bool = True
    max_drop: float | None = None
    metric: str = "exact"
    block: int = INT4_BLOCK
    kv_cache: str | None = None
    streamed: bool | None = None
    samples: int | None = None
    answer_tokens: int | None = None

    def __post_init__(self) -> None:
        _check_choice("range_method", self.range_method, tuple(RANGE_METHODS))
        _check_choice("metric", self.metric, tuple(METRICS))
        if self.kv_cache is not None:
            _check_choice("kv_cache", self.kv_cache, KV_CACHES)
        _check_count("samples", self.samples)
        _check_count("answer_tokens", self.answer_tokens)


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ExportError(f"{name} {value!r} is unknown, expected one of: {', '.join(choices)}")


def _check_count(name: str, count: int | None) -> None:
    if count is not None and count < 1:
        raise ExportError(f"{name} is {count}, expected 1 or more")
