"""How fast a bundle answers on this machine, and what it takes.

Each run is one whole answer, with one look where the model can look, from a picture in memory. As
in steady use the template's text in front of the picture is computed already.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

from vpt_edge.device import libraries, machine
from vpt_edge.device.drafts import compare_drafts
from vpt_edge.device.given_look import GivenLook, give_look
from vpt_edge.device.power import Meter, read_clocks
from vpt_edge.device.tables import Figure, Report
from vpt_edge.device.versions import read_versions
from vpt_edge.runtime import host
from vpt_edge.runtime.bundle import Bundle
from vpt_edge.runtime.draft import check_draft
from vpt_edge.runtime.errors import VptError
from vpt_edge.runtime.image import open_picture
from vpt_edge.runtime.kv_cache import describe_cache
from vpt_edge.runtime.perception import open_perception
from vpt_edge.runtime.pipeline import Pipeline
from vpt_edge.runtime.stopwatch import STAGES

if TYPE_CHECKING:
    from vpt_edge.runtime.options import AskOptions
    from vpt_edge.runtime.result import Answer
    from vpt_edge.runtime.sessions import SessionOpener
    from vpt_edge.runtime.sessions.cuda import Device

RUNS = 10
WARM_UP = 2  # answers that are not timed
SIZE = (640, 480)  # of the picture that is drawn
QUESTION = "What does the picture show?"
MAX_NEW_TOKENS = 64  # for each turn

Progress = Callable[[str, float], object]


class Prompt(NamedTuple):
    """What is asked; ``image``: a path, None for the picture that is drawn; ``budget``: options of
    the question that say what it may cost; ``draft_tokens``: of drafts.
    """

    question: str = QUESTION
    image: str | None = None
    budget: AskOptions = {}
    draft_tokens: int = 0


STANDARD = Prompt()


class Run(NamedTuple):
    seconds: float
    answer: Answer


def measure(
    bundle: str | os.PathLike[str] | Bundle,
    *,
    device: str = "cpu",
    prompt: Prompt = STANDARD,
    runs: int = RUNS,
    opener: SessionOpener | None = None,
    progress: Progress = lambda stage, done: None,
) -> Report:
    """Open ``bundle``, answer ``prompt`` WARM_UP times, then ``runs`` times under the clock, and as
    often with its drafts and without. ``progress`` is told each stage and the share that is done.
    Raises VptError for what cannot be opened, read or answered.
    """
    if runs < 1:
        raise VptError(f"found {runs} runs, expected 1 or more", f"--runs {RUNS} is the default")
    picture = draw_picture() if prompt.image is None else open_picture(prompt.image)
    here = _describe_machine()
    start = time.perf_counter()
    pipeline = Pipeline(bundle, device, opener=opener)
    start_up = time.perf_counter() - start
    with pipeline:
        look = give_look(pipeline.bundle.manifest, picture.size)
        once = partial(_answer, pipeline, picture, prompt, look)
        check_draft(pipeline.bundle.manifest, prompt.draft_tokens)
        _warm_up(once, runs, progress)
        meter = Meter()
        with meter:
            timed = _time(once, runs, progress)
        gpu = None if device == "cpu" else libraries.open_gpu()
        device_memory = _used_memory(gpu)
        drafts = compare_drafts(pipeline, once, prompt.draft_tokens, runs)
    opened = pipeline.bundle
    assert isinstance(opened, Bundle)
    device_text = f"{device}, {libraries.check_driver().found}" if gpu else device
    return Report(
        bundle=_describe_bundle(opened),
        request=_describe_request(opened, picture, prompt, timed[-1].answer),
        tokens=_count_tokens(opened, timed[-1].answer),
        runs=runs,
        warm_up=WARM_UP,
        figures={"start_up": Figure.of([start_up]), **figures(timed)},
        shares=shares(timed),
        peak_memory=host.read_peak_memory(),
        device_memory=device_memory,
        joules=_divided(meter.joules, runs),
        watts=_divided(meter.joules, meter.seconds),
        machine={"device": device_text, **here},
        versions=read_versions(),
        drafts=drafts,
    )


def _warm_up(once: Callable[[], Run], runs: int, progress: Progress) -> None:
    for index in range(WARM_UP):
        progress(f"warm-up {index + 1} of {WARM_UP}", index / (WARM_UP + runs))
        once()


def _time(once: Callable[[], Run], runs: int, progress: Progress) -> list[Run]:
    timed = list[Run]()
    for index in range(runs):
        progress(f"run {index + 1} of {runs}", (WARM_UP + index) / (WARM_UP + runs))
        timed.append(once())
    return timed


def draw_picture() -> Image.Image:
    """The picture of SIZE that is asked about unless another is given: a chequered slope of
    colours.
    """
    width, height = SIZE
    row, column = np.mgrid[:height, :width]
    chequers = (row // 40 + column // 40) % 2 * 255
    colours = np.dstack([column * 255 // width, row * 255 // height, chequers])
    return Image.fromarray(colours.astype(np.uint8))


def _answer(
    pipeline: Pipeline,
    picture: Image.Image,
    prompt: Prompt,
    look: GivenLook,
    draft_tokens: int | None = None,
) -> Run:
    """One answer, which takes the likeliest tokens and looks once where there is a ``look``."""
    asked: AskOptions = {
        **prompt.budget,
        "perception": look.mode,
        "assistant_prefix": look.said,
        "max_new_tokens": MAX_NEW_TOKENS,
        "max_looks": 1,
        "temperature": 0,
        "draft_tokens": draft_tokens,
    }
    start = time.perf_counter()
    answer = pipeline.ask(
        picture,
        prompt.question,
        **asked,
    )
    return Run(time.perf_counter() - start, answer)


def _used_memory(gpu: Device | None) -> int | None:
    """Bytes in use on the GPU, by all programs."""
    if gpu is None:
        return None
    free, total = gpu.memory()
    return total - free


def _divided(joules: dict[str, float], divisor: float) -> dict[str, float]:
    return {rail: value / divisor for rail, value in joules.items()}


def figures(runs: Sequence[Run]) -> dict[str, Figure | None]:
    """Percentiles over ``runs``.

    An encode is the mean of a run's; a turn's first token is of the prefill.
    """
    answers = [run.answer for run in runs]
    first_tokens = [answer.usage.first_token_seconds[0] for answer in answers]
    steps = [_step_seconds(answer) for answer in answers]
    encodes = [answer.usage.seconds["vision"] / answer.usage.vision_runs for answer in answers]
    looks = [_look_seconds(answer) for answer in answers]
    return {
        "first_token": Figure.of(first_tokens),
        "decode": Figure.of(steps, rate=True),
        "vision_encode": Figure.of(encodes),
        "look": Figure.of(looks),
        "answer": Figure.of([run.seconds for run in runs]),
    }


def _step_seconds(answer: Answer) -> float | None:
    """A token's, of those that the decoder made one at a time; None where there are none."""
    steps = answer.usage.generated_tokens - len(answer.turns)
    return answer.usage.seconds["decode"] / steps if steps else None


