"""The one tree of errors, and how a command ends on them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable


class VptError(Exception):
    """What is wrong, what was found, what was expected and what mends it, in one text."""


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


def exit_code(command: Callable[[], object]) -> int:
    """Run ``command``: 0 when it returns, 2 after one line for bad input or a full disk, 130 after Ctrl-C."""
    try:
        command()
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (VptError, OSError, MemoryError) as error:
        text = str(error) or type(error).__name__
        print(f"error: {' '.join(text.split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    return 0
