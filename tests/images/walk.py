"""The instructions of a Dockerfile, run in folders that stand for its stages."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from images import dockerfile

if TYPE_CHECKING:
    from images.dockerfile import Instruction, Stage

# How this machine reaches its archives: what a builder would be told on its own command line.
CERTIFICATES = "/etc/ssl/of-the-builder.crt"
NETWORK = {
    "/etc/resolv.conf": "etc/resolv.conf",
    "/etc/apt/apt.conf.d": "etc/apt/apt.conf.d",
    "/etc/ssl/certs/ca-certificates.crt": CERTIFICATES[1:],
}
VARIABLES = ("http_proxy", "https_proxy", "no_proxy", "PIP_DEFAULT_TIMEOUT")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Walk:
    """One stage: a copy of its base, changed by instruction after instruction."""

    def __init__(self, stage: Stage, base: Path, root: Path) -> None:
        self.stage = stage
        self.root = root
        self.user = "0"
        self.folder = "/"
        self.environment = {"PATH": PATH}
        subprocess.run(["cp", "-a", str(base), str(root)], check=True)
        self._network()

    def _network(self) -> None:
        for name, place in NETWORK.items():
            source = Path(name)
            target = self.root / place
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, dirs_exist_ok=True, symlinks=True)
            elif source.exists():
                target.unlink(missing_ok=True)
                shutil.copyfile(source, target)

    def go(self, context: Path, roots: dict[str, Path]) -> None:
        """Raises CalledProcessError where a step fails."""
        with self.mounted():
            for instruction in self.stage.instructions:
                print(f"{instruction.keyword} {instruction.text[:100]}", flush=True)
                self._step(instruction, context, roots)

    def _step(self, instruction: Instruction, context: Path, roots: dict[str, Path]) -> None:
        keyword = instruction.keyword
        if keyword == "RUN":
            self.run(["/bin/sh", "-c", instruction.text])
        elif keyword in ("ARG", "ENV"):
            self.environment |= instruction.variables
        elif keyword == "USER":
            self.user = instruction.text
        elif keyword == "WORKDIR":
            self.folder = instruction.text
            self._below(self.folder).mkdir(parents=True, exist_ok=True)
        elif keyword == "COPY":
            self._copy(instruction, context, roots)
        elif keyword not in ("HEALTHCHECK", "ENTRYPOINT"):
            raise NotImplementedError(keyword)

    def _copy(self, instruction: Instruction, context: Path, roots: dict[str, Path]) -> None:
        source, target = instruction.words
        if "from" in instruction.flags:
            place = roots[instruction.flags["from"]] / source[1:]
            subprocess.run(["cp", "-a", str(place), str(self._below(target))], check=True)
            return
        for name in dockerfile.context(context, context / ".dockerignore"):
            file = self._below(self.folder) / name
            file.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(context / name, file)

    def run(self, words: list[str]) -> str:
        """What a command prints that runs as the user, in the folder and with the variables that
        the instructions so far have set.
        """
        group, home = self._account()
        variables = {"HOME": home, **self.environment, "PIP_CERT": CERTIFICATES}
        variables |= {name: os.environ[name] for name in VARIABLES if name in os.environ}
        listed = [f"{name}={value}" for name, value in variables.items()]
        script = f'cd {self.folder} && exec "$@"'
        inside = ["/bin/sh", "-c", script, "sh", *words]
        command = ["chroot", f"--userspec={self.user}:{group}", str(self.root)]
        command += ["env", "-i", *listed, *inside]
        result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if result.returncode:
            print(result.stdout)
            result.check_returncode()
        return result.stdout

    def _account(self) -> tuple[str, str]:
        """Group and home of the user, as the image's own files name them."""
        for line in self._below("/etc/passwd").read_text("utf-8").splitlines():
            _, _, number, group, _, home, _ = line.split(":")
            if number == self.user:
                return group, home
        return "0", "/"

    def _below(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    @contextmanager
    def mounted(self) -> Iterator[None]:
        """With a /proc of its own; the nodes of /dev come with the base."""
        target = str(self.root / "proc")
        subprocess.run(["mount", "-t", "proc", "proc", target], check=True)
        try:
            yield
        finally:
            subprocess.run(["umount", target], check=True)


def walk(path: Path, base: Path, context: Path, out: Path) -> Walk:
    """Walk all stages of the Dockerfile ``path``, whose bases ``base`` stands for; the last one."""
    roots = dict[str, Path]()
    last: Walk | None = None
    for index, stage in enumerate(dockerfile.read(path)):
        root = out / (stage.name or f"stage-{index}")
        if root.exists():
            subprocess.run(["rm", "-rf", "--one-file-system", str(root)], check=True)
        print(f"FROM {stage.base}: {base}", flush=True)
        last = Walk(stage, base, root)
        last.go(context, roots)
        roots[stage.name] = root
    assert last is not None
    return last
