"""TensorRT and TensorRT-RTX: found, loaded, and what their plans are bound to."""

from __future__ import annotations

import importlib
from collections import deque
from typing import Any

from vpt_edge.runtime.errors import SessionError
from vpt_edge.runtime.sessions import cuda
from vpt_edge.runtime.sessions.plan import Platform
from vpt_edge.runtime.sessions.signature import Signature

OLDEST = (10, 3)  # what JetPack 6 has
MODULES = {"tensorrt": ("tensorrt",), "tensorrt-rtx": ("tensorrt_rtx", "tensorrt_rtx_bindings")}
FIXES = {
    "tensorrt": "on a Jetson it comes with JetPack (a virtual environment needs "
    "--system-site-packages); elsewhere: pip install 'vpt-edge[tensorrt]'",
    "tensorrt-rtx": "pip install 'vpt-edge[rtx]'",
}
DTYPES = {"FLOAT": "float32", "HALF": "float16"}  # its names; those of others are numpy's
DYNAMIC = -1  # size of an axis
LAST_MESSAGES = 8  # of TensorRT's log, for the text of an error


def load_tensorrt(library: str) -> Any:
    """The module of ``library`` ("tensorrt" or "tensorrt-rtx").

    Raises SessionError if it is missing or too old.
    """
    problems = []
    for name in MODULES[library]:
        try:
            module = importlib.import_module(name)
        except Exception as error:  # a library that does not load raises what it likes
            problems.append(f"{name}: {error}")
            continue
        _check_version(library, module.__version__)
        return module
    raise SessionError(f"{library} cannot be imported ({'; '.join(problems)})", FIXES[library])


def _check_version(library: str, version: str) -> None:
    numbers = tuple(int(part) for part in version.split(".")[:2])
    if library == "tensorrt" and numbers < OLDEST:
        raise SessionError(
            f"TensorRT {version} is too old, expected 10.3 or later",
            "on a Jetson install JetPack 6.1 or later, elsewhere: pip install 'tensorrt>=10.3'",
        )


def read_platform(trt: Any, library: str) -> Platform:
    """What plans built here are bound to.

    Raises SessionError where TensorRT proper finds no GPU.
    """
    if library == "tensorrt-rtx":  # its plans are finished on the card that runs them
        return Platform(library, trt.__version__, "any", "any", "any")
    device = cuda.Device.open()
    return Platform(library, trt.__version__, device.driver, device.name, device.capability)


def make_logger(trt: Any, messages: deque[str]) -> Any:
    """A logger that puts errors into ``messages``, for the text of an error."""

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR):
                messages.append(message)

    return Logger()


def read_signatures(trt: Any, engine: Any) -> tuple[dict[str, Signature], dict[str, Signature]]:
    """What an engine tells of its inputs and outputs, by name."""
    inputs = dict[str, Signature]()
    outputs = dict[str, Signature]()
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        dtype = engine.get_tensor_dtype(name).name
        shape = list[int | None](engine.get_tensor_shape(name))
        for axis, size in enumerate(shape):
            if size == DYNAMIC:
                shape[axis] = None
        tensors = outputs
        if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT:
            tensors = inputs
        tensors[name] = Signature(DTYPES.get(dtype, dtype.lower()), tuple(shape))
    return inputs, outputs
