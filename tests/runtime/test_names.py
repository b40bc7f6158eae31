"""Names that are not UTF-8: libraries that take nothing else open the files all the same."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from vpt_edge.runtime.names import readable, utf8_name

LATIN = os.fsdecode(b"caf\xe9")


def test_what_others_read_is_utf8() -> None:
    assert readable(f"{LATIN} \u7b54") == "caf? \u7b54"


def test_a_name_in_utf8_is_itself(tmp_path: Path) -> None:
    file = tmp_path / "\u7b54" / "file"
    with utf8_name(file) as name:  # whether it is there or not
        assert name == str(file)


@pytest.mark.skipif(sys.platform != "linux", reason="the system has no /proc")
def test_another_name_leads_to_the_same_file(tmp_path: Path) -> None:
    folder = tmp_path / LATIN
    folder.mkdir()
    (folder / "file").write_text("content")
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    with utf8_name(folder / "file") as name:
        assert name.encode("utf-8")
        assert Path(name).read_text() == "content"
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
