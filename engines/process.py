"""The process that builds one plan, as its parent sees it: started, followed, ended."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from typing import IO, Any

from vpt_edge.engines import resources
from vpt_edge.engines.resources import MIB
from vpt_edge.runtime.child import child_command, child_environment
from vpt_edge.runtime.errors import VptError

WORK = "from vpt_edge.engines.worker import main; sys.exit(main())"
STOPPED = (130, -signal.SIGINT, -signal.SIGTERM)  # it may not have come to handling them
PATIENCE = 10.0  # seconds that a process has to end by itself after Ctrl-C
TICK = 0.2  # seconds


class BuildProcess:
    """One run of ``vpt_edge.engines.worker``; ``title`` says in errors what it was doing."""

    def __init__(self, work: dict[str, Any], title: str) -> None:
        self._work = work
        self._title = title
        self.peak = 0  # bytes that it was seen to hold at most

    def run(self, watch: Callable[[str, float], None]) -> dict[str, Any]:
        """The last message. Raises VptError for a failure; on Ctrl-C the process is ended first."""
        kills_before = resources.oom_kills()
        with tempfile.TemporaryFile() as printed:
            process = _start(printed)
            try:
                result = self._follow(process, watch)
                process.wait()
            finally:
                _end(process)
            if process.returncode == 0 and result:
                return result
            if process.returncode in STOPPED:
                raise KeyboardInterrupt
            if "problem" in result:
                raise VptError(f"{self._title} failed: {result['problem']}", result["fix"])
            if process.returncode == -signal.SIGKILL:
                raise self._killed(resources.oom_kills() - kills_before)
            raise self._crashed(process.returncode, _tail(printed))

    def _follow(
        self, process: subprocess.Popen[str], watch: Callable[[str, float], None]
    ) -> dict[str, Any]:
        """Hand on the progress; returns the message that is none."""
        result: dict[str, Any] = {}
        for message in _messages(process, self._work):
            self.peak = max(self.peak, resources.peak_memory(process.pid))
            if message is not None and "stage" in message:
                watch(message["stage"], message["fraction"])
            elif message is not None:
                result = message
        return result

    def _killed(self, kills: int) -> VptError:
        """``kills``: how many processes the kernel has killed for want of memory meanwhile."""
        cause = "most likely out of memory, though the kernel's count of such kills did not rise"
        if kills:
            cause = (
                "the kernel's count of processes killed for want of memory rose by "
                f"{kills}: out of memory"
            )
        if self.peak:
            cause += f"; it was seen to hold {self.peak // MIB} MiB"
        return VptError(f"{self._title} was killed: {cause}", resources.advice(self.peak or 1))

    def _crashed(self, code: int, printed: str) -> VptError:
        cause = f"signal {-code}" if code < 0 else f"exit code {code}"
        return VptError(f"{self._title} crashed with {cause}: {printed or 'it printed nothing'}")


def _start(printed: IO[bytes]) -> subprocess.Popen[str]:
    """The worker, which prints into ``printed`` what is not a message."""
    return subprocess.Popen(
        child_command(WORK),
        env=child_environment(),
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=printed,
    )


def _messages(
    process: subprocess.Popen[str], work: dict[str, Any]
) -> Iterator[dict[str, Any] | None]:
    """What the process says until it closes its output, and None at least every ``TICK``."""
    assert process.stdin is not None and process.stdout is not None
    with contextlib.suppress(BrokenPipeError):  # where it died at once, its exit code says more
        process.stdin.write(json.dumps(work) + "\n")
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    output = process.stdout
    lines = queue.Queue[str | None]()

    def read() -> None:
        with output:
            for line in output:
                lines.put(line)
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    while True:
        try:
            line = lines.get(timeout=TICK)
        except queue.Empty:
            yield None
            continue
        if line is None:
            return
        yield json.loads(line)


def _end(process: subprocess.Popen[str]) -> None:
    """See to it that the process has ended: it is asked to, and killed if it does not listen."""
    if process.poll() is not None:
        return
    try:
        if os.name == "posix":
            process.send_signal(signal.SIGINT)
        else:
            process.terminate()
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        pass
    finally:
        process.kill()
        process.wait()


def _tail(printed: IO[bytes]) -> str:
    """The last words of what was printed, in one line."""
    printed.seek(0)
    return " ".join(printed.read().decode(errors="replace").split()[-60:])
