"""Debian's kernel, unpacked and not installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from debian import update_lists

META_PACKAGE = "linux-image-amd64"


class Kernel:
    """In ``folder``; downloaded unless it is there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve() / "kernel"
        if not self._folder.exists():
            _unpack(self._folder)
        (self.image,) = self._folder.glob("boot/vmlinuz-*")
        self.version = self.image.name.removeprefix("vmlinuz-")

    def modules(self, name: str) -> list[Path]:
        """The files of the module and of those that it needs, in the order to load them."""
        command = ["/sbin/modprobe", "--set-version", self.version, "--dirname", str(self._folder)]
        command += ["--show-depends", name]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        files = []
        for line in output.splitlines():
            kind, _, rest = line.partition(" ")
            if kind == "insmod":
                files.append(Path(rest.split()[0]))
        return files


def _unpack(folder: Path) -> None:
    part = folder.with_name("kernel.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    name = _package() or _package(update=True)
    download = ["apt-get", "download", "--quiet", "-o", "APT::Sandbox::User=root", name]
    subprocess.run(download, cwd=part, check=True)
    (package,) = part.glob("*.deb")
    subprocess.run(["dpkg", "--extract", str(package), str(part)], check=True)
    package.unlink()
    (modules,) = part.glob("lib/modules/*")
    subprocess.run(["/sbin/depmod", "--basedir", str(part), modules.name], check=True)
    part.rename(folder)


def _package(update: bool = False) -> str:
    """The name of the newest kernel's package; empty where apt has no lists."""
    if update:
        update_lists()
    command = ["apt-cache", "depends", "--important", META_PACKAGE]
    output = subprocess.run(command, capture_output=True, text=True, check=update).stdout
    for line in output.splitlines():
        kind, _, name = line.strip().partition(": ")
        if kind == "Depends":
            return name
    return ""
