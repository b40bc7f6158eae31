"""What a pass gave the encoders, to run them again without the language model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from vpt_edge.runtime.sessions import Arrays, Session


class _Run(NamedTuple):
    """``file`` has the inputs; the outputs by shape and dtype."""

    graph: str
    file: Path
    outputs: dict[str, tuple[tuple[int, ...], np.dtype[Any]]]


class EncoderRuns:
    """The inputs of every run of a graph that is not the decoder, in files of the new ``folder``
    until they have been run again.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._runs: list[_Run] = []

    def add(self, graph: str, inputs: Arrays, outputs: Arrays) -> None:
        """Keep ``inputs``; of ``outputs`` no more than their shapes."""
        file = self._folder / f"{len(self._runs):06}.npz"
        np.savez(file, **inputs)
        shapes = {name: (array.shape, array.dtype) for name, array in outputs.items()}
        self._runs.append(_Run(graph, file, shapes))

    def replay(
        self,
        open_session: Callable[[str], Session],
        progress: Callable[[int, int], object] = lambda done, count: None,
    ) -> None:
        """Run all of them, once and as they came, in what ``open_session`` gives for a graph;
        ``progress`` is told how many are done of how many.
        """
        sessions = dict[str, "Session"]()
        for done, run in enumerate(self._runs, 1):
            if run.graph not in sessions:
                sessions[run.graph] = open_session(run.graph)
            with np.load(run.file) as stored:
                inputs = dict(stored)
            run.file.unlink()
            outputs = {name: np.empty(shape, dtype) for name, (shape, dtype) in run.outputs.items()}
            sessions[run.graph].run(inputs, outputs)
            progress(done, len(self._runs))
        for session in sessions.values():
            session.close()
