"""A pipeline for tunings that answers by a rule of the question and its options."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from vpt_edge.runtime import Answer, Bundle, Crop, Looked
from vpt_edge.runtime.errors import PromptError
from vpt_edge.runtime.result import Turn, Usage

# From the question's number, the bundle's name and the options to the answer's text.
Rule = Callable[[int, str, dict[str, Any]], str]
TOKENS = 64  # of a look


class RulePipeline:
    """Looks at cells (2,3) and answers what ``rule`` says; "?" is a question that it refuses."""

    def __init__(self, bundle: Bundle, rule: Rule) -> None:
        self.bundle = bundle
        self.asked: list[tuple[int, dict[str, Any]]] = []
        self.closed = False
        self._rule = rule

    def ask(self, images: list[Image.Image], question: str, **options: Any) -> Answer:
        number = int(question.rpartition(" ")[2])
        self.asked.append((number, options))
        text = self._rule(number, self.bundle.path.name, options)
        if text == "?":
            raise PromptError("this cannot be asked")
        return answer(text, images[0], question)

    def close(self) -> None:
        self.closed = True


def answer(text: str, image: Image.Image, question: str) -> Answer:
    turn = Turn((0,), (1,), text)
    look = Looked(Crop((2, 3, 2, 3), (0, 0, 8, 8)), TOKENS)
    seconds = {"vision": 0.001, "total": 0.001}
    usage = Usage(1, 1, 1, 0, 1, 0, seconds, (0.001,))
    return Answer(text, text, (turn,), (look,), "stop", usage, question, image)


class RuleOpener:
    """Opens pipelines of ``rule`` and keeps them."""

    def __init__(self, rule: Rule) -> None:
        self.pipelines: list[RulePipeline] = []
        self._rule = rule

    def __call__(self, bundle: Bundle, device: str) -> Any:
        self.pipelines.append(RulePipeline(bundle, self._rule))
        return self.pipelines[-1]

    @property
    def asked(self) -> list[tuple[int, dict[str, Any]]]:
        """The number and the options of all questions, in order."""
        return [question for pipeline in self.pipelines for question in pipeline.asked]


class Clock:
    """Stands in for ``time.perf_counter``."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def timed(rule: Rule, clock: Clock, seconds: Callable[[dict[str, Any]], float]) -> Rule:
    """``rule``, which lets the ``clock`` go on."""

    def answer_late(number: int, name: str, options: dict[str, Any]) -> str:
        clock.now += seconds(options)
        return rule(number, name, options)

    return answer_late


def write_samples(folder: Path, count: int, answers: bool = True) -> Path:
    """``count`` questions, each with its number, about one picture; every true answer is "yes"."""
    Image.new("RGB", (224, 224), "red").save(folder / "a.png")
    lines = []
    for number in range(count):
        line = {"image": "a.png", "question": f"Question {number}", "perception": "region"}
        if answers:
            line["answer"] = "yes"
        lines.append(json.dumps(line))
    path = folder / "data.jsonl"
    path.write_text("\n".join(lines))
    return path
