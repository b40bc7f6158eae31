"""What is carried to a machine without a network arrives as it was, or is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import carry


@pytest.fixture
def pieces(tmp_path: Path) -> Path:
    """A file of 25 bytes in three pieces, and a small one that stayed whole."""
    folder = tmp_path / "pieces"
    (folder / "whole").mkdir(parents=True)
    large = tmp_path / "large.whl"
    small = folder / "whole" / "small.whl"
    large.write_bytes(bytes(range(25)))
    small.write_bytes(b"small")
    carry.cut(large, folder, 10)
    (folder / carry.SUMS).write_text(
        "".join(f"{carry.sha256(path)}  {path.name}\n" for path in (large, small))
    )
    return folder


def test_pieces_are_joined(pieces: Path, tmp_path: Path) -> None:
    assert sorted(path.stat().st_size for path in pieces.glob("large.whl.*")) == [5, 10, 10]
    files = carry.join(pieces, tmp_path / "out")
    assert [path.name for path in files] == ["large.whl", "small.whl"]
    assert files[0].read_bytes() == bytes(range(25))
    assert files[1].read_bytes() == b"small"


def test_a_second_join_keeps_what_is_right(pieces: Path, tmp_path: Path) -> None:
    first = carry.join(pieces, tmp_path / "out")[0].stat().st_mtime_ns
    assert carry.join(pieces, tmp_path / "out")[0].stat().st_mtime_ns == first


@pytest.mark.parametrize("harm", ["missing", "altered"])
def test_a_harmed_piece_is_named(harm: str, pieces: Path, tmp_path: Path) -> None:
    piece = pieces / "large.whl.001"
    if harm == "missing":
        piece.unlink()
    else:
        piece.write_bytes(b"0123456789")
    with pytest.raises(SystemExit, match=r"missing or altered in .*: large.whl "):
        carry.join(pieces, tmp_path / "out")


def test_a_missing_whole_file_is_named(pieces: Path, tmp_path: Path) -> None:
    (pieces / "whole" / "small.whl").unlink()
    with pytest.raises(SystemExit, match=r"small\.whl"):
        carry.join(pieces, tmp_path / "out")
