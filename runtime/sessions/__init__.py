"""The seam to an inference library: a session runs one graph."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast

from vpt_edge.runtime.errors import SessionError
from vpt_edge.runtime.schema import brief

if TYPE_CHECKING:
    import numpy as np

    from vpt_edge.runtime.bundle import Bundle, Model
    from vpt_edge.runtime.sessions.stream import DeviceArray

    Array: TypeAlias = np.ndarray[Any, Any] | DeviceArray
    # Of Array; who binds the cache has device arrays, all others numpy's.
    Arrays: TypeAlias = Mapping[str, Any]

BACKENDS = {
    "cpu": ("vpt_edge.runtime.sessions.ort", "OrtSession"),
    "cuda": ("vpt_edge.runtime.sessions.ort", "OrtCudaSession"),
    "tensorrt": ("vpt_edge.runtime.sessions.trt", "TrtSession"),
    "tensorrt-rtx": ("vpt_edge.runtime.sessions.trt", "RtxSession"),
}


class Session(Protocol):
    """One graph, ready to run."""

    def run(self, inputs: Arrays, outputs: Arrays) -> None:
        """Run on ``inputs`` and write the outputs into the arrays that ``outputs`` gives for them.

        All arrays are contiguous. One may be input and output at once (the shared key-value cache).
        An array that was bound before may stay bound: its place in memory is what counts, not the
        call. Outputs that are not asked for are not brought to the host. Raises SessionError for
        arrays that do not fit; the session stays usable.
        """

    def zeros(self, shape: tuple[int, ...], dtype: Any, /) -> Array:
        """Zeros where this session computes, for the key-value cache and for an input that stays as
        it is: they live as long as the session.
        """

    def close(self) -> None:
        """Give everything back; a second call does nothing."""


class SessionOpener(Protocol):
    """What opens the session of the graph ``name``: a backend, or a stand-in for tests."""

    def __call__(self, model: Model, name: str, /) -> Session: ...


def open_session(bundle: Bundle, name: str, device: str) -> Session:
    """Open the graph ``name`` on ``device``.

    Raises SessionError for an unknown device: there is no fallback.
    """
    if not isinstance(device, str) or device not in BACKENDS:
        raise SessionError(
            f"device {brief(device)} is unknown, expected one of: {', '.join(BACKENDS)}"
        )
    module, backend = BACKENDS[device]
    opener = cast("SessionOpener", getattr(importlib.import_module(module), backend))
    return opener(bundle, name)
