"""The inference libraries as vpt-doctor finds them.

Each is loaded in a process of its own: a broken one may crash the process, or fill its log.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.metadata
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vpt_edge.device import machine
from vpt_edge.device.machine import Finding
from vpt_edge.runtime import host
from vpt_edge.runtime.errors import SessionError, VptError
from vpt_edge.runtime.sessions import cuda, trt
from vpt_edge.runtime.sessions.ort import OrtCudaSession, OrtSession, missing_library

USELESS = "of no use without an NVIDIA GPU"
# ONNX, opset 13: y = x + x, of one float
MODEL = (
    b'\x08\x07:5\n\x0e\n\x01x\n\x01x\x12\x01y"\x03Add\x12\x01gZ\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01'
    b"b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\r"
)


def open_gpu() -> cuda.Device | None:
    try:
        return cuda.Device.open()
    except Exception:  # ``driver`` tells it
        return None


def driver() -> Finding:
    try:
        device = cuda.Device.open()
    except SessionError as error:
        if not machine.has_nvidia_gpu():
            return Finding("CUDA driver", "ok", "none: there is no NVIDIA GPU here")
        mend = (
            "sudo apt install nvidia-jetpack"
            if machine.is_jetson()
            else "sudo ubuntu-drivers install"
        )
        mend += "; in a container: docker run --runtime nvidia --gpus all ..."
        return Finding(
            "CUDA driver",
            "missing",
            f"there is an NVIDIA GPU, but {str(error).partition(';')[0]}",
            mend,
        )
    free, total = device.memory()
    shared = ", shared with the CPU" if device.integrated else ""
    found = f"CUDA {device.driver}, {device.name}, compute {device.capability}, "
    found += f"{free / machine.GIB:.1f} of {total / machine.GIB:.1f} GiB free{shared}"
    return Finding("CUDA driver", "ok", found)


def cuda_runtime() -> Finding:
    """libcudart, where the linker finds it, or in a toolkit or wheel that the linker does not know."""
    folders = [*host.ROOT.glob("usr/local/cuda*/lib*")]
    folders += [path for entry in sys.path for path in Path(entry).glob("nvidia/*/lib")]
    places = [str(path) for folder in folders for path in sorted(folder.glob("libcudart.so.*"))]
    for place in ("libcudart.so.13", "libcudart.so.12", *places):
        try:
            return Finding("CUDA runtime", "ok", f"{_apart('cudart_version', place)} ({place})")
        except VptError:
            continue
    if not machine.has_nvidia_gpu() and open_gpu() is None:
        return Finding("CUDA runtime", "ok", f"not installed, {USELESS}")
    mend = (
        "sudo apt install nvidia-jetpack"
        if machine.is_jetson()
        else "pip install 'onnxruntime-gpu[cuda,cudnn]'"
    )
    return Finding(
        "CUDA runtime", "missing", "libcudart is not installed: device 'cuda' needs it", mend
    )


def tensorrt_version(library: str) -> tuple[str, str]:
    """Version and file of the module. Raises SessionError if none can be imported."""
    problems = []
    for name in trt.MODULES[library]:
        if _installed(name):
            try:
                version, file = _apart("module_version", name)
                return version, file
            except VptError as error:
                problems.append(f"{name}: {error}")
    raise SessionError("; ".join(problems) or "not installed")


def tensorrt(check: str, library: str) -> Finding:
    gpu = machine.has_nvidia_gpu() or open_gpu() is not None
    rtx, jetson = library == "tensorrt-rtx", machine.is_jetson()
    hidden = _hidden(trt.MODULES[library][0])
    mend = (
        "sudo apt install nvidia-jetpack"
        if jetson
        else f"pip install 'vpt-edge[{'rtx' if rtx else 'tensorrt'}]'"
    )
    try:
        version, file = tensorrt_version(library)
    except SessionError as error:
        if not any(map(_installed, trt.MODULES[library])) and (not gpu or (rtx and jetson)):
            return Finding(
                check,
                "ok",
                f"not installed, {USELESS if not gpu else 'a Jetson has TensorRT instead'}",
            )
        if hidden:
            found = f"{hidden.parent} has it, this environment does not see it or cannot load it ({error})"
            return Finding(check, "missing", found, _with_system_packages(hidden))
        return Finding(check, "missing", str(error), mend)
    if not rtx and tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < trt.LEAST:
        mend = "flash JetPack 6.1 or later" if jetson else "pip install 'tensorrt>=10.3'"
        return Finding(
            check,
            "missing",
            f"{version} ({_origin(file)}) is too old, expected 10.3 or later",
            mend,
        )
    alone = "" if gpu else "; builds here, runs only on an NVIDIA GPU"
    return Finding(check, "ok", f"{version} ({_origin(file)}){alone}")


def onnxruntime() -> Iterator[Finding]:
    """The package, then every provider that it offers, and whether a graph really runs on it."""
    check, jetson = "ONNX Runtime", machine.is_jetson()
    if not _installed("onnxruntime"):
        yield Finding(check, "missing", "not installed", "pip install onnxruntime")
        return
    try:
        version, providers = _apart("onnxruntime_providers")
    except VptError as error:
        yield Finding(
            check, "missing", f"does not load: {error}", "pip install --force-reinstall onnxruntime"
        )
        return
    wheel = (
        "NVIDIA's onnxruntime_gpu wheel for this JetPack"
        if jetson
        else "'onnxruntime-gpu[cuda,cudnn]'"
    )
    gpu = machine.has_nvidia_gpu() or open_gpu() is not None
    again = "pip uninstall -y onnxruntime onnxruntime-gpu && pip install " + (
        wheel if gpu else "onnxruntime"
    )
    packages = sorted(set(importlib.metadata.packages_distributions().get("onnxruntime", ())))
    if len(packages) > 1:
        yield Finding(
            check,
            "warning",
            f"{version}; {' and '.join(packages)} overwrite each other's files",
            again,
        )
    else:
        yield Finding(check, "ok", f"{version} ({', '.join(packages) or 'no package'})")
    for provider in providers:
        yield _provider(provider, again, gpu)
    if gpu and OrtCudaSession.provider not in providers:
        yield Finding(
            OrtCudaSession.provider, "missing", "this onnxruntime was built without it", again
        )


def _provider(provider: str, again: str, gpu: bool) -> Finding:
    try:
        problem = _apart("provider_problem", provider)
    except VptError as error:
        problem = str(error)
    found = f"does not load: {problem}" if problem else "loads, and ran a graph"
    if provider not in (OrtSession.provider, OrtCudaSession.provider):
        return Finding(
            provider, "ok", f"{'does not load' if problem else 'loads'}; vpt-edge does not use it"
        )
    if problem and provider == OrtCudaSession.provider and not gpu:
        return Finding(provider, "ok", f"{found}; {USELESS}")
    return Finding(provider, "missing" if problem else "ok", found, again if problem else "")


def opencv() -> Finding:
    check, jetson, hidden = "OpenCV", machine.is_jetson(), _hidden("cv2")
    mend = "sudo apt install nvidia-opencv" if jetson else "pip install opencv-python-headless"
    if not _installed("cv2"):
        found = "not installed; only cameras and videos need it"
        return Finding(
            check, "missing", found, _with_system_packages(hidden) if hidden and jetson else mend
        )
    try:
        version, file, gstreamer = _apart("opencv_facts")
    except VptError as error:
        mend = "pip install 'numpy<2'" if "numpy" in str(error) else mend
        return Finding(check, "missing", f"does not load: {error}", mend)
    found = f"{version} ({_origin(file)}), {'with' if gstreamer else 'without'} GStreamer"
    if gstreamer or not jetson:
        return Finding(check, "ok", found)
    if hidden:
        mend = "pip uninstall -y opencv-python opencv-python-headless opencv-contrib-python"
        found += f", shadows JetPack's {hidden}"
    return Finding(check, "warning", f"{found}; CSI cameras need GStreamer", mend)


def _installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def _hidden(name: str) -> Path | None:
    """A module among the system's own packages, whether this environment sees them or not."""
    folders = sorted((host.ROOT / "usr/lib").glob("python3*/dist-packages"))
    found = [
        path for folder in folders for path in [*folder.glob(name), *folder.glob(f"{name}.*so")]
    ]
    return found[-1] if found else None


