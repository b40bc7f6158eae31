"""The one tree of errors."""

from __future__ import annotations

import re

LONGEST = 1500  # characters of a problem as text: a damaged file of megabytes is not shown again
LINE_BREAKS = re.compile(r"[\t\n\v\f\r\x85\u2028\u2029]+")
# What moves a terminal's cursor or turns its text around: control characters but tab and newline,
# marks of direction, halves of characters.
UNPRINTABLE = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def printable(text: str) -> str:
    """``text`` as a terminal can show it: what is unprintable as escapes that JSON takes too."""
    return UNPRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


class VptError(Exception):
    """As text one line, "problem; fix", that can be shown anywhere, whatever it quotes.

    ``problem``: what is wrong, what was found, what was expected; ``fix``: what mends it, if known.
    """

    def __init__(self, problem: str, fix: str = "") -> None:
        super().__init__(problem, fix)
        self.problem = problem
        self.fix = fix

    def __str__(self) -> str:
        problem = self.problem
        if len(problem) > LONGEST:
            half = LONGEST // 2
            problem = f"{problem[:half]} [...] {problem[-half:]}"
        text = problem
        if self.fix:
            text = f"{problem}; {self.fix}"
        return printable(LINE_BREAKS.sub(" ", text))


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


class ContextLengthError(PromptError):
    """The prompt has more tokens than the bundle's cache takes."""


class OptionError(PromptError):
    """An option of a question is beyond what the bundle takes; ``option``: its name."""

    def __init__(self, problem: str, fix: str = "", option: str = "") -> None:
        super().__init__(problem, fix)
        self.option = option


class SourceError(VptError):
    """A camera, a stream or a clip cannot be opened or read."""


class SinkError(VptError):
    """An answer cannot be delivered to where it was to go."""


class SessionError(VptError):
    """The inference library could not be loaded, or refused to open or to run a graph."""
