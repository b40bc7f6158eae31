"""The process that builds one plan: memory that TensorRT keeps ends with it, and so does a crash.

It takes its work from the standard input and writes messages, one JSON object a line, to the
standard output.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
import threading
import time
from typing import Any, TextIO

from vpt_edge.runtime.errors import VptError

INTERVAL = 0.05  # seconds between messages of one phase
TICK = 0.1  # seconds after which a signal is heeded at the latest


class Channel:
    """Messages to the parent. When nobody reads any more, ``stop`` is set."""

    def __init__(self, stream: TextIO, stop: threading.Event) -> None:
        self._stream = stream
        self._stop = stop
        self._fraction = -1.0  # of the last report
        self._sent = 0.0  # when it was

    def send(self, **message: Any) -> None:
        try:
            self._stream.write(json.dumps(message) + "\n")
            self._stream.flush()
        except OSError:
            self._stop.set()

    def report(self, stage: str, fraction: float) -> None:
        """Progress, not more often than an eye can follow."""
        now = time.monotonic()
        if now - self._sent >= INTERVAL or fraction >= 1 > self._fraction:
            self._fraction = fraction
            self._sent = now
            self.send(stage=stage, fraction=round(fraction, 4))


def stop_at_interrupt(stop: threading.Event) -> None:
    """Set ``stop`` at the first SIGINT, SIGTERM or SIGHUP.

    A terminal's and the parent's come close together: the second one's handler would wait for ever
    for the lock that the first one's holds while it sets the event.
    """
    seen = False

    def interrupt(*_: object) -> None:
        nonlocal seen
        if not seen:
            seen = True
            stop.set()

    signal.signal(signal.SIGINT, interrupt)  # the parent's, even where a shell has it ignored
    signal.signal(signal.SIGTERM, interrupt)
    if os.name == "posix" and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, interrupt)


def main() -> int:
    """Do the work of the parent's one line.

    It is {"task": "probe", "library": ...} or {"task": "build", "job": ...}.
    """
    stop = threading.Event()
    stop_at_interrupt(stop)
    channel = Channel(os.fdopen(os.dup(1), "w"), stop)
    os.dup2(2, 1)  # what a library prints is not a message
    work = json.loads(sys.stdin.readline())
    code = 2

    def run() -> None:
        nonlocal code
        code = _run(work, channel, stop)

    # The main thread is left free, for signals are handled there.
    thread = threading.Thread(target=run)
    thread.start()
    while thread.is_alive():
        thread.join(TICK)  # whichever thread the kernel gives a signal, its handler runs here
    return code


def _run(work: dict[str, Any], channel: Channel, stop: threading.Event) -> int:
    try:
        if work["task"] == "probe":
            channel.send(**_probe(work["library"]))
        else:
            channel.send(**_build(work["job"], channel, stop))
    except KeyboardInterrupt:
        return 130
    except VptError as error:
        channel.send(problem=error.problem, fix=error.fix)
        return 2
    except OSError as error:
        channel.send(problem=str(error), fix="")
        return 2
    except Exception as error:  # a binding raises what it likes
        channel.send(problem=f"{type(error).__name__}: {error}", fix="")
        return 2
    return 0


def _probe(library: str) -> dict[str, Any]:
    """What plans are bound to here, and the free memory of a GPU that has its own."""
    from vpt_edge.runtime.sessions import cuda
    from vpt_edge.runtime.sessions.tensorrt import load_tensorrt, read_platform

    platform = read_platform(load_tensorrt(library), library)
    free = None
    if platform.gpu != "any":
        device = cuda.Device.open()
        free = None if device.integrated else device.memory()[0]
    return {"platform": dataclasses.asdict(platform), "gpu_free": free}


def _build(data: dict[str, Any], channel: Channel, stop: threading.Event) -> dict[str, Any]:
    from vpt_edge.engines.engine import Job, make_plan
    from vpt_edge.runtime.schema import read_as
    from vpt_edge.runtime.sessions.tensorrt import load_tensorrt

    job = read_as(Job, data, "the job")
    channel.report("Loading TensorRT", 0.0)
    plan = make_plan(load_tensorrt(job.platform.library), job, channel.report, stop)
    return {"built": {"bytes": plan.bytes, "seconds": plan.seconds}}


if __name__ == "__main__":
    sys.exit(main())
