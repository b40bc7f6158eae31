"""Descriptions of perceptions that speak in text: the shipped one, some of its keys changed."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vpt_edge.runtime.perception.consistency import check_rules
from vpt_edge.runtime.perception.description import FOLDER
from vpt_edge.runtime.perception.rules import Rules, block
from vpt_edge.runtime.perception.text import TextPerception
from vpt_edge.runtime.perception.views import View
from vpt_edge.runtime.schema import read_as

if TYPE_CHECKING:
    from pathlib import Path

    from vpt_edge.runtime.image import Box
    from vpt_edge.runtime.manifest import Manifest

SHIPPED: dict[str, Any] = json.loads((FOLDER / "qwen3-vl-zoom.json").read_text("utf-8"))
NAME = "image_zoom_in_tool"


def changed(changes: Mapping[str, Any]) -> dict[str, Any]:
    """The shipped description with other values of ``changes``, whose keys are dotted."""
    data = copy.deepcopy(SHIPPED)
    for path, value in changes.items():
        place: Any = data
        *folders, key = path.split(".")
        for folder in folders:
            place = place[folder]
        place[key] = value
    return data


def rules_of(changes: Mapping[str, Any]) -> Rules:
    """The same as rules that agree."""
    rules = read_as(Rules, changed(changes), "rules")
    check_rules(rules, "rules")
    return rules


def written(changes: Mapping[str, Any], folder: Path) -> Path:
    """The same as a file."""
    path = folder / "way.json"
    path.write_text(json.dumps(changed(changes)), "utf-8")
    return path


def way_of(manifest: Manifest, changes: Mapping[str, Any]) -> TextPerception:
    """The way that a bundle with these rules opens."""
    return TextPerception(replace(manifest, perception=block(rules_of(changes))))


def call(box: Any = (100, 100, 300, 400), **arguments: Any) -> str:
    """A call of the shipped tool."""
    arguments = {"bbox_2d": box, "label": "a sign", "img_idx": 0, **arguments}
    said = json.dumps({"name": NAME, "arguments": arguments})
    return f"<tool_call>\n{said}\n</tool_call>"


def view(width: int, height: int, shown: tuple[int, int] | None = None) -> View:
    """The first view of a picture."""
    return View(0, (0, 0, width, height), (width, height), shown or (width, height))


def crop_view(box: Box, shown: tuple[int, int] | None = None) -> View:
    """The view of a crop."""
    left, top, right, bottom = box
    size = (right - left, bottom - top)
    return View(0, box, size, shown or size)
