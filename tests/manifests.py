"""Manifests that say something else than what was written, and how they are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from vpt_edge.runtime.errors import BundleError

if TYPE_CHECKING:
    from vpt_edge.runtime import Bundle

Alter = Callable[[dict[str, Any]], object]


def altered(bundle: Bundle, alter: Alter) -> Path:
    """The bundle's folder with ``alter`` applied to its manifest."""
    file = bundle.file("manifest.json")
    data = json.loads(file.read_text("utf-8"))
    alter(data)
    file.write_text(json.dumps(data), "utf-8")
    return bundle.path


def refused(read: Callable[[], object]) -> str:
    """The text with which a bundle is refused; it is one line that names a command."""
    with pytest.raises(BundleError) as error:
        read()
    text = str(error.value)
    assert "\n" not in text
    assert "vpt-export CHECKPOINT -o" in text
    return text
