"""What this machine can run, and the command that mends what is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from types import SimpleNamespace

from vpt_edge.device import cameras, libraries, machine, video
from vpt_edge.device.machine import GIB, Finding
from vpt_edge.runtime import host
from vpt_edge.runtime.bundle import Bundle
from vpt_edge.runtime.errors import BundleError, SessionError
from vpt_edge.runtime.kv_cache import cache_bytes
from vpt_edge.runtime.sessions.ort import copy_files
from vpt_edge.runtime.sessions.plan import map_plan
from vpt_edge.runtime.sessions.tensorrt import read_platform

Check = Callable[[], Finding | Iterable[Finding]]

CHECKS: dict[str, Check] = {
    "JetPack": machine.check_jetpack,
    "board": machine.check_board,
    "power mode": lambda: [machine.check_power_mode()] if machine.is_jetson() else [],
    "CPU": machine.check_cpu,
    "memory": machine.check_memory,
    "CUDA driver": libraries.check_driver,
    "CUDA runtime": libraries.check_cuda_runtime,
    "TensorRT": lambda: libraries.check_tensorrt("TensorRT", "tensorrt"),
    "TensorRT-RTX": lambda: libraries.check_tensorrt("TensorRT-RTX", "tensorrt-rtx"),
    "ONNX Runtime": libraries.check_onnxruntime,
    "OpenCV": libraries.check_opencv,
    "PyAV": video.check_pyav,
    "GStreamer": video.check_gstreamer,
    "video decoding": video.check_decoding,
    "cameras": cameras.check_cameras,
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
    findings = list[Finding]()
    for name, check in CHECKS.items():
        findings += run_check(name, check)
    ok = {finding.check for finding in findings if finding.state == "ok"}
    gpu = libraries.open_gpu()
    devices = list[str]()
    for device, check_name in NEEDS.items():
        if check_name in ok and (device == "cpu" or gpu):
            devices.append(device)
    if bundle is not None:
        findings += run_check("bundle", lambda: check_bundle(bundle, devices))
    return findings, devices


def run_check(name: str, check: Check) -> list[Finding]:
    """The findings of a check; one that fails in a way that nobody thought of does not end the
    report.
    """
    findings = list[Finding]()
    try:
        result = check()
        if isinstance(result, Finding):
            findings.append(result)
        else:
            for finding in result:  # what was found before a failure counts
                findings.append(finding)
    except Exception as error:
        text = " ".join(f"{type(error).__name__}: {error}".split())
        findings.append(Finding(name, "warning", f"could not be checked: {text}"))
    return findings


def check_bundle(path: str, devices: list[str]) -> Iterator[Finding]:
    """Whether the bundle is whole and what it needs.

    Takes from ``devices`` all that cannot run it.
    """
    here = list(devices)
    devices.clear()
    try:
        bundle = Bundle.open(path)
    except BundleError as error:
        yield Finding("bundle", "missing", error.problem, error.fix)
        return
    manifest = bundle.manifest
    yield Finding(
        "bundle",
        "ok",
        f"whole: {manifest.kind}, {manifest.precision}, cache of {manifest.cache.dtype}, "
        f"for {manifest.target}",
    )
    if bundle.is_scattered:
        found = "symlinks into several folders, from which ONNX Runtime 1.24 takes no weights"
        yield Finding("bundle files", "warning", found, copy_files(bundle.path))
    devices += [device for device in here if device in TARGETS[manifest.target]]
    for library in [device for device in devices if device.startswith("tensorrt")]:
        finding = _check_plans(bundle, library)
        if finding.state != "ok":
            devices.remove(library)
        yield finding
    yield _check_target(bundle, here, devices)
    yield _check_memory(bundle, devices)


def _check_plans(bundle: Bundle, library: str) -> Finding:
    check = f"plans for {library}"
    try:
        version, _ = libraries.tensorrt_version(library)
        platform = read_platform(SimpleNamespace(__version__=version), library)
        for name in bundle.manifest.graphs:
            map_plan(bundle, platform, name)
    except (BundleError, SessionError) as error:
        fix = f"vpt-build {bundle.path} --device {library}"
        return Finding(check, "missing", error.problem, fix)
    return Finding(check, "ok", f"{len(bundle.manifest.graphs)}, built with {platform}")


def _check_target(bundle: Bundle, here: list[str], devices: list[str]) -> Finding:
    """Whether the graphs are those that this machine runs best."""
    check = "bundle target"
    target = bundle.manifest.target
    precision = bundle.manifest.precision
    export = f"vpt-export CHECKPOINT -o BUNDLE --precision {precision} --target"
    if not devices:
        runs_on = ", ".join(TARGETS[target])
        found = f"graphs for {target} run on {runs_on}, here none of them does"
        return Finding(check, "missing", found, "mend what is missing above")
    if devices == ["cpu"] and target == "tensorrt" and precision.startswith("int"):
        found = (
            f"{precision} graphs for TensorRT run here on the CPU only, and there many times "
            "slower than those for ONNX Runtime"
        )
        return Finding(check, "warning", found, f"{export} onnxruntime")
    others = [device for device in here if device not in TARGETS[target]]
    if devices == ["cpu"] and others:
        found = (
            f"graphs for {target} run here on the CPU only, others could run on {', '.join(others)}"
        )
        other_target = "onnxruntime" if target == "tensorrt" else "tensorrt"
        return Finding(check, "warning", found, f"{export} {other_target}")
    return Finding(check, "ok", f"{target}: {', '.join(devices)} can run it")


def _check_memory(bundle: Bundle, devices: list[str]) -> Finding:
    """Weights and cache against what is free; activations come on top, so that what just fits is
    said in numbers.
    """
    check = "bundle memory"
    weights = sum(bundle.file(name).stat().st_size for name in bundle.manifest.files)
    cache = cache_bytes(bundle.manifest, bundle.manifest.cache.capacity)
    least = host.read_memory().available
    found = f"{_size(weights)} of weights and {_size(cache)} of cache, {_size(least)} available"
    gpu = libraries.open_gpu()
    if gpu and not gpu.integrated and devices != ["cpu"]:
        free, _ = gpu.memory()
        least = min(least, free)
        found += f", {_size(free)} on the GPU"
    if weights + cache > least:
        fix = (
            "close other programs, or vpt-export with --precision int4 or a smaller --cache-tokens"
        )
        return Finding(check, "warning", f"{found}: too little", fix)
    return Finding(check, "ok", found)


def _size(size: int) -> str:
    return f"{size / GIB:.1f} GiB" if size >= GIB else f"{size / (1 << 20):.1f} MiB"
