"""What only a library itself can tell, asked in a process of its own.

A broken library may crash the process, or fill its log.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import re
import signal
import subprocess
import sys
from typing import Any

import numpy as np

from vpt_edge.runtime.child import child_command, child_environment, foreign_entries
from vpt_edge.runtime.errors import SessionError
from vpt_edge.runtime.sessions.ort import OrtCudaSession, missing_library

# ONNX, opset 13: y = x + x, of one float.
MODEL = (
    b'\x08\x07:5\n\x0e\n\x01x\n\x01x\x12\x01y"\x03Add\x12\x01gZ\x0f\n\x01x\x12\n\n\x08\x08\x01\x12'
    b"\x04\n\x02\x08\x01b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\r"
)
TIMEOUT = 120  # seconds


def in_subprocess(function: str, *arguments: str) -> Any:
    """What a function of this file returns in a process of its own.

    Raises SessionError with what it raised.
    """
    code = f"sys.path[:] = {foreign_entries(sys.path)}; from vpt_edge.device import probes; "
    code += f"probes.answer(probes.{function}, *{arguments})"
    result = subprocess.run(
        child_command(code),
        env=child_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT,
        errors="replace",
    )
    if result.returncode < 0:
        name = signal.Signals(-result.returncode).name
        raise SessionError(f"it crashes its process with {name}")
    if result.returncode:
        lines = result.stderr.strip().splitlines() or [f"exit code {result.returncode}"]
        raise SessionError(lines[-1])
    answer = json.loads(result.stdout.splitlines()[-1])
    if "error" in answer:
        raise SessionError(answer["error"])
    return answer["result"]


def answer(function: Any, *arguments: str) -> None:
    """Print the result of ``function`` as the last line, then end at once: a library may crash at
    its exit.
    """
    try:
        message = {"result": function(*arguments)}
    except Exception as error:
        message = {"error": " ".join(str(error).split()) or type(error).__name__}
    print(f"\n{json.dumps(message)}", flush=True)
    os._exit(0)


def module_version(name: str) -> tuple[str, str]:
    """Version and file of a module."""
    module = importlib.import_module(name)
    return str(module.__version__), str(module.__file__)


def cudart_version(library: str) -> str:
    value = ctypes.c_int()
    ctypes.CDLL(library).cudaRuntimeGetVersion(ctypes.byref(value))
    return f"{value.value // 1000}.{value.value % 1000 // 10}"


def opencv_facts() -> tuple[str, str, bool]:
    """Version, file, and whether GStreamer was built in."""
    cv2 = importlib.import_module("cv2")
    gstreamer = re.search(r"GStreamer:\s+(\w+)", cv2.getBuildInformation())
    return (
        str(cv2.__version__),
        str(cv2.__file__),
        gstreamer is not None and gstreamer[1] == "YES",
    )


def pyav_facts() -> tuple[str, str, list[str]]:
    """Version of PyAV and of its FFmpeg, and the hardware that it was built for."""
    av = importlib.import_module("av")
    hwaccel = importlib.import_module("av.codec.hwaccel")
    return str(av.__version__), str(av.ffmpeg_version_info), list(hwaccel.hwdevices_available())


def onnxruntime_providers() -> tuple[str, list[str]]:
    """Version and names of the providers."""
    import onnxruntime

    return onnxruntime.__version__, onnxruntime.get_available_providers()


def provider_problem(provider: str) -> str:
    """Why ``provider`` does not run a graph; empty if it does.

    A provider that does not load is only logged.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(MODEL, providers=[provider])
    if session.get_providers()[0] != provider:
        if provider == OrtCudaSession.provider:
            return missing_library(onnxruntime)
        return "it falls back to another"
    (result,) = session.run(None, {"x": np.ones(1, np.float32)})
    return "" if result[0] == 2 else f"1 + 1 is {result[0]} on it"
