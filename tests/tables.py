"""The golden tables: what the authors' functions gave for one input a row."""

from __future__ import annotations

import json
from typing import Any

from golden import GOLDEN

TABLES = GOLDEN / "tables"


def table(name: str) -> Any:
    """The table ``name``, or nothing where the golden cases are absent: tests over its rows are
    skipped then.
    """
    path = TABLES / f"{name}.json"
    return json.loads(path.read_text("utf-8")) if path.is_file() else {}