def _with_system_packages(module: Path) -> str:
    """The environment must be of the Python that the system's module is for."""
    return f"/usr/bin/{module.parent.parent.name} -m venv --system-site-packages VENV, and install vpt-edge there"


def _origin(file: str) -> str:
    return "system package" if host.ROOT / "usr/lib" in Path(file).parents else "wheel"


def _apart(function: str, *arguments: str) -> Any:
    """What a function of this file returns in a process of its own.

    Raises SessionError with what it raised.
    """
    code = f"import sys; sys.path[:] = {sys.path}; from vpt_edge.device import libraries as it; "
    code += f"it.tell(it.{function}, *{arguments})"
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        errors="replace",
    )
    if result.returncode < 0:
        raise SessionError(f"it crashes its process with {signal.Signals(-result.returncode).name}")
    if result.returncode:
        raise SessionError(
            (result.stderr.strip().splitlines() or [f"exit code {result.returncode}"])[-1]
        )
    answer = json.loads(result.stdout.splitlines()[-1])
    if "error" in answer:
        raise SessionError(answer["error"])
    return answer["result"]


def tell(function: Any, *arguments: str) -> None:
    """Print the result of ``function`` as the last line, then end at once: a library may crash at
    its exit."""
    try:
        answer = {"result": function(*arguments)}
    except Exception as error:
        answer = {"error": " ".join(str(error).split()) or type(error).__name__}
    print(f"\n{json.dumps(answer)}", flush=True)
    os._exit(0)


def module_version(name: str) -> tuple[str, str]:
    module = importlib.import_module(name)
    return str(module.__version__), str(module.__file__)


def cudart_version(library: str) -> str:
    value = ctypes.c_int()
    ctypes.CDLL(library).cudaRuntimeGetVersion(ctypes.byref(value))
    return f"{value.value // 1000}.{value.value % 1000 // 10}"


def opencv_facts() -> tuple[str, str, bool]:
    cv2 = importlib.import_module("cv2")
    built = re.search(r"GStreamer:\s+(\w+)", cv2.getBuildInformation())
    return str(cv2.__version__), str(cv2.__file__), built is not None and built[1] == "YES"


def onnxruntime_providers() -> tuple[str, list[str]]:
    import onnxruntime

    return onnxruntime.__version__, onnxruntime.get_available_providers()


def provider_problem(provider: str) -> str:
    """Why ``provider`` does not run a graph; empty if it does.

    A provider that does not load is only logged.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(MODEL, providers=[provider])
    if session.get_providers()[0] != provider:
        return (
            missing_library(onnxruntime)
            if provider == OrtCudaSession.provider
            else "it falls back to another"
        )
    (result,) = session.run(None, {"x": np.ones(1, np.float32)})
    return "" if result[0] == 2 else f"1 + 1 is {result[0]} on it"
