"""A line for each request: no picture is in it, and no question unless an operator wants it."""

from __future__ import annotations

import logging
import re
import sys
from typing import TYPE_CHECKING, Any

from vpt_edge.live.sinks.jsonl import JsonLines, format_line
from vpt_edge.runtime.errors import VptError

if TYPE_CHECKING:
    from vpt_edge.server.request_record import RequestRecord
    from vpt_edge.server.settings import Settings

log = logging.getLogger("vpt_edge.server")

STANDARD_OUTPUT = "-"
# What machines ask for again and again: left out while it goes well.
POLLS = re.compile(r"/(?:health|readyz|metrics|sources/[^/]*/frame)")
SECRET = re.compile(r"(?<=^/answers/)[^/]+")  # whoever knows an answer's name may see it
MODE = 0o600  # who asks from where, and perhaps what, is for nobody else to read
FAILURE = 400  # the first status of those that are one


def open_access_log(settings: Settings) -> AccessLog | None:
    """The access log, where one is wanted. Raises VptError where it cannot be written."""
    if settings.access_log is None:
        return None
    return AccessLog(settings.access_log, settings.log_questions)


class AccessLog:
    """Lines of JSON at the end of the file ``place``, or on the standard output: "-".

    The file is turned over as that of ``JsonLines``. ``with_texts``: whether lines hold question
    and answer. Raises VptError where it cannot be written; where that fails later it is said once,
    and the requests go on.
    """

    def __init__(self, place: str, with_texts: bool) -> None:
        self._with_texts = with_texts
        self._file = None
        self._is_failing = False
        if place != STANDARD_OUTPUT:
            self._file = JsonLines(place, mode=MODE)

    def write(self, line: dict[str, Any], record: RequestRecord) -> None:
        """A line of what is known of a request: its ``path`` and ``status`` are always there."""
        if line["status"] < FAILURE and POLLS.fullmatch(line["path"]):
            return
        fields = {**line, "path": SECRET.sub("…", line["path"]), **vars(record)}
        if not self._with_texts:
            del fields["question"]
            del fields["answer"]
        present = {name: _plain(value) for name, value in fields.items() if value is not None}
        try:
            self._append(present)
        except (OSError, ValueError, VptError) as error:  # ValueError: of a stream that is closed
            if not self._is_failing:
                log.warning("the access log cannot be written: %s", error)
            self._is_failing = True
        else:
            self._is_failing = False

    def _append(self, fields: dict[str, Any]) -> None:
        if self._file is not None:
            self._file.append(fields)
        else:
            sys.stdout.buffer.write(format_line(fields))
            sys.stdout.buffer.flush()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def _plain(value: Any) -> Any:
    """``value`` without what some readers take for the end of a line, and JSON does not escape."""
    if isinstance(value, str):
        return value.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    return value
