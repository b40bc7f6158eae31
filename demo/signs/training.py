"""The loop of the training: stages and their steps, the state, the log."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from signs.state import Log, Progress, load_state, save_state
from signs.workshop import Workshop
from torch import nn

if TYPE_CHECKING:
    from signs.recipe import Recipe, Stage
    from signs.state import Stop

    from vpt_edge.commands.bar import Bar

STATE = "state.pt"
LEAST = 0.02  # of a stage's rate, at its end
DECAY = 0.05
BETAS = (0.9, 0.98)
LONGEST_GRADIENT = 1.0
TESTS = 5  # lines of the log from one test on what training never sees to the next


class Training:
    """Takes the steps of ``recipe``; what it draws, and its state, are in ``folder``."""

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        log: Path,
        faces: tuple[str, ...] = (),
        *,
        is_compiled: bool = False,
    ) -> None:
        """``faces``: paths of typefaces beside those of the demo."""
        folder.mkdir(parents=True, exist_ok=True)
        self.recipe = recipe
        self.workshop = Workshop(recipe, folder, faces)
        if is_compiled:
            for block in self.workshop.network.visual.blocks:
                block.compile()
        self._path = folder / STATE
        self._progress = Progress()
        if self._path.exists():
            self._resume()
        else:
            self._begin_stage()
        self._log = Log(log, self._progress.log)
        self._saved = time.monotonic()

    def _resume(self) -> None:
        state = load_state(self._path)
        self._progress = Progress(**state["progress"])
        self.workshop.network.load_state_dict(state["network"])
        self.workshop.heads.load_state_dict(state["heads"])
        if not self.is_done:
            self._begin_stage()
            self._optimizer.load_state_dict(state["optimizer"])

    def _begin_stage(self) -> None:
        """An optimizer of its own for each."""
        parameters = self.workshop.parameters(self._stage)
        for parameter in self._every_parameter():
            parameter.requires_grad_(False)
        for parameter in parameters:
            parameter.requires_grad_(True)
        self._parameters = parameters
        rate = self._stage.rate
        self._optimizer = torch.optim.AdamW(parameters, rate, BETAS, weight_decay=DECAY, fused=True)

    def _every_parameter(self) -> list[nn.Parameter]:
        workshop = self.workshop
        return [*workshop.network.parameters(), *workshop.heads.parameters()]

    @property
    def is_done(self) -> bool:
        return self._progress.stage >= len(self.recipe.stages)

    @property
    def _stage(self) -> Stage:
        return self.recipe.stages[self._progress.stage]

    def run(self, stop: Stop, bar: Bar) -> None:
        """To the end. When ``stop`` is asked the state is kept, and KeyboardInterrupt raised."""
        try:
            with self.workshop.painters:
                while not self.is_done:
                    self._run_stage(stop, bar)
        finally:
            self._log.close()

    def _run_stage(self, stop: Stop, bar: Bar) -> None:
        progress = self._progress
        stage = self._stage
        if stage.name == "speak":
            self.workshop.encode_all(lambda: not stop.asked)
        began = time.monotonic()
        while progress.steps < stage.steps and not stop.asked:
            self._take_step(stage)
            now = time.monotonic()
            progress.seconds += now - began
            began = now
            if progress.steps % self.recipe.every == 0:
                self._write_line(stage)
            if now - self._saved > self.recipe.kept:
                self._save()
            bar.show(stage.name, self._share(), f"step {progress.steps} of {stage.steps}")
        if progress.steps == stage.steps:
            progress.stage += 1
            progress.steps = 0
            if not self.is_done:
                self._begin_stage()
        self._save()
        if stop.asked:
            raise KeyboardInterrupt

    def _take_step(self, stage: Stage) -> None:
        progress = self._progress
        for group in self._optimizer.param_groups:
            group["lr"] = rate(stage, progress.steps)
        with torch.autocast("cpu", torch.bfloat16):
            losses = self.workshop.take_step(stage, progress.steps)
        losses.total().backward()
        nn.utils.clip_grad_norm_(self._parameters, LONGEST_GRADIENT)
        self._optimizer.step()
        self._optimizer.zero_grad()
        progress.steps += 1
        progress.add(losses)

    def _write_line(self, stage: Stage) -> None:
        progress = self._progress
        line = {
            "stage": stage.name,
            "step": progress.steps,
            "minutes": round(progress.seconds / 60, 1),
        }
        line |= progress.take_means()
        if progress.steps % (TESTS * self.recipe.every) == 0:
            line |= self.workshop.test(stage)
        progress.log = self._log.write(line)

    def _share(self) -> float:
        """Of the steps of this stage."""
        return self._progress.steps / self._stage.steps

    def _save(self) -> None:
        modules = {"network": self.workshop.network, "heads": self.workshop.heads}
        save_state(self._path, self._progress, {**modules, "optimizer": self._optimizer})
        self._saved = time.monotonic()


def rate(stage: Stage, step: int) -> float:
    """Warm-up, then half a cosine."""
    cosine = 0.5 + 0.5 * math.cos(math.pi * step / stage.steps)
    return stage.rate * min((step + 1) / stage.warm, LEAST + (1 - LEAST) * cosine)
