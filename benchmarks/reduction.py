"""Fewer visual tokens of a first view against a smaller picture of as many, on your own questions.

python demo/scenes.py --seed 77 --count 1000 --out build/scenes
python benchmarks/reduction.py build/demo-bundle-fp32 --data build/scenes/data.jsonl --least 1

Each question is asked with the whole first view, with a picture of a share of its pixels, with as
many tokens of the whole one as DART chooses, and with as many chosen at random, which tells how
much of it is the choosing. Looks are the same in all of them. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections import defaultdict
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np

from vpt_edge.calibration.evaluation import accuracy, compare, describe_answer
from vpt_edge.calibration.metrics import METRICS, interval
from vpt_edge.calibration.samples import read_samples
from vpt_edge.runtime import Pipeline, reduction
from vpt_edge.runtime.models import open_tower
from vpt_edge.runtime.perception import open_perception
from vpt_edge.runtime.processor import MERGE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from vpt_edge.calibration.metrics import Metric
    from vpt_edge.calibration.outcome import Outcome
    from vpt_edge.calibration.sample import Sample
    from vpt_edge.runtime.encoded_picture import EncodedPicture

    Floats = NDArray[np.float64]

WHOLE = "whole"
SMALLER = "smaller picture"
DART = "DART"
RANDOM = "at random"


class Comparison:
    """Asks each sample in every way and keeps, by the way's name, outcomes and tokens."""

    def __init__(self, pipeline: Pipeline, metric: Metric, shares: Sequence[float]) -> None:
        self.samples: list[Sample] = []
        self.outcomes: dict[str, list[Outcome]] = defaultdict(list)
        self.tokens: dict[str, list[int]] = defaultdict(list)
        self.shares = tuple(shares)
        self._pipeline = pipeline
        self._metric = metric
        manifest = pipeline.bundle.manifest
        self._pad = manifest.tokens.image_pad
        self._area = (open_tower(manifest).patch * MERGE) ** 2  # pixels of a visual token
        self._min_pixels = manifest.image.min_pixels
        self._random = np.random.default_rng(0)

    def ask(self, sample: Sample) -> None:
        self.samples.append(sample)
        images = sample.open_all()
        with self._pipeline.encode(images) as picture:
            whole = self._ask(WHOLE, picture, sample)
            for share in self.shares:
                pixels = max(int(share * whole * self._area), self._min_pixels)
                name = f"{share:.0%} {SMALLER}"
                tokens = self._ask(name, picture, sample, first_max_pixels=pixels)
                part = {"first_token_share": tokens / whole}
                self._ask(f"{share:.0%} {DART}", picture, sample, **part)
                with mock.patch.object(reduction, "choose_tokens", self._choose_at_random):
                    again = self._pipeline.encode(images)  # which remembers no choice
                    self._ask(f"{share:.0%} {RANDOM}", again, sample, **part)

    def _choose_at_random(self, features: Any, count: int) -> Any:
        return np.sort(self._random.permutation(len(features))[:count])

    def _ask(self, name: str, picture: EncodedPicture, sample: Sample, **options: Any) -> int:
        """Keep what comes of it; returns the visual tokens of the first view."""
        perception = sample.perception
        answer = picture.ask(sample.question, perception=perception, temperature=0.0, **options)
        tokens = answer.turns[0].prompt_ids.count(self._pad)
        self.outcomes[name].append(describe_answer(answer, sample, self._metric))
        self.tokens[name].append(tokens)
        return tokens


def table(comparison: Comparison) -> list[str]:
    """A row for each way, with the accuracy of each way of asking."""
    modes = sorted({sample.perception for sample in comparison.samples})
    lines = [f"| first view | tokens | accuracy (95 %) | {' | '.join(modes)} | answers | looks |"]
    lines.append("|---" + "|---:" * (len(modes) + 4) + "|")
    whole = comparison.outcomes[WHOLE]
    for name, outcomes in comparison.outcomes.items():
        agreement = compare(outcomes, whole)
        cells = [name, f"{np.mean(comparison.tokens[name]):.1f}", in_percent(outcomes)]
        for mode in modes:
            of_mode = []
            for sample, outcome in zip(comparison.samples, outcomes, strict=True):
                if sample.perception == mode:
                    of_mode.append(outcome)
            cells.append(in_percent(of_mode).partition(" (")[0])
        cells += [f"{agreement.answers_equal:.1%}", f"{agreement.cells_iou:.3f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def in_percent(outcomes: Sequence[Outcome]) -> str:
    """Accuracy with its 95 % interval; a hyphen where no true answer is known."""
    shares = accuracy(outcomes)
    if shares is None:
        return "-"
    mean, (low, high) = shares
    return f"{mean:.1%} ({100 * low:.1f} to {100 * high:.1f})"


def verdicts(comparison: Comparison) -> list[str]:
    """Whether DART beats a smaller picture of as many tokens, sample by sample."""
    lines = []
    for share in comparison.shares:
        dart = points(comparison, f"{share:.0%} {DART}")
        smaller = points(comparison, f"{share:.0%} {SMALLER}")
        gains = dart - smaller
        low, high = interval(gains.tolist())
        verdict = "beats it" if low > 0 else "does not beat it"
        lines.append(
            f"{share:.0%}: DART less a smaller picture {gains.mean():+.2f} points "
            f"({low:+.2f} to {high:+.2f}): {verdict}"
        )
    return lines


def points(comparison: Comparison, name: str) -> Floats:
    """Of each sample, by its true answer; where nobody knows that, by that of the whole view."""
    values = []
    for outcome, whole in zip(comparison.outcomes[name], comparison.outcomes[WHOLE], strict=True):
        score = outcome.score
        if score is None:
            score = float(outcome.text == whole.text)
        values.append(100 * score)
    return np.array(values)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle")
    parser.add_argument("--data", required=True, help="as of vpt-eval")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.77, 0.57])
    parser.add_argument("--metric", choices=METRICS, default="exact")
    parser.add_argument(
        "--least",
        type=int,
        default=reduction.LEAST_TOKENS,
        help="tokens below which none is dropped, where first views are too small for the usual",
    )
    options = parser.parse_args()
    warnings.filterwarnings("ignore", ".* was trained to look again", UserWarning)
    with (
        Pipeline(options.bundle) as pipeline,
        mock.patch.object(reduction, "LEAST_TOKENS", options.least),
    ):
        data = read_samples(options.data, open_perception(pipeline.bundle.manifest).modes)
        comparison = Comparison(pipeline, METRICS[options.metric], options.shares)
        for index, sample in enumerate(data.samples):
            comparison.ask(sample)
            if sys.stderr.isatty():
                print(f"\r{index + 1} of {len(data.samples)}", end="", file=sys.stderr)
    print("\n".join([*table(comparison), "", *verdicts(comparison)]))


if __name__ == "__main__":
    main()
