"""Tiny models that are sure of what they say: random but for the output matrix, which is solved for
the answers to a few questions.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from checkpoints import change_tensors
from families import write_checkpoint
from pictures import noise

from vpt_edge.export.exporter import export
from vpt_edge.runtime import Bundle, Pipeline
from vpt_edge.runtime.chat import Chat
from vpt_edge.runtime.sessions import open_session

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from vpt_edge.runtime.bundle import Model
    from vpt_edge.runtime.sessions import Session

    Array = np.ndarray[Any, Any]

ANSWERS = ("a", "b")
COUNT = 12  # of which a fourth is held out
SURE = 10.0  # the logit of the right token, where all others are near 0
RIDGE = 3e-4  # of the largest singular value, squared


@dataclass
class Teacher:
    """Opens sessions that say ``ids``, whatever the model would, and keeps the states in front."""

    bundle: Bundle
    ids: list[int] = field(default_factory=list)
    states: list[Array] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)

    def __call__(self, model: Model, name: str, /) -> Session:
        session = open_session(self.bundle, name, "cpu")
        if name != "decoder":
            return session
        run = session.run

        def teach(inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> None:
            run(inputs, outputs)
            target = self.ids.pop(0)
            self.states.append(outputs["hidden"][0].copy())
            self.targets.append(target)
            outputs["logits"][...] = 0
            outputs["logits"][0, target] = 1

        session.run = teach  # type: ignore[method-assign]
        return session


def write_taught(folder: Path, family: str, **changes: Any) -> tuple[Path, Path]:
    """A checkpoint of ``family`` in ``folder``, and the questions that it answers, a .jsonl."""
    source = write_checkpoint(folder / "checkpoint", family, tie_word_embeddings=False, **changes)
    data = folder / "data.jsonl"
    lines = []
    for index in range(COUNT):
        noise(30 + 20 * index, 60).save(folder / f"{index}.png")
        question = 20 * chr(ord("k") + index)  # in a random model the last state is of all tokens
        answer = ANSWERS[index % len(ANSWERS)]
        lines.append({"image": f"{index}.png", "question": question, "answer": answer})
    data.write_text("".join(f"{json.dumps(line)}\n" for line in lines), "utf-8")
    bundle = export(str(source), folder / "float", precision="fp32")
    teacher = Teacher(bundle)
    chat = Chat(bundle.tokenizer_file, {})
    with Pipeline(bundle, opener=teacher) as pipeline:
        for line in lines:
            teacher.ids = [*chat.encode(line["answer"]), bundle.manifest.tokens.end[0]]
            said = pipeline.ask(folder / line["image"], line["question"])
            assert said.text == line["answer"]
    head = solve(teacher, bundle.manifest.text.vocab_size)
    change_tensors(source, lambda tensors: tensors.update({"lm_head.weight": head}))
    return source, data


def solve(teacher: Teacher, vocabulary: int) -> torch.Tensor:
    """The output matrix by which every state has its target."""
    states = np.stack(teacher.states)
    wanted = np.zeros((len(states), vocabulary), np.float32)
    wanted[np.arange(len(states)), teacher.targets] = SURE
    gram = states.T @ states
    ridge = RIDGE * np.linalg.norm(gram, 2) * np.eye(len(gram))
    return torch.from_numpy(np.linalg.solve(gram + ridge, states.T @ wanted).T.astype(np.float32))
