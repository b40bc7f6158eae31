"""How fast a bundle answers on this machine, and what it takes.

Each run is one whole answer with one look, from a picture in memory. As in steady use the
template's text in front of the picture is computed already."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import re
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

from vpt_edge.device import libraries, machine
from vpt_edge.device.power import Meter, clocks
from vpt_edge.device.tables import Figure, Report
from vpt_edge.runtime import host
from vpt_edge.runtime.errors import VptError
from vpt_edge.runtime.image import open_picture
from vpt_edge.runtime.overlay import describe
from vpt_edge.runtime.pipeline import Pipeline
from vpt_edge.runtime.result import STAGES
from vpt_edge.runtime.sessions import trt

if TYPE_CHECKING:
    from vpt_edge.runtime.bundle import Bundle
    from vpt_edge.runtime.result import Answer
    from vpt_edge.runtime.sessions import SessionOpener

RUNS, WARM_UP = 10, 2
SIZE = (640, 480)  # of the picture that is drawn
QUESTION = "What does the picture show?"
REGION = "<|region_token_start|><|x_3|><|y_3|><|x_4|><|y_4|><|region_token_end|>"
MAX_NEW_TOKENS = 64  # for each turn
MODULES = (
    "numpy",
    "PIL",
    "tokenizers",
    "onnxruntime",
    *(name for names in trt.MODULES.values() for name in names),
)


class Run(NamedTuple):
    seconds: float
    answer: Answer


def measure(
    bundle: str | os.PathLike[str] | Bundle,
    *,
    device: str = "cpu",
    image: str | None = None,
    question: str = QUESTION,
    runs: int = RUNS,
    opener: SessionOpener | None = None,
) -> Report:
    """Open ``bundle``, answer ``question`` WARM_UP times, then ``runs`` times under the clock."""
    if runs < 1:
        raise VptError(f"found {runs} runs, expected 1 or more; --runs {RUNS} is the default")
    picture = drawn() if image is None else open_picture(image)
    here = _machine()
    start = time.perf_counter()
    pipeline = Pipeline(bundle, device, opener=opener)
    start_up = time.perf_counter() - start
    with pipeline, _progress():
        for _ in _counted("warm-up", WARM_UP):
            _answer(pipeline, picture, question)
        with Meter() as meter:
            timed = [_answer(pipeline, picture, question) for _ in _counted("run", runs)]
        gpu = None if device == "cpu" else libraries.open_gpu()
        free, total = gpu.memory() if gpu else (0, 0)
    last = timed[-1].answer
    return Report(
        bundle=_bundle(pipeline.bundle),
        request=_request(pipeline.bundle, picture, image, question, last),
        tokens=_tokens(pipeline.bundle, last),
        runs=runs,
        warm_up=WARM_UP,
        figures={"start_up": Figure.of([start_up]), **figures(timed)},
        shares=shares(timed),
        peak_memory=_peak_memory(),
        device_memory=total - free if gpu else None,
        joules={rail: joules / runs for rail, joules in meter.joules.items()},
        watts={rail: joules / meter.seconds for rail, joules in meter.joules.items()},
        machine={"device": f"{device}, {libraries.driver().found}" if gpu else device, **here},
        versions=_versions(),
    )


def drawn() -> Image.Image:
    """The picture of SIZE that is asked about unless another is given: a chequered slope of
    colours."""
    width, height = SIZE
    row, column = np.mgrid[:height, :width]
    chequers = (row // 40 + column // 40) % 2 * 255
    return Image.fromarray(
        np.dstack([column * 255 // width, row * 255 // height, chequers]).astype(np.uint8)
    )


def _answer(pipeline: Pipeline, picture: Image.Image, question: str) -> Run:
    """One answer.

    Where the model can look, a region is put into its mouth: what it would say itself is not known.
    """
    looks = bool(pipeline.bundle.manifest.tokens.triggers)
    start = time.perf_counter()
    answer = pipeline.ask(
        picture,
        question,
        perception="region" if looks else "off",
        assistant_prefix=REGION if looks else "",
        max_new_tokens=MAX_NEW_TOKENS,
    )
    return Run(time.perf_counter() - start, answer)


def figures(runs: Sequence[Run]) -> dict[str, Figure | None]:
    """Percentiles over ``runs``.

    An encode is the mean of a run's; a turn's first token is of the prefill.
    """
    usages = [run.answer.usage for run in runs]
    steps = [
        usage.generated_tokens - len(run.answer.turns)
        for run, usage in zip(runs, usages, strict=True)
    ]
    decode = [
        usage.seconds["decode"] / count if count else None
        for usage, count in zip(usages, steps, strict=True)
    ]
    return {
        "first_token": Figure.of([usage.waits[0] for usage in usages]),
        "decode": Figure.of(decode, rate=True),
        "vision_encode": Figure.of(
            [usage.seconds["vision"] / usage.vision_runs for usage in usages]
        ),
        "look": Figure.of([usage.waits[1] if len(usage.waits) > 1 else None for usage in usages]),
        "answer": Figure.of([run.seconds for run in runs]),
    }


def shares(runs: Sequence[Run]) -> dict[str, float]:
    """Each stage's share in the time of all ``runs``; the rest is the ``host``'s: prompts, crops,
    tokens to text."""
    whole = sum(run.seconds for run in runs)
    stages = {
        stage: sum(run.answer.usage.seconds[stage] for run in runs) / whole for stage in STAGES
    }
    return {**stages, "host": 1 - sum(stages.values())}


def _machine() -> dict[str, str]:
    """The machine as vpt-doctor finds it, before anything runs; what the system does not tell is
    left out."""
    jetson = (machine.jetpack, machine.power_mode) if machine.is_jetson() else ()
    found = dict[str, str]()
    for look in (machine.board, machine.cpu, machine.memory, *jetson):
        with contextlib.suppress(KeyError):  # of a system without /proc
            finding = look()
            found[finding.check] = finding.found
    if clock := clocks():
        found["clocks"] = clock
    if hasattr(os, "getloadavg"):
        found["load before"] = f"{os.getloadavg()[0]:.1f}"
    return found


def _bundle(bundle: Bundle) -> dict[str, str]:
    manifest = bundle.manifest
    of_manifest = {
        "source": manifest.source,
        "kind": manifest.kind,
        "precision": manifest.precision,
    }
    cache = f"{manifest.cache.capacity} tokens of {manifest.cache.dtype}"
    return {"path": str(bundle.path), **of_manifest, "target": manifest.target, "cache": cache}


def _request(
    bundle: Bundle, picture: Image.Image, image: str | None, question: str, answer: Answer
) -> dict[str, Any]:
    width, height = picture.size
    if answer.looks:
        first, *others = map(describe, answer.looks)
        look = "; ".join([f"{first}: this region was given, the model did not choose it", *others])
    else:
        look = f"none: {answer.finish_reason if bundle.manifest.tokens.triggers else 'the checkpoint has no triggers'}"
    return {
        "picture": f"{image or 'drawn by vpt-bench'}, {width}x{height}",
        "question": question,
        "look": look,
        "max_new_tokens": MAX_NEW_TOKENS,
        "finish_reason": answer.finish_reason,
    }


def _tokens(bundle: Bundle, answer: Answer) -> dict[str, int | list[int]]:
    """Of the last turn's prompt and what its pictures take of it, and those that each turn
    generated."""
    first = answer.turns[0].prompt_ids
    return {
        "prompt": answer.usage.prompt_tokens,
        "picture": first.count(bundle.manifest.tokens.image_pad),
        "look": sum(look.tokens for look in answer.looks),
        "generated": [len(turn.generated_ids) for turn in answer.turns],
    }


def _peak_memory() -> int | None:
    """Bytes that were resident at once, at most; None where the system does not tell."""
    found = re.search(r"^VmHWM:\s+(\d+) kB", host.text_of("proc/self/status"), re.MULTILINE)
    return int(found[1]) << 10 if found else None


def _versions() -> dict[str, str]:
    """Of Python, of this package and of the libraries that the runs have loaded."""
    found = {"Python": platform.python_version()}
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        found["vpt-edge"] = importlib.metadata.version("vpt-edge")
    loaded = {name: getattr(sys.modules.get(name), "__version__", None) for name in MODULES}
    return {**found, **{name: version for name, version in loaded.items() if version}}


def _counted(name: str, count: int) -> Iterator[None]:
    for index in range(count):
        _say(f"{name} {index + 1} of {count}")
        yield


def _say(text: str) -> None:
    """Progress in one line, for a person alone."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _progress() -> Iterator[None]:
    """Leaves no line of progress behind."""
    try:
        yield
    finally:
        _say("")
