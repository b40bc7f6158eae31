"""vpt-doctor on this machine, and on an Orin, a Thor and desktops that are made of files and stand-
ins.
"""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from manifests import for_tensorrt

from vpt_edge.commands import doctor as command
from vpt_edge.device import doctor, libraries, machine
from vpt_edge.device.machine import Finding
from vpt_edge.runtime import host
from vpt_edge.runtime.bundle import Bundle
from vpt_edge.runtime.errors import SessionError
from vpt_edge.runtime.files import sha256
from vpt_edge.runtime.manifest import write_manifest
from vpt_edge.runtime.sessions import cuda
from vpt_edge.runtime.sessions.plan import Plan, digest, plan_files
from vpt_edge.runtime.sessions.tensorrt import read_platform
from vpt_edge.runtime.testing import tiny_bundle

ORIN = (
    "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, "
    "DATE: Wed Jan  8 01:49:37 UTC 2025"
)
THOR = (
    "# R38 (release), REVISION: 2.0, GCID: 41844464, BOARD: generic, EABI: aarch64, "
    "DATE: Fri Aug 22 00:55:42 UTC 2025"
)
A78AE = (
    "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop "
    "asimddp uscat flagm"
)
X86 = "fpu vme sse sse2 ht ssse3 fma sse4_1 sse4_2 avx f16c"
SKYLAKE = f"{X86} avx2 avx512f avx512dq avx512cd avx512bw avx512vl"
MEMINFO = (
    "MemTotal: {total} kB\nMemFree: 1 kB\nMemAvailable: {free} kB\n"
    "SwapTotal: {swap} kB\nSwapFree: {swap} kB\n"
)
GIB = 1 << 20  # in kB


