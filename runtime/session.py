"""The seam to an inference library: a session runs one graph."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast

from vpt_edge.runtime.errors import SessionError

if TYPE_CHECKING:
    import numpy as np

    from vpt_edge.runtime.bundle import Bundle

    Arrays: TypeAlias = Mapping[str, np.ndarray[Any, Any]]

BACKENDS = {"cpu": ("vpt_edge.runtime.ort", "OrtSession")}


class Session(Protocol):
    """One graph, ready to run."""

    def run(self, inputs: Arrays, outputs: Arrays) -> None:
        """Run on ``inputs`` and write every output into the array that ``outputs`` gives for it.

        All arrays are contiguous. One may be input and output at once (the shared key-value cache). An array that
        was bound before may stay bound: its place in memory is what counts, not the call.
        """

    def close(self) -> None:
        """Give everything back; a second call does nothing."""


class SessionOpener(Protocol):
    """What opens the session of the graph ``name``: a backend, or a stand-in for tests."""

    def __call__(self, bundle: Bundle, name: str, /) -> Session: ...


def open_session(bundle: Bundle, name: str, device: str) -> Session:
    """Open the graph ``name`` on ``device``. Raises SessionError for an unknown device: there is no fallback."""
    if device not in BACKENDS:
        raise SessionError(f"device {device!r} is unknown, expected one of: {', '.join(BACKENDS)}")
    module, backend = BACKENDS[device]
    return cast("SessionOpener", getattr(importlib.import_module(module), backend))(bundle, name)
