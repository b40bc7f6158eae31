"""The shim that lets one system call fail, and work done under it in a process of its own."""

from __future__ import annotations

import ctypes
import errno
import io
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, NoReturn

from vpt_edge.commands import console

SOURCE = Path(__file__).with_name("shim.c")
KILL = 0  # in the place of an error's number
READING = {"open", "read", "stat", "list", "map", "close"}  # a kill there is one at the call before
ERRORS = {
    "create": (errno.EACCES, errno.ENOSPC, errno.EMFILE),
    "write": (errno.ENOSPC, errno.EIO),
    "fsync": (errno.EIO,),
    "close": (errno.EIO,),
    "mkdir": (errno.ENOSPC,),
    "rename": (errno.EACCES, errno.EXDEV),
    "exchange": (errno.EINVAL, errno.EIO),
    "unlink": (errno.EACCES,),
    "flock": (errno.ENOLCK, errno.EIO),
    "map": (errno.ENOMEM,),
}


class Call(NamedTuple):
    """A system call: its number from 1, what it does, and the path."""

    number: int
    name: str
    path: str

    @property
    def faults(self) -> tuple[int, ...]:
        """The errors that it may end with, and ``KILL`` where that makes a difference."""
        errors = ERRORS.get(self.name, (errno.EIO,))
        return errors if self.name in READING else (*errors, KILL)


@dataclass(frozen=True)
class Fault:
    """``call`` is the number of the call that fails; 0: none does."""

    call: int = 0
    error: int = KILL
    exchange: bool = True  # whether the file system can exchange two folders


@dataclass(frozen=True)
class Outcome:
    """``code``: the command's exit code, or the negative number of a signal."""

    code: int
    printed: str
    calls: tuple[Call, ...]


def compile_shim(folder: Path) -> Path:
    """Raises CalledProcessError or FileNotFoundError where the system has no compiler."""
    library = folder / "shim.so"
    command = ["cc", "-O1", "-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl"]
    subprocess.run(command, check=True)
    return library


def run_under(shim: Path, *arguments: str) -> int:
    """Run ``python -m`` with the shim loaded; returns its exit code."""
    environment = {**os.environ, "LD_PRELOAD": str(shim), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, env=environment, check=False).returncode


def run_forked(work: Callable[[], object], root: Path, fault: Fault) -> Outcome:
    """Do ``work`` as a command does, in a fork of this process, which has the shim loaded."""
    journal = root.with_name("journal")
    printed = root.with_name("printed")
    child = os.fork()
    if child == 0:
        _work(work, root, fault, journal, printed)
    _, status = os.waitpid(child, 0)
    calls = list[Call]()
    for number, line in enumerate(journal.read_text(errors="replace").splitlines(), 1):
        name, _, path = line.partition(" ")
        calls.append(Call(number, name, path))
    code = os.waitstatus_to_exitcode(status)
    return Outcome(code, printed.read_text(errors="replace"), tuple(calls))


def _work(
    work: Callable[[], object], root: Path, fault: Fault, journal: Path, printed: Path
) -> NoReturn:
    code = 1
    try:
        with printed.open("w") as file:
            sys.stdout = sys.stderr = io.TextIOWrapper(file.buffer.raw, write_through=True)  # type: ignore[attr-defined]
            arm = ctypes.CDLL(None).fault_arm
            arm(
                os.fsencode(root),
                fault.call,
                fault.error,
                int(fault.exchange),
                os.fsencode(journal),
            )
            code = console.exit_code(work)
    except BaseException as error:
        console.show_traceback(type(error), error, error.__traceback__)
    finally:
        os._exit(code)
