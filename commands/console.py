"""How a command ends."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from vpt_edge.runtime.errors import VptError


def exit_code(command: Callable[[], object]) -> int:
    """Run ``command``: 0 when it returns, 2 after one line for bad input or a full disk, 130 after
    Ctrl-C."""
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
