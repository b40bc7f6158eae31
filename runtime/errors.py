"""The one tree of errors."""

from __future__ import annotations


class VptError(Exception):
    """As text: "problem; fix".

    ``problem``: what is wrong, what was found, what was expected; ``fix``: what mends it, if known.
    """

    def __init__(self, problem: str, fix: str = "") -> None:
        super().__init__(problem, fix)
        self.problem = problem
        self.fix = fix

    def __str__(self) -> str:
        if not self.fix:
            return self.problem
        return f"{self.problem}; {self.fix}"


class BundleError(VptError):
    """The bundle is incomplete, altered or of another version."""


class CheckpointError(VptError):
    """The checkpoint is incomplete, altered or not a VPT checkpoint."""


class ExportError(VptError):
    """A graph could not be exported, or differs from torch."""


class ImageError(VptError):
    """The picture cannot be read or cannot be shown to the model."""


class PromptError(VptError):
    """The question cannot be put to the model as it stands."""


class SessionError(VptError):
    """The inference library could not be loaded, or refused to open or to run a graph."""
