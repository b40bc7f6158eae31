"""What people and programs write, as requests."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeAlias

from vpt_edge.live.requests import LONGEST
from vpt_edge.runtime.errors import VptError

BYTES = 4 * LONGEST  # of UTF-8

log = logging.getLogger("vpt_edge.live")

Ask: TypeAlias = "Callable[[str | None], object]"


class Intake:
    """Hands on questions in UTF-8, and None for an empty one, to a watch when there is one.

    What cannot be asked is logged: nobody is there to be told.
    """

    def __init__(self) -> None:
        self._ask: Ask = _refuse

    def open(self, ask: Ask) -> None:
        """From now on there is a watch."""
        self._ask = ask

    def take(self, data: bytes) -> None:
        """From any thread."""
        try:
            self._ask(_read_question(data))
        except VptError as error:
            log.warning("a request is not answered: %s", error)


def _refuse(question: str | None) -> None:
    raise VptError("it came before the model was loaded")


def _read_question(data: bytes) -> str | None:
    """None for an empty one. Raises VptError for what is not a text."""
    if len(data) > BYTES:
        raise VptError(f"it has more than {BYTES} bytes")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise VptError("it is not UTF-8") from None
    return text.strip() or None
