"""Where a training stands: kept on the disk, so that it goes on after any end; and its log."""

from __future__ import annotations

import json
import math
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from vpt_edge.runtime.errors import VptError
from vpt_edge.runtime.files import replace_file

if TYPE_CHECKING:
    from signs.losses import Losses


@dataclass
class Progress:
    """``steps`` of stage number ``stage`` are done, in so many ``seconds`` of all stages; ``log``:
    bytes of the log; ``sums``: what the next line of it is the mean of.
    """

    stage: int = 0
    steps: int = 0
    seconds: float = 0.0
    log: int = 0
    sums: dict[str, list[float]] = field(default_factory=dict)

    def add(self, losses: Losses) -> None:
        for name, term in losses.terms.items():
            self._count(f"{name} loss", float(term.detach()))
        for name, share in losses.right.items():
            self._count(name, share)

    def _count(self, name: str, value: float) -> None:
        if not math.isnan(value):
            total, count = self.sums.get(name, [0.0, 0])
            self.sums[name] = [total + value, count + 1]

    def take_means(self) -> dict[str, float]:
        means = {name: round(total / count, 4) for name, (total, count) in self.sums.items()}
        self.sums = {}
        return means


def save_state(path: Path, progress: Progress, modules: dict[str, Any]) -> None:
    """Progress, and what ``state_dict`` of each of the ``modules`` gives."""
    states = {name: module.state_dict() for name, module in modules.items()}
    with replace_file(path) as beside:
        torch.save({"progress": asdict(progress), **states}, beside)


def load_state(path: Path) -> dict[str, Any]:
    """What ``save_state`` kept. Raises VptError for another file."""
    try:
        return torch.load(path, weights_only=True)
    except Exception as error:  # torch raises what comes
        problem = f"{path} is not the state of a training: {error}"
        raise VptError(problem, "remove it, and the training begins anew") from error


class Log:
    """Lines of JSON in a file, which goes on where the state stands."""

    def __init__(self, path: Path, size: int) -> None:
        """The first ``size`` bytes of the file are kept."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        if path.stat().st_size < size:
            raise VptError(f"{path} is shorter than when the training was interrupted")
        self._file = path.open("r+", encoding="utf-8")
        self._file.truncate(size)
        self._file.seek(size)

    def write(self, line: dict[str, Any]) -> int:
        """Returns how large the file is then."""
        text = json.dumps(line)
        print(text, flush=True)
        self._file.write(text + "\n")
        self._file.flush()
        return self._file.tell()

    def close(self) -> None:
        self._file.close()


class Stop:
    """``asked``: whether a signal has asked for an end, for which a step is to be whole."""

    asked = False

    def ask(self, number: int, frame: object) -> None:
        self.asked = True


@contextmanager
def stop_between_steps() -> Iterator[Stop]:
    """Within the block Ctrl-C and SIGTERM ask."""
    stop = Stop()
    before = {name: signal.signal(name, stop.ask) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
