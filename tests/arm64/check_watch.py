"""In the AArch64 user space: vpt-watch says of a clip what it says on the other machine."""

from __future__ import annotations

import json
import os
from pathlib import Path

from arm64.clip import LINES, SCENES, SHOWN, WATCHING, watch_clip

BUNDLES = Path(os.environ["VPT_BUNDLES"])
SAME = ("frame", "position", "question", "answer", "finish_reason", "looks")


def test_vpt_watch_answers_about_a_clip(tmp_path: Path) -> None:
    expected = list(map(json.loads, (BUNDLES / LINES).read_text().splitlines()))
    lines = watch_clip(BUNDLES / WATCHING, tmp_path / LINES)
    assert len(lines) == SCENES * SHOWN
    for line, other in zip(lines, expected, strict=True):
        for key in SAME:
            assert line[key] == other[key]
