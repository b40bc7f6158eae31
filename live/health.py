"""How a watch goes, in a file that others may read, and whether that is well.

    {"version": 1, "pid": 4711, "time": 1795000000.0, "monotonic": 8123.4, "answers": 118,
     "last_answer": {"time": …, "monotonic": …},
     "sources": [{"name": "rtsp://camera/stream", "live": true, "state": "live",
                  "frames": 5400, "dropped": 5282, "opens": 1, "losses": 0, "undecoded": 0,
                  "last_frame": {"time": …, "monotonic": …}}]}

``time`` is in seconds since 1970, for people; ``monotonic`` on the clock that never jumps, which
all processes of a machine share until it starts anew.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vpt_edge.runtime.files import check_file, write_file

if TYPE_CHECKING:
    from vpt_edge.live.source import Source

VERSION = 1
INTERVAL = 2.0  # seconds between two writings
LONGEST = 1 << 20  # bytes of a status file

Moment = dict[str, float]
Status = dict[str, Any]


class Health:
    """Keeps the ``status``, and writes it into the file ``path`` where there is one, which is
    replaced whole each time.

    Raises VptError where it cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        if path is not None:
            check_file(path)
        self.status: Status | None = None
        self._path = path
        self._written = -float("inf")
        self._answers = _Rise()
        self._frames = dict[int, _Rise]()  # by the source's place: two may have one name

    def beat(self, sources: Sequence[Source], answers: int) -> None:
        """Say how it goes, at most once in 2 s; to be called from where the work would hang.

        ``answers``: how many were given so far. Raises OSError and VptError as ``write_file`` does.
        """
        now = _now()
        self._answers.follow(answers, now)
        for index, source in enumerate(sources):
            frames = self._frames.setdefault(index, _Rise())
            frames.follow(source.counts.frames, now)
        if now["monotonic"] - self._written < INTERVAL:
            return
        self._written = now["monotonic"]
        rows = [self._describe(index, source) for index, source in enumerate(sources)]
        self.status = {
            "version": VERSION,
            "pid": os.getpid(),
            **now,
            "answers": answers,
            "last_answer": self._answers.moment,
            "sources": rows,
        }
        if self._path is not None:
            write_file(self._path, json.dumps(self.status, indent=1).encode())

    def _describe(self, index: int, source: Source) -> dict[str, Any]:
        counts = source.counts
        return {
            "name": source.name,
            "live": source.live,
            "state": source.state,
            "frames": counts.frames,
            "dropped": counts.dropped,
            "opens": counts.opens,
            "losses": counts.losses,
            "undecoded": counts.undecoded,
            "last_frame": self._frames[index].moment,
        }


class _Rise:
    """When a count last rose."""

    def __init__(self) -> None:
        self._count = 0
        self.moment: Moment | None = None

    def follow(self, count: int, now: Moment) -> None:
        if count > self._count:
            self._count = count
            self.moment = now


def _now() -> Moment:
    return {"time": time.time(), "monotonic": time.monotonic()}


def check_health(path: str | os.PathLike[str], silence: float) -> list[str]:
    """What is wrong with the watch that writes the status file ``path``, a line each.

    ``silence``: for how many seconds the file, and each live source, may be silent. To be asked on
    the machine, and in the container, of the watch: by its clock and its number it is known.
    """
    try:
        status = _read(Path(path))
        return find_problems(status, silence)
    except OSError as error:
        return [f"{path} cannot be read ({error.strerror}): no watch has written it"]
    except (ValueError, TypeError, LookupError, OverflowError, RecursionError):
        return [f"{path} is not a status file of vpt-watch"]


def _read(path: Path) -> Status:
    with path.open("rb") as file:
        data = file.read(LONGEST)
    status: Status = json.loads(data)
    if status["version"] != VERSION:
        raise ValueError
    return status


def find_problems(status: Status, silence: float) -> list[str]:
    """What is wrong with the watch of a ``status``, as of ``check_health``."""
    now = time.monotonic()
    age = now - status["monotonic"]
    if age < 0:
        return ["the status is from before this machine was started: the watch has not run since"]
    if age > silence:
        limit = f"at most {silence:g} s are allowed"
        return [f"process {status['pid']} wrote its status {age:.0f} s ago: {limit}"]
    if not _is_alive(status["pid"]):
        return [f"process {status['pid']} has ended"]
    problems = []
    for source in status["sources"]:
        problem = _judge_source(source, now, silence)
        if problem:
            problems.append(problem)
    return problems


def _judge_source(source: dict[str, Any], now: float, silence: float) -> str:
    """What is wrong with a live source; empty where nothing is. A file may take its time."""
    if not source["live"] or source["state"] == "ended":
        return ""
    if source["last_frame"] is None:
        return f"{source['name']} has given no frame yet: {source['state']}"
    age = now - source["last_frame"]["monotonic"]
    if age <= silence:
        return ""
    return f"{source['name']} gave its last frame {age:.0f} s ago: {source['state']}"


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # of another user
        return True
    return True
