"""An address that no other user sees."""

from __future__ import annotations

from pathlib import Path

import pytest

from vpt_edge.live.secret_file import LONGEST, read_address
from vpt_edge.runtime.errors import VptError

ADDRESS = "rtsp://user:geheim@camera/stream"


@pytest.mark.parametrize("text", [ADDRESS, "0", "/dev/video0", "file@home.mp4", ""])
def test_another_text_is_the_address(text: str) -> None:
    assert read_address(text) == text


@pytest.mark.parametrize(
    "data",
    [ADDRESS, f"{ADDRESS}\n", f"  {ADDRESS} \r\n\n", f"\ufeff{ADDRESS}\n"],
    ids=["bare", "line", "spaces", "byte order mark"],
)
def test_a_file_holds_one_line(tmp_path: Path, data: str) -> None:
    file = tmp_path / "camera"
    file.write_bytes(data.encode())
    assert read_address(f"@{file}") == ADDRESS


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", "has 0 lines"),
        (b"\n \n", "has 0 lines"),
        (f"{ADDRESS}\n{ADDRESS}\n".encode(), "has 2 lines"),
        (b"rtsp://geheim\xff@camera", "is not UTF-8"),
        (b"geheim" * LONGEST, f"has more than {LONGEST} bytes"),
        (None, "No such file or directory"),
    ],
)
def test_what_is_not_an_address_is_named_and_never_shown(
    tmp_path: Path, data: bytes | None, found: str
) -> None:
    file = tmp_path / "camera"
    if data is not None:
        file.write_bytes(data)
    with pytest.raises(VptError) as refusal:
        read_address(f"@{file}")
    assert found in refusal.value.problem
    assert refusal.value.fix == f"write the address into {file} as its one line"
    assert "geheim" not in f"{refusal.value} {refusal.value.__cause__}"


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VptError, match="Is a directory"):
        read_address(f"@{tmp_path}")
