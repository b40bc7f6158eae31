"""What ONNX Runtime is given: graphs that vpt-export wrote, damaged, in bundles that are sealed
again. They are opened and asked in a process of their own.
"""

from __future__ import annotations

import ast
import atexit
import dataclasses
import os
import shutil
import subprocess
import sys
import threading
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from golden import TAGS

from fuzz import graph_mutations
from fuzz.target import CrashError, Target, root
from vpt_edge.runtime.errors import SessionError
from vpt_edge.runtime.files import sha256
from vpt_edge.runtime.manifest import write_manifest

if TYPE_CHECKING:
    from hypothesis import strategies as st

    from vpt_edge.runtime import Bundle

GRAPHS = ("decoder", "reencoder_projector", "vision_encoder")  # by an input's first byte
HANG = 20.0  # seconds with one graph: it may well loop for ever


@cache
def source() -> Bundle:
    """A bundle of tests/tags."""
    from vpt_edge.export.exporter import export

    return export(str(TAGS), root() / "source", precision="fp32")


class Asker:
    """The process that opens a bundle again and again; where it dies the next one takes over."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._output = folder.with_name("output")
        self._process: subprocess.Popen[str] | None = None

    def ask(self) -> str:
        """The text with which the bundle is refused; empty where it answers.

        Raises CrashError where the process ends, or had to be ended.
        """
        if self._process is None:
            self._start()
        process = self._process
        assert process is not None and process.stdin is not None
        timer = threading.Timer(HANG, process.kill)
        timer.start()
        try:
            process.stdin.write("\n")
            process.stdin.flush()
            answer = self._answers.readline()
        finally:
            timer.cancel()
        if answer and not self._printed():
            text: str = ast.literal_eval(answer)
            return text
        self._process = None
        process.stdin.close()
        code = process.wait()
        if code < 0:
            raise CrashError(f"signal {-code}")
        raise AssertionError(self._printed())  # a traceback, or what reaches a terminal raw

    def close(self) -> None:
        """Let the process end."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            self._process.wait()

    def _start(self) -> None:
        read, write = os.pipe()
        command = [sys.executable, "-m", "fuzz.asker", str(self._folder), str(write)]
        with self._output.open("w") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                pass_fds=[write],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
                text=True,
            )
        os.close(write)
        self._answers = os.fdopen(read, encoding="utf-8")

    def _printed(self) -> str:
        return self._output.read_text("utf-8", "replace")


@cache
def _bundle() -> Bundle:
    original = source()
    folder = shutil.copytree(original.path, root() / "graphs" / "bundle")
    return dataclasses.replace(original, path=folder)


@cache
def _asker() -> Asker:
    asker = Asker(_bundle().path)
    atexit.register(asker.close)
    return asker


def _read_graph(data: bytes) -> None:
    bundle = _bundle()
    name = bundle.manifest.graphs[GRAPHS[data[0] % len(GRAPHS)]].file
    path = bundle.path / name
    original = path.read_bytes()
    path.write_bytes(data[1:])
    try:
        files = {**bundle.manifest.files, name: sha256(path)}
        write_manifest(dataclasses.replace(bundle.manifest, files=files), bundle.path)
        refusal = _asker().ask()
    finally:
        path.write_bytes(original)
        write_manifest(bundle.manifest, bundle.path)
    if refusal:
        raise SessionError(refusal)


def _graphs() -> st.SearchStrategy[bytes]:
    assert not _asker().ask()
    bundle = _bundle()
    seeds = [bundle.file(bundle.manifest.graphs[name].file).read_bytes() for name in GRAPHS]
    return graph_mutations.graphs(seeds)


GRAPH = {"graph": Target(_read_graph, _graphs)}