def _look_seconds(answer: Answer) -> float | None:
    """From the look to the token after it; None where there was no look."""
    seconds = answer.usage.first_token_seconds
    return seconds[1] if len(seconds) > 1 else None


def shares(runs: Sequence[Run]) -> dict[str, float]:
    """Each stage's share in the time of all ``runs``; the rest is the ``host``'s: prompts, crops,
    tokens to text.
    """
    whole = sum(run.seconds for run in runs)
    parts = dict[str, float]()
    for stage in STAGES:
        parts[stage] = sum(run.answer.usage.seconds[stage] for run in runs) / whole
    return {**parts, "host": 1 - sum(parts.values())}


def _describe_machine() -> dict[str, str]:
    """The machine as vpt-doctor finds it, before anything runs; what the system does not tell is
    left out.
    """
    checks = [machine.check_board, machine.check_cpu, machine.check_memory]
    if machine.is_jetson():
        checks += [machine.check_jetpack, machine.check_power_mode]
    texts = dict[str, str]()
    for check in checks:
        with contextlib.suppress(KeyError):  # of a system without /proc
            finding = check()
            texts[finding.check] = finding.found
    clocks = read_clocks()
    if clocks:
        texts["clocks"] = clocks
    if hasattr(os, "getloadavg"):
        texts["load before"] = f"{os.getloadavg()[0]:.1f}"
    return texts


def _describe_bundle(bundle: Bundle) -> dict[str, str]:
    manifest = bundle.manifest
    return {
        "path": str(bundle.path),
        "source": manifest.source,
        "kind": manifest.kind,
        "precision": manifest.precision,
        "target": manifest.target,
        "cache": describe_cache(manifest),
    }


def _describe_request(
    bundle: Bundle, picture: Image.Image, prompt: Prompt, answer: Answer
) -> dict[str, Any]:
    width, height = picture.size
    return {
        "picture": f"{prompt.image or 'drawn by vpt-bench'}, {width}x{height}",
        "question": prompt.question,
        "look": _describe_looks(bundle, answer),
        "max_new_tokens": MAX_NEW_TOKENS,
        "finish_reason": answer.finish_reason,
    }


def _describe_looks(bundle: Bundle, answer: Answer) -> str:
    if not open_perception(bundle.manifest).can_look:
        return "none: this model does not look again"
    if not answer.looks:
        return f"none: {answer.finish_reason}"
    texts = [look.describe() for look in answer.looks]
    texts[0] += ": this look was given, the model did not choose it"
    return "; ".join(texts)


def _count_tokens(bundle: Bundle, answer: Answer) -> dict[str, int | list[int]]:
    """Of the last turn's prompt and what its pictures take of it, and those that each turn
    generated.
    """
    first = answer.turns[0].prompt_ids
    generated = [len(turn.generated_ids) for turn in answer.turns]
    return {
        "prompt": answer.usage.prompt_tokens,
        "picture": first.count(bundle.manifest.tokens.image_pad),
        "look": sum(look.tokens for look in answer.looks),
        "generated": generated,
    }
