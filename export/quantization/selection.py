"""Which samples calibrate a quantized model, and which judge it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vpt_edge.calibration.samples import VPT_MODES, read_samples
from vpt_edge.runtime.errors import VptError
from vpt_edge.runtime.files import sha256
from vpt_edge.runtime.names import readable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vpt_edge.calibration.sample import Sample
    from vpt_edge.export.quantization.options import Calibration
    from vpt_edge.runtime.perception.actions import Mode

FEW = 64  # samples, below which the result is called little proven
FEWEST = 12  # below which none is held out
ANSWER_TOKENS = 64
STREAMED_SAMPLES = 16  # where each token is a pass over the checkpoint
STREAMED_TOKENS = 8


@dataclass(frozen=True)
class Selection:
    """``notes`` say what the user should know of the samples; ``answer_tokens`` end an answer."""

    calibration: tuple[Sample, ...]
    held_out: tuple[Sample, ...]
    answer_tokens: int
    notes: tuple[str, ...]


def select_samples(
    options: Calibration, streamed: bool, modes: Sequence[Mode] = VPT_MODES
) -> Selection:
    """The samples of ``options.data`` that are asked; fewer where the float model is ``streamed``.

    ``modes``: those of the model's way of looking. Raises VptError as ``read_samples`` does.
    """
    samples = read_samples(options.data, modes)
    notes = [readable(line) for line in samples.unreadable]
    tokens = options.answer_tokens or (STREAMED_TOKENS if streamed else ANSWER_TOKENS)
    most = options.samples or (STREAMED_SAMPLES if streamed else len(samples.samples))
    limits = _limits(most, len(samples.samples), tokens)
    if limits:
        reason = "the float model is streamed from the checkpoint for each token: "
        notes.append((reason if streamed else "") + " and ".join(limits))
    drawn = _draw(samples.samples, most)
    calibration, held_out = split(drawn)
    if len(drawn) < FEW:
        notes.append(
            f"only {len(drawn)} samples: ranges and gate say little about other pictures; "
            f"give {FEW} or more"
        )
    if len(drawn) < FEWEST:
        notes.append("too few samples to hold any out: the gate judges on the calibration samples")
        calibration = drawn
        held_out = drawn
    return Selection(calibration, held_out, tokens, tuple(notes))


def _limits(most: int, count: int, tokens: int) -> list[str]:
    """What is left out is no secret."""
    limits = []
    if most < count:
        limits.append(f"{most} of {count} samples are asked (--samples)")
    if tokens < ANSWER_TOKENS:
        limits.append(f"answers end after {tokens} tokens (--answer-tokens)")
    return limits


def _draw(samples: Sequence[Sample], most: int) -> tuple[Sample, ...]:
    """At most ``most`` of the samples in their order, drawn alike each time."""
    indices = np.random.default_rng(0).permutation(len(samples))[:most]
    return tuple(samples[index] for index in sorted(indices))


def split(
    samples: Sequence[Sample], held_out: float = 0.25
) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    """Divide into (calibration, gate) by content: the same samples are parted alike in any order
    and any folder.

    The questions about one picture stay together, but for the picture at the border. The gate gets
    the share ``held_out``, and of two samples or more each part gets one at least.
    """
    if not 0 < held_out < 1:
        raise VptError(f"held_out is {held_out}, expected a share between 0 and 1")
    pictures = {sample.image for sample in samples}
    digests = {path: sha256(path) for path in pictures}

    def key(index: int) -> tuple[str, str]:
        sample = samples[index]
        text = repr((sample.box, sample.question, sample.perception, sample.answer))
        if sample.others:
            text += repr([sha256(path) for path in sample.others])
        return digests[sample.image], hashlib.sha256(text.encode()).hexdigest()

    size = min(max(round(held_out * len(samples)), 1), len(samples) - 1)
    ranked = sorted(range(len(samples)), key=key)
    for_gate = set(ranked[: max(size, 0)])
    calibration: list[Sample] = []
    gate: list[Sample] = []
    for index, sample in enumerate(samples):
        part = gate if index in for_gate else calibration
        part.append(sample)
    return tuple(calibration), tuple(gate)
