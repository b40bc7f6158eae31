"""The inference libraries as vpt-doctor finds them."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from vpt_edge.device import machine
from vpt_edge.device.machine import Finding
from vpt_edge.device.probes import in_subprocess
from vpt_edge.runtime import host
from vpt_edge.runtime.errors import SessionError, VptError
from vpt_edge.runtime.sessions import cuda, tensorrt
from vpt_edge.runtime.sessions.ort import OrtCudaSession, OrtSession

USELESS = "of no use without an NVIDIA GPU"
JETPACK = "sudo apt install nvidia-jetpack"


def open_gpu() -> cuda.Device | None:
    """The GPU, None where there is none that works."""
    try:
        return cuda.Device.open()
    except Exception:  # ``check_driver`` tells it
        return None


def has_gpu() -> bool:
    return machine.has_nvidia_gpu() or open_gpu() is not None


def check_driver() -> Finding:
    check = "CUDA driver"
    try:
        device = cuda.Device.open()
    except SessionError as error:
        if not machine.has_nvidia_gpu():
            return Finding(check, "ok", "none: there is no NVIDIA GPU here")
        fix = JETPACK if machine.is_jetson() else "sudo ubuntu-drivers install"
        fix += "; in a container: docker run --runtime nvidia --gpus all ..."
        return Finding(check, "missing", f"there is an NVIDIA GPU, but {error.problem}", fix)
    free, total = device.memory()
    found = f"CUDA {device.driver}, {device.name}, compute {device.capability}, "
    found += f"{free / machine.GIB:.1f} of {total / machine.GIB:.1f} GiB free"
    if device.integrated:
        found += ", shared with the CPU"
    return Finding(check, "ok", found)


def check_cuda_runtime() -> Finding:
    """libcudart, where the linker finds it, or in a toolkit or wheel that it does not know."""
    check = "CUDA runtime"
    for place in ("libcudart.so.13", "libcudart.so.12", *_cuda_runtimes()):
        try:
            return Finding(check, "ok", f"{in_subprocess('cudart_version', place)} ({place})")
        except VptError:
            continue
    if not has_gpu():
        return Finding(check, "ok", f"not installed, {USELESS}")
    fix = JETPACK if machine.is_jetson() else "pip install 'onnxruntime-gpu[cuda,cudnn]'"
    return Finding(check, "missing", "libcudart is not installed: device 'cuda' needs it", fix)


def _cuda_runtimes() -> list[str]:
    folders = list(host.ROOT.glob("usr/local/cuda*/lib*"))
    for entry in sys.path:
        folders += Path(entry).glob("nvidia/*/lib")
    return [str(path) for folder in folders for path in sorted(folder.glob("libcudart.so.*"))]


def tensorrt_version(library: str) -> tuple[str, str]:
    """Version and file of the module. Raises SessionError if none can be imported."""
    problems = []
    for name in tensorrt.MODULES[library]:
        if not is_installed(name):
            continue
        try:
            version, file = in_subprocess("module_version", name)
        except VptError as error:
            problems.append(f"{name}: {error}")
        else:
            return version, file
    raise SessionError("; ".join(problems) or "not installed")


def check_tensorrt(check: str, library: str) -> Finding:
    try:
        version, file = tensorrt_version(library)
    except SessionError as error:
        return _missing_tensorrt(check, library, error)
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if library == "tensorrt" and numbers < tensorrt.OLDEST:
        fix = "pip install 'tensorrt>=10.3'"
        if machine.is_jetson():
            fix = "flash JetPack 6.1 or later"
        found = f"{version} ({_origin(file)}) is too old, expected 10.3 or later"
        return Finding(check, "missing", found, fix)
    gpu = open_gpu()
    if library == "tensorrt-rtx" and gpu is not None and not _is_desktop(gpu.capability):
        found = f"{version} ({_origin(file)}) builds here and does not run on {gpu.name}, "
        found += f"compute {gpu.capability}: it is for desktop cards, 8.x and 12.0 or later"
        return Finding(check, "missing", found, "use device 'tensorrt' or 'cuda'")
    alone = "" if has_gpu() else "; builds here, runs only on an NVIDIA GPU"
    return Finding(check, "ok", f"{version} ({_origin(file)}){alone}")


def _is_desktop(capability: str) -> bool:
    """Whether TensorRT-RTX takes a GPU: on an H200 (9.0) its runtime names those that it does."""
    major = int(capability.partition(".")[0])
    return not 9 <= major < 12


def _missing_tensorrt(check: str, library: str, error: SessionError) -> Finding:
    rtx = library == "tensorrt-rtx"
    jetson = machine.is_jetson()
    installed = any(is_installed(name) for name in tensorrt.MODULES[library])
    if not installed and not has_gpu():
        return Finding(check, "ok", f"not installed, {USELESS}")
    if not installed and rtx and jetson:
        return Finding(check, "ok", "not installed, a Jetson has TensorRT instead")
    hidden = _system_module(tensorrt.MODULES[library][0])
    if hidden:
        found = f"{hidden.parent} has it, this environment does not see it or cannot load it"
        return Finding(check, "missing", f"{found} ({error})", _with_system_packages(hidden))
    extra = "rtx" if rtx else "tensorrt"
    fix = JETPACK if jetson else f"pip install 'vpt-edge[{extra}]'"
    return Finding(check, "missing", str(error), fix)


def check_onnxruntime() -> Iterator[Finding]:
    """The package, then every provider that it offers, and whether a graph really runs on it."""
    check = "ONNX Runtime"
    if not is_installed("onnxruntime"):
        yield Finding(check, "missing", "not installed", "pip install onnxruntime")
        return
    try:
        version, providers = in_subprocess("onnxruntime_providers")
    except VptError as error:
        fix = "pip install --force-reinstall onnxruntime"
        yield Finding(check, "missing", f"does not load: {error}", fix)
        return
    fix = f"pip uninstall -y onnxruntime onnxruntime-gpu && pip install {_onnxruntime_wheel()}"
    packages = sorted(set(importlib.metadata.packages_distributions().get("onnxruntime", ())))
    if len(packages) > 1:
        found = f"{version}; {' and '.join(packages)} overwrite each other's files"
        yield Finding(check, "warning", found, fix)
    else:
        yield Finding(check, "ok", f"{version} ({', '.join(packages) or 'no package'})")
    for provider in providers:
        yield _check_provider(provider, fix)
    if has_gpu() and OrtCudaSession.provider not in providers:
        found = "this onnxruntime was built without it"
        yield Finding(OrtCudaSession.provider, "missing", found, fix)


def _onnxruntime_wheel() -> str:
    """What pip is to install here."""
    if not has_gpu():
        return "onnxruntime"
    if machine.is_jetson():
        return "NVIDIA's onnxruntime_gpu wheel for this JetPack"
    return "'onnxruntime-gpu[cuda,cudnn]'"


def _check_provider(provider: str, fix: str) -> Finding:
    try:
        problem = in_subprocess("provider_problem", provider)
    except VptError as error:
        problem = str(error)
    if provider not in (OrtSession.provider, OrtCudaSession.provider):
        state = "does not load" if problem else "loads"
        return Finding(provider, "ok", f"{state}; vpt-edge does not use it")
    if not problem:
        return Finding(provider, "ok", "loads, and ran a graph")
    found = f"does not load: {problem}"
    if provider == OrtCudaSession.provider and not has_gpu():
        return Finding(provider, "ok", f"{found}; {USELESS}")
    return Finding(provider, "missing", found, fix)


def check_opencv() -> Finding:
    check = "OpenCV"
    jetson = machine.is_jetson()
    hidden = _system_module("cv2")
    fix = "sudo apt install nvidia-opencv" if jetson else "pip install opencv-python-headless"
    if not is_installed("cv2"):
        found = "not installed; only a cv2.VideoCapture of your own needs it"
        if hidden and jetson:
            fix = _with_system_packages(hidden)
            return Finding(check, "missing", found, fix)
        return Finding(check, "ok", found)
    try:
        version, file, gstreamer = in_subprocess("opencv_facts")
    except VptError as error:
        if "numpy" in str(error):
            fix = "pip install 'numpy<2'"
        return Finding(check, "missing", f"does not load: {error}", fix)
    has = "with" if gstreamer else "without"
    found = f"{version} ({_origin(file)}), {has} GStreamer"
    if gstreamer or not jetson:
        return Finding(check, "ok", found)
    if hidden:
        fix = "pip uninstall -y opencv-python opencv-python-headless opencv-contrib-python"
        found += f", shadows JetPack's {hidden}"
    return Finding(check, "warning", f"{found}; a cv2.VideoCapture of a CSI camera needs it", fix)


def is_installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def _system_module(name: str) -> Path | None:
    """A module among the system's own packages, whether this environment sees them or not."""
    paths = list[Path]()
    for folder in sorted((host.ROOT / "usr/lib").glob("python3*/dist-packages")):
        paths += folder.glob(name)
        paths += folder.glob(f"{name}.*so")
    return paths[-1] if paths else None


def _with_system_packages(module: Path) -> str:
    """The environment must be of the Python that the system's module is for."""
    python = module.parent.parent.name
    return f"/usr/bin/{python} -m venv --system-site-packages VENV, and install vpt-edge there"


def _origin(file: str) -> str:
    return "system package" if host.ROOT / "usr/lib" in Path(file).parents else "wheel"
