"""The seam to what is calibrated and judged: a model of which the runtime's loop can ask."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from vpt_edge.calibration.recorder import RecordingSession
from vpt_edge.runtime.bundle import Bundle, Model
from vpt_edge.runtime.pipeline import Pipeline
from vpt_edge.runtime.sessions import open_session

if TYPE_CHECKING:
    from vpt_edge.calibration.recorder import ActivationRecorder
    from vpt_edge.runtime.embeddings import Embeddings
    from vpt_edge.runtime.manifest import Manifest
    from vpt_edge.runtime.sessions import Session


class RecordableModel(Model, Protocol):
    """A model whose sessions can be watched: a bundle's, or a checkpoint that is streamed."""

    def open_session(self, name: str, recorder: ActivationRecorder | None = None) -> Session:
        """The graph ``name`` on the CPU; ``recorder`` is told what flows into its matmuls."""


@dataclass(frozen=True)
class BundleModel:
    """The model of a bundle. Only that of a float bundle can be recorded."""

    bundle: Bundle

    @property
    def manifest(self) -> Manifest:
        return self.bundle.manifest

    @property
    def tokenizer_file(self) -> Path:
        return self.bundle.tokenizer_file

    def embeddings(self) -> Embeddings:
        return self.bundle.embeddings()

    def open_session(self, name: str, recorder: ActivationRecorder | None = None) -> Session:
        if recorder is None:
            return open_session(self.bundle, name, "cpu")
        return RecordingSession(self.bundle, name, recorder)


def open_pipeline(model: RecordableModel, recorder: ActivationRecorder | None = None) -> Pipeline:
    """The runtime's loop over ``model``; ``recorder`` is told what flows into its matmuls."""

    def open_graph(_: Model, name: str, /) -> Session:
        return model.open_session(name, recorder)

    return Pipeline(model, opener=open_graph)
