"""What this machine can run, and the command that mends what is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from types import SimpleNamespace

import numpy as np

from vpt_edge.device import libraries, machine
from vpt_edge.device.machine import GIB, Finding
from vpt_edge.runtime import host
from vpt_edge.runtime.bundle import Bundle
from vpt_edge.runtime.errors import BundleError, SessionError
from vpt_edge.runtime.sessions import trt
from vpt_edge.runtime.sessions.plan import find_plan

CHECKS: dict[str, Callable[[], Finding | Iterable[Finding]]] = {
    "JetPack": machine.jetpack,
    "board": machine.board,
    "power mode": lambda: [machine.power_mode()] if machine.is_jetson() else [],
    "CPU": machine.cpu,
    "memory": machine.memory,
    "CUDA driver": libraries.driver,
    "CUDA runtime": libraries.cuda_runtime,
    "TensorRT": lambda: libraries.tensorrt("TensorRT", "tensorrt"),
    "TensorRT-RTX": lambda: libraries.tensorrt("TensorRT-RTX", "tensorrt-rtx"),
    "ONNX Runtime": libraries.onnxruntime,
    "OpenCV": libraries.opencv,
    "cameras": machine.cameras,
}
NEEDS = {  # the check that must be ok for a device to run; all but the CPU need a GPU as well
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorRT",
    "tensorrt-rtx": "TensorRT-RTX",
}
TARGETS = {"onnxruntime": ("cpu", "cuda"), "tensorrt": ("tensorrt", "tensorrt-rtx", "cpu")}


def examine(bundle: str | None = None) -> tuple[list[Finding], list[str]]:
    """All findings, and the devices that can run here: for ``bundle`` if it is given."""
    findings = [finding for check, look in CHECKS.items() for finding in _guarded(check, look)]
    ok = {finding.check for finding in findings if finding.state == "ok"}
    gpu = libraries.open_gpu()
    devices = [
        device for device, check in NEEDS.items() if check in ok and (device == "cpu" or gpu)
    ]
    if bundle is not None:
        findings += _guarded("bundle", lambda: _fitness(bundle, devices))
    return findings, devices


def _guarded(check: str, look: Callable[[], Finding | Iterable[Finding]]) -> list[Finding]:
    """The findings of a check; one that fails in a way that nobody thought of does not end the
    report."""
    findings: list[Finding] = []
    try:
        seen = look()
        for finding in [seen] if isinstance(seen, Finding) else seen:
            findings.append(finding)
    except Exception as error:
        text = " ".join(f"{type(error).__name__}: {error}".split())
        findings.append(Finding(check, "warning", f"could not be checked: {text}"))
    return findings


def _fitness(path: str, devices: list[str]) -> Iterator[Finding]:
    """Whether the bundle is whole and what it needs; takes from ``devices`` all that cannot run it."""
    here, devices[:] = devices[:], []
    try:
        bundle = Bundle.open(path)
    except BundleError as error:
        found, _, mend = str(error).rpartition("; ")
        yield Finding("bundle", "missing", found, mend)
        return
    manifest = bundle.manifest
    what = f"{manifest.kind}, {manifest.precision}, cache of {manifest.cache.dtype}, for {manifest.target}"
    yield Finding("bundle", "ok", f"whole: {what}")
    devices[:] = [device for device in here if device in TARGETS[manifest.target]]
    for library in [device for device in devices if device.startswith("tensorrt")]:
        finding = _plans(bundle, library)
        if finding.state != "ok":
            devices.remove(library)
        yield finding
    yield _target(bundle, here, devices)
    yield _memory(bundle, devices)


def _plans(bundle: Bundle, library: str) -> Finding:
    check = f"plans for {library}"
    try:
        version, _ = libraries.tensorrt_version(library)
        platform = trt.platform(SimpleNamespace(__version__=version), library)
        for name in bundle.manifest.graphs:
            find_plan(bundle, platform, name)
    except (BundleError, SessionError) as error:
        found = str(error).rpartition("; ")[0] or str(error)
        return Finding(check, "missing", found, f"vpt-build {bundle.path} --device {library}")
    return Finding(check, "ok", f"{len(bundle.manifest.graphs)}, built with {platform}")


def _target(bundle: Bundle, here: list[str], devices: list[str]) -> Finding:
    """Whether the graphs are those that this machine runs best."""
    check, manifest = "bundle target", bundle.manifest
    export = f"vpt-export CHECKPOINT -o BUNDLE --precision {manifest.precision} --target"
    others = [device for device in here if device not in TARGETS[manifest.target]]
    if not devices:
        found = f"graphs for {manifest.target} run on {', '.join(TARGETS[manifest.target])}, here none of them does"
        return Finding(check, "missing", found, "mend what is missing above")
    if (
        devices == ["cpu"]
        and manifest.target == "tensorrt"
        and manifest.precision.startswith("int")
    ):
        found = f"{manifest.precision} graphs for TensorRT run here on the CPU only, and there many times slower"
        return Finding(
            check, "warning", f"{found} than those for ONNX Runtime", f"{export} onnxruntime"
        )
    if devices == ["cpu"] and others:
        target = "onnxruntime" if manifest.target == "tensorrt" else "tensorrt"
        found = f"graphs for {manifest.target} run here on the CPU only, others could run on {', '.join(others)}"
        return Finding(check, "warning", found, f"{export} {target}")
    return Finding(check, "ok", f"{manifest.target}: {', '.join(devices)} can run it")


def _memory(bundle: Bundle, devices: list[str]) -> Finding:
    """Weights and cache against what is free; activations come on top, so that what just fits is
    said in numbers."""
    text, cache, now = bundle.manifest.text, bundle.manifest.cache, host.read_memory()
    weights = sum(bundle.file(name).stat().st_size for name in bundle.manifest.files)
    size = (
        2
        * text.layers
        * cache.capacity
        * text.kv_heads
        * text.head_dim
        * np.dtype(cache.dtype).itemsize
    )
    found = (
        f"{_size(weights)} of weights and {_size(size)} of cache, {_size(now.available)} available"
    )
    places = [now.available]
    gpu = libraries.open_gpu()
    if gpu and not gpu.integrated and devices != ["cpu"]:
        places.append(gpu.memory()[0])
        found += f", {_size(places[1])} on the GPU"
    if weights + size > min(places):
        mend = (
            "close other programs, or vpt-export with --precision int4 or a smaller --cache-tokens"
        )
        return Finding("bundle memory", "warning", f"{found}: too little", mend)
    return Finding("bundle memory", "ok", found)


def _size(size: int) -> str:
    return f"{size / GIB:.1f} GiB" if size >= GIB else f"{size / (1 << 20):.1f} MiB"