class Machine:
    """A machine made of files."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, path: str, text: str, mode: int = 0o644) -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)
        return file

    def memory(self, total: int, free: int, swap: int = 0) -> None:
        self.write("proc/meminfo", MEMINFO.format(total=total, free=free, swap=swap))

    def jetson(self, release: str, model: str, mode: str, jetpack: str = "") -> None:
        self.write("etc/nv_tegra_release", release + "\n# KERNEL_VARIANT: oot\n")
        self.write("proc/device-tree/model", f"{model}\0")
        self.write("bin/nvpmodel", f"#!/bin/sh\necho 'NV Power Mode: {mode}'\necho 2\n", 0o755)
        self.write(
            "bin/dpkg-query",
            f"#!/bin/sh\necho {jetpack}\n" if jetpack else "#!/bin/sh\nexit 1\n",
            0o755,
        )

    def module(self, name: str, text: str, folder: str = "site") -> None:
        self.write(f"{folder}/{name}/__init__.py", text)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A desktop without anything. Modules come from its ``site``, commands from its ``bin``."""
    made = Machine(tmp_path / "root")
    made.memory(16 * GIB, 12 * GIB)
    made.write(
        "proc/cpuinfo",
        "processor\t: 0\nmodel name\t: Some CPU\n\nprocessor\t: 1\nmodel name\t: Some CPU\n",
    )
    (made.root / "site").mkdir()
    monkeypatch.setattr(host, "ROOT", made.root)
    monkeypatch.setenv("PATH", f"{made.root / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.syspath_prepend(made.root / "site")
    monkeypatch.setattr(cuda.Device, "open", no_gpu)
    return made


def no_gpu() -> Any:
    raise SessionError(
        "no CUDA driver: libcuda.so.1: cannot open shared object file", "install NVIDIA's driver"
    )


def gpu(
    monkeypatch: pytest.MonkeyPatch,
    name: str = "Orin",
    capability: str = "8.7",
    integrated: bool = True,
) -> None:
    device = SimpleNamespace(name=name, capability=capability, driver="12.6", integrated=integrated)
    device.memory = lambda: (4 << 30, 8 << 30)
    monkeypatch.setattr(cuda.Device, "open", lambda: device)


def hide(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    monkeypatch.setattr(libraries, "is_installed", lambda name: name not in names)


ONNXRUNTIME = """
__version__ = "1.23.0"
def get_available_providers():
    return ["CUDAExecutionProvider", "CPUExecutionProvider"]
class InferenceSession:
    def __init__(self, model, providers):
        loading = [name for name in providers if name in {loading}]
        self.providers = [*loading, "CPUExecutionProvider"]
    def get_providers(self):
        return self.providers
    def run(self, names, inputs):
        return [2 * inputs["x"]]
"""


def fake_onnxruntime(place: Machine, *loading: str) -> None:
    place.module("onnxruntime", ONNXRUNTIME.replace("{loading}", repr(loading)))
    place.write("site/onnxruntime/capi/libonnxruntime_providers_cuda.so", "no library")


def states(findings: list[Finding]) -> dict[str, str]:
    return {finding.check: finding.state for finding in findings}


def test_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    """Right in every line that can be held against something else."""
    assert command.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith("runs here: cpu")
    found = {
        match[1]: match[2]
        for line in lines
        if (match := re.match(r"(?:ok|warning|missing) +(.+?)  +(.+)", line))
    }
    cores = subprocess.run(
        ["nproc", "--all"], capture_output=True, text=True, check=True
    ).stdout.strip()
    assert f", {cores} cores" in found["CPU"]
    total = int(re.findall(r"MemTotal: +(\d+)", Path("/proc/meminfo").read_text())[0])
    assert f"of {total / GIB:.1f} GiB available" in found["memory"]
    assert found["CPUExecutionProvider"] == "loads, and ran a graph"
    assert ("cameras" in found) == (not list(Path("/dev").glob("video*")))


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert set(data) == {"findings", "devices", "cameras"}
    assert data["devices"][0] == "cpu"
    assert all(set(finding) == {"check", "state", "found", "fix"} for finding in data["findings"])
    assert {finding["state"] for finding in data["findings"]} <= {"ok", "warning", "missing"}


def test_a_plain_machine_lacks_nothing(place: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it has no use for is no fault."""
    hide(monkeypatch, "tensorrt", "tensorrt_rtx", "tensorrt_rtx_bindings", "cv2")
    findings, devices = doctor.examine()
    assert {check for check, state in states(findings).items() if state != "ok"} == set()
    assert "power mode" not in states(findings)
    assert devices == ["cpu"]


def test_an_orin(place: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    place.jetson(ORIN, "NVIDIA Jetson Orin Nano Developer Kit", "MAXN_SUPER", "6.2+b77")
    place.memory(8 * GIB, 5 * GIB)
    place.write(
        "proc/cpuinfo", "".join(f"processor\t: {n}\nFeatures\t: {A78AE}\n\n" for n in range(4))
    )
    place.write("sys/devices/system/cpu/present", "0-5\n")
    place.module("tensorrt", "__version__ = '10.3.0'", "usr/lib/python3.10/dist-packages")
    place.module(
        "cv2", "__version__ = '4.8.0'\ngetBuildInformation = lambda: ' GStreamer:   YES (1.20.3)'"
    )
    monkeypatch.syspath_prepend(place.root / "usr/lib/python3.10/dist-packages")
    fake_onnxruntime(place, "CUDAExecutionProvider")
    gpu(monkeypatch)
    findings, devices = doctor.examine()
    found = {finding.check: finding for finding in findings}
    assert found["JetPack"] == Finding("JetPack", "ok", "6.2+b77, L4T 36.4.3")
    assert found["board"].found.startswith("NVIDIA Jetson Orin Nano Developer Kit (")
    assert found["power mode"] == Finding("power mode", "ok", "MAXN_SUPER")
    assert found["CPU"].found.startswith(
        f"{platform.machine()}, 4 cores of 6, the others are switched off, dot product"
    )
    assert found["memory"].state == "warning"
    assert "swapon" in found["memory"].fix
    assert (
        found["CUDA driver"].found
        == "CUDA 12.6, Orin, compute 8.7, 4.0 of 8.0 GiB free, shared with the CPU"
    )
    assert found["TensorRT"] == Finding("TensorRT", "ok", "10.3.0 (system package)")
    assert found["OpenCV"] == Finding("OpenCV", "ok", "4.8.0 (wheel), with GStreamer")
    assert devices[:3] == ["cpu", "cuda", "tensorrt"]


@pytest.mark.parametrize(
    ("key", "flags", "instructions"),
    [
        pytest.param(
            "flags", f"{X86} avx2 vaes", "AVX2 without VNNI (int8 products are slower)", id="Milan"
        ),
        pytest.param(
            "flags", f"{SKYLAKE} avx512_vbmi2 avx512_vnni", "AVX512-VNNI", id="Ice Lake, Zen 4"
        ),
        pytest.param("flags", f"{SKYLAKE} avx_vnni avx512_vnni", "AVX512-VNNI", id="Zen 5"),
        pytest.param(
            "flags",
            f"{SKYLAKE} avx_vnni avx512_vnni amx_tile amx_int8",
            "AMX",
            id="Sapphire Rapids",
        ),
        pytest.param("flags", f"{X86} avx2 avx_vnni", "AVX-VNNI", id="Alder Lake"),
        pytest.param(
            "flags", SKYLAKE, "AVX512 without VNNI (int8 products are slower)", id="Skylake server"
        ),
        pytest.param("flags", X86, "no AVX2 (int8 products are slower)", id="Ivy Bridge"),
        pytest.param("Features", A78AE, "dot product", id="Orin"),
        pytest.param(
            "Features", f"{A78AE} sve svei8mm i8mm bf16", "dot product, i8mm", id="Thor, Graviton 3"
        ),
        pytest.param(
            "Features",
            "fp asimd crc32",
            "no dot product (int8 products are slower)",
            id="Raspberry Pi 4",
        ),
    ],
)
def test_the_instructions_that_int8_depends_on(
    place: Machine, monkeypatch: pytest.MonkeyPatch, key: str, flags: str, instructions: str
) -> None:
    """They name what decides; where they are slow there is nothing to mend."""
    core = f"model name\t: Some CPU\n{key}\t\t: {flags}\nbugs\t\t: avx512_vnni i8mm\n"
    place.write("proc/cpuinfo", f"processor\t: 0\n{core}\nprocessor\t: 1\n{core}")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1}, raising=False)
    assert machine.check_cpu() == Finding("CPU", "ok", f"Some CPU, 2 cores, {instructions}")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0}, raising=False)
    assert machine.check_cpu().found == f"Some CPU, 2 cores, {instructions}; this process may use 1"


@pytest.mark.parametrize(
    ("quota", "cores"),
    [
        ("max 100000", 8),
        ("250000 100000", 2),
        ("50000 100000", 1),
        ("1600000 100000", 8),
        ("", 8),
        ("max", 8),
    ],
)
def test_a_container_may_use_as_many_cores_as_its_quota_fills(
    place: Machine, monkeypatch: pytest.MonkeyPatch, quota: str, cores: int
) -> None:
    place.write("sys/fs/cgroup/cpu.max", f"{quota}\n")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    assert host.usable_cores() == cores


@pytest.mark.parametrize(
    "cpuinfo",
    [
        "isa\t: rv64imafdcv\n",
        "Features\t: cpucfg lsx lasx\n",
        "flags\t\t:\nbugs\t: avx2\n",
        "",
        None,
    ],
    ids=["RISC-V", "LoongArch", "no flags", "empty", "no file"],
)
def test_a_system_that_does_not_tell_its_instructions(place: Machine, cpuinfo: str | None) -> None:
    if cpuinfo is None:
        (place.root / "proc/cpuinfo").unlink()
    else:
        place.write("proc/cpuinfo", cpuinfo)
    assert machine.check_cpu() == Finding(
        "CPU", "ok", f"{platform.machine()}, {os.cpu_count()} cores"
    )


def test_a_venv_that_hides_jetpack(place: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    place.jetson(THOR, "NVIDIA Jetson AGX Thor Developer Kit", "120W", "7.0")
    for name in ("tensorrt", "cv2"):
        place.module(name, "", "usr/lib/python3.12/dist-packages")
    hide(monkeypatch, "tensorrt", "cv2")
    for finding in (libraries.check_tensorrt("TensorRT", "tensorrt"), libraries.check_opencv()):
        assert finding.state == "missing"
        assert finding.fix.startswith("/usr/bin/python3.12 -m venv --system-site-packages ")
    assert machine.check_jetpack() == Finding("JetPack", "ok", "7.0, L4T 38.2.0")
    assert machine.check_power_mode().found == "120W"


def test_a_wheel_that_shadows_jetpacks_opencv(place: Machine) -> None:
    place.jetson(THOR, "Thor", "MAXN")
    place.module("cv2", "__version__ = '4.12.0'\ngetBuildInformation = lambda: ' GStreamer:   NO'")
    assert libraries.check_opencv().fix == "sudo apt install nvidia-opencv"
    place.write("usr/lib/python3.12/dist-packages/cv2.cpython-312-aarch64-linux-gnu.so", "")
    finding = libraries.check_opencv()
    assert finding.state == "warning"
    assert "without GStreamer, shadows JetPack's " in finding.found
    assert finding.fix.startswith("pip uninstall -y opencv-python ")


@pytest.mark.parametrize(
    ("release", "jetpack", "fix"),
    [
        (ORIN, "", "sudo apt install nvidia-jetpack"),
        (ORIN.replace("R36", "R35"), "5.1", "flash JetPack 6.1"),
    ],
)
def test_jetpack_that_does_not_do(place: Machine, release: str, jetpack: str, fix: str) -> None:
    place.jetson(release, "Orin", "15W", jetpack)
    finding = machine.check_jetpack()
    assert finding.state == "warning"
    assert finding.fix.startswith(fix)


def test_a_container_on_a_jetson(place: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    place.write("proc/device-tree/compatible", "nvidia,p3737\0nvidia,tegra234\0")
    monkeypatch.setenv("PATH", str(place.root / "bin"))
    assert machine.check_jetpack().state == machine.check_power_mode().state == "warning"
    assert libraries.check_driver().state == "missing"
    place.write("sys/fs/cgroup/memory.max", f"{2 << 30}\n")
    place.write("sys/fs/cgroup/memory.current", f"{1 << 30}\n")
    assert machine.check_memory().found.startswith("1.0 of 2.0 GiB available, no swap")


def test_a_desktop_whose_gpu_has_no_driver(place: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    place.write("sys/bus/pci/devices/0000:01:00.0/vendor", "0x10de\n")
    card = place.write("sys/bus/pci/devices/0000:01:00.0/class", "0x040300\n")
    assert libraries.check_driver().state == "ok"  # the sound of a card
    card.write_text("0x030000\n")
    hide(monkeypatch, "tensorrt", "tensorrt_rtx", "tensorrt_rtx_bindings")
    assert "ubuntu-drivers install" in libraries.check_driver().fix
    assert (
        libraries.check_tensorrt("TensorRT", "tensorrt").fix == "pip install 'vpt-edge[tensorrt]'"
    )
    assert (
        libraries.check_tensorrt("TensorRT-RTX", "tensorrt-rtx").fix
        == "pip install 'vpt-edge[rtx]'"
    )


@pytest.mark.parametrize(
    ("capability", "state"),
    [("8.9", "ok"), ("9.0", "missing"), ("10.0", "missing"), ("12.0", "ok")],
)
def test_tensorrt_rtx_is_for_desktop_cards(
    capability: str, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = SimpleNamespace(name="NVIDIA GPU", capability=capability)
    monkeypatch.setattr(libraries, "open_gpu", lambda: gpu)
    monkeypatch.setattr(libraries, "tensorrt_version", lambda library: ("1.7.1.116", "rtx.so"))
    assert libraries.check_tensorrt("TensorRT-RTX", "tensorrt-rtx").state == state


@pytest.mark.parametrize(
    ("code", "found"),
    [
        (
            "import ctypes; ctypes.CDLL('libnvinfer_of_nobody.so.10')",
            "libnvinfer_of_nobody.so.10: cannot open",
        ),
        ("import os; os.kill(os.getpid(), 11)", "it crashes its process with SIGSEGV"),
        ("raise SystemExit(3)", "exit code 3"),
        ("__version__ = '8.5.2.2'", "8.5.2.2 (wheel) is too old, expected 10.3 or later"),
        ("__version__ = '10.2.0'", "10.2.0 (wheel) is too old, expected 10.3 or later"),
    ],
)
def test_a_tensorrt_that_does_not_do(
    place: Machine, monkeypatch: pytest.MonkeyPatch, code: str, found: str
) -> None:
    gpu(monkeypatch)
    place.module("tensorrt", code)
    finding = libraries.check_tensorrt("TensorRT", "tensorrt")
    assert finding.state == "missing"
    assert found in finding.found
    assert finding.fix


def test_a_provider_that_does_not_load(place: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_onnxruntime(place)
    found = {finding.check: finding for finding in libraries.check_onnxruntime()}
    assert found["CUDAExecutionProvider"].state == "ok"  # there is no GPU
    gpu(monkeypatch)
    found = {finding.check: finding for finding in libraries.check_onnxruntime()}
    assert found["CUDAExecutionProvider"].state == "missing"
    assert (
        "libonnxruntime_providers_cuda.so: file too short" in found["CUDAExecutionProvider"].found
    )
    assert found["CPUExecutionProvider"].state == "ok"
    assert doctor.examine()[1][:2] != ["cpu", "cuda"]


def test_an_onnxruntime_without_cuda(place: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_onnxruntime(place)
    place.write(
        "site/onnxruntime/__init__.py", ONNXRUNTIME.replace('"CUDAExecutionProvider", ', "")
    )
    gpu(monkeypatch, integrated=False)
    finding = list(libraries.check_onnxruntime())[-1]
    assert (finding.check, finding.state) == ("CUDAExecutionProvider", "missing")
    place.jetson(ORIN, "Orin", "15W")
    assert list(libraries.check_onnxruntime())[-1].fix.endswith(
        "NVIDIA's onnxruntime_gpu wheel for this JetPack"
    )


def test_two_onnxruntimes_overwrite_each_other(
    place: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_onnxruntime(place)
    both = {"onnxruntime": ["onnxruntime", "onnxruntime-gpu", "onnxruntime"]}
    monkeypatch.setattr("importlib.metadata.packages_distributions", lambda: both)
    finding = next(iter(libraries.check_onnxruntime()))
    assert finding.state == "warning"
    assert "onnxruntime and onnxruntime-gpu overwrite" in finding.found
    assert finding.fix == "pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime"


def test_without_onnxruntime_nothing_runs(
    place: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hide(monkeypatch, "onnxruntime", "cv2")
    assert command.main([]) == 2
    printed = capsys.readouterr()
    assert "-> pip install onnxruntime\n" in printed.out
    assert printed.out.endswith("runs here: nothing\n")
    assert printed.err.startswith("error: ")


def test_a_check_that_fails_does_not_end_the_report(
    place: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (place.root / "proc/meminfo").unlink()

    def surprise() -> Any:
        raise RuntimeError("of a kind that\nnobody knows")

    monkeypatch.setattr(cuda.Device, "open", surprise)
    findings, devices = doctor.examine(str(tiny_bundle(tmp_path / "bundle").path))
    found = {finding.check: finding for finding in findings}
    assert found["memory"].found.startswith("could not be checked: KeyError")
    assert (
        found["CUDA driver"].found
        == "could not be checked: RuntimeError: of a kind that nobody knows"
    )
    assert devices == ["cpu"]


def targeted(bundle: Bundle, precision: str) -> Bundle:
    """``bundle`` as one for TensorRT."""
    manifest = for_tensorrt(dataclasses.replace(bundle.manifest, precision=precision))
    write_manifest(manifest, bundle.path)
    return Bundle.open(bundle.path)


def fitness(bundle: Bundle, devices: list[str]) -> dict[str, Finding]:
    return {finding.check: finding for finding in doctor.check_bundle(str(bundle.path), devices)}


def test_a_bundle_that_runs(place: Machine, tmp_path: Path) -> None:
    devices = ["cpu", "tensorrt-rtx"]
    found = fitness(tiny_bundle(tmp_path / "bundle", capacity=1 << 20), devices)
    assert devices == ["cpu"]
    assert found["bundle"] == Finding(
        "bundle", "ok", "whole: clip, fp32, cache of float32, for onnxruntime"
    )
    assert "48.0 MiB of cache, 12.0 GiB available" in found["bundle memory"].found
    assert found["bundle target"].fix.endswith("--target tensorrt")
    place.memory(16 * GIB, 40 << 10)
    assert fitness(Bundle.open(tmp_path / "bundle"), ["cpu"])["bundle memory"].state == "warning"


def test_a_damaged_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = tiny_bundle(tmp_path / "bundle")
    bundle.file("decoder.onnx").write_text("altered")
    assert command.main([str(bundle.path)]) == 2
    printed = capsys.readouterr().out
    assert "decoder.onnx is altered (its sha256 differs)\n" in printed
    assert printed.endswith("runs here: nothing\n")


def test_int8_for_tensorrt_is_slow_on_a_cpu(place: Machine, tmp_path: Path) -> None:
    bundle = targeted(tiny_bundle(tmp_path / "bundle"), "int8")
    finding = fitness(bundle, ["cpu"])["bundle target"]
    assert finding.state == "warning"
    assert "many times slower" in finding.found
    assert finding.fix.endswith("--precision int8 --target onnxruntime")
    assert fitness(bundle, ["cuda"])["bundle target"].state == "missing"


def test_plans_that_are_there_and_fit(
    place: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    place.module("tensorrt", "__version__ = '10.3.0'")
    gpu(monkeypatch)
    bundle = targeted(tiny_bundle(tmp_path / "bundle"), "int8")
    devices = ["cpu", "tensorrt"]
    finding = fitness(bundle, devices)["plans for tensorrt"]
    assert finding.state == "missing"
    assert finding.fix == f"vpt-build {bundle.path} --device tensorrt"
    assert devices == ["cpu"]
    platform = read_platform(SimpleNamespace(__version__="10.3.0"), "tensorrt")
    for name in bundle.manifest.graphs:
        path, side_car = plan_files(bundle, platform, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"plan")
        plan = Plan(platform, digest(bundle, name), (), sha256(path), 4, 1.0)
        plan.write(side_car)
    devices = ["cpu", "tensorrt"]
    assert fitness(bundle, devices)["plans for tensorrt"].state == "ok"
    assert devices == ["cpu", "tensorrt"]
    path.write_bytes(b"plaM")
    assert "is altered" in fitness(bundle, ["tensorrt"])["plans for tensorrt"].found
    gpu(monkeypatch, "Thor", "11.0")
    assert fitness(bundle, ["tensorrt"])["plans for tensorrt"].state == "missing"


def test_the_module_runs_as_a_command() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "vpt_edge.commands.doctor", "/nowhere"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert "/nowhere is not a bundle" in result.stdout
    assert result.stderr == "error: /nowhere cannot run here; mend what is missing above\n"
