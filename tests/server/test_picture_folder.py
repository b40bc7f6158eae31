from __future__ import annotations

import os
import socket
from pathlib import Path
from urllib.parse import quote

import pytest

from vpt_edge.server.errors import RequestError
from vpt_edge.server.picture_folder import PictureFolder

DATA = b"a picture"
LIMIT = 100


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with files, beside which there is a secret."""
    root = tmp_path / "pictures"
    (root / "below").mkdir(parents=True)
    (root / "a.png").write_bytes(DATA)
    (root / "below" / "a b%?#é.png").write_bytes(DATA)
    (root / "large.png").write_bytes(b"\0" * (LIMIT + 1))
    (tmp_path / "pictures-beside").mkdir()
    (tmp_path / "pictures-beside" / "secret").write_bytes(b"secret")
    (tmp_path / "secret").write_bytes(b"secret")
    return root


def refusal(root: Path, address: str) -> RequestError:
    with pytest.raises(RequestError) as error:
        PictureFolder(root, LIMIT).read(address)
    assert error.value.status == 400
    return error.value


@pytest.mark.parametrize("prefix", ["file://", "FILE://", "file://localhost", "file:"])
def test_a_file_below_the_folder_is_read(root: Path, prefix: str) -> None:
    folder = PictureFolder(root, LIMIT)
    assert folder.read(f"{prefix}{root}/a.png") == DATA
    assert folder.read(f"{prefix}{quote(str(root))}/below/{quote('a b%?#é.png')}") == DATA
    assert folder.read(f"{prefix}{root}/below/../a.png") == DATA


def test_links_count_as_what_they_lead_to(root: Path, tmp_path: Path) -> None:
    (root / "link.png").symlink_to(root / "a.png")
    (tmp_path / "other-name").symlink_to(root)
    assert PictureFolder(root, LIMIT).read(f"file://{root}/link.png") == DATA
    assert PictureFolder(tmp_path / "other-name", LIMIT).read(f"file://{root}/a.png") == DATA
    assert PictureFolder(root, LIMIT).read(f"file://{tmp_path}/other-name/a.png") == DATA


@pytest.mark.parametrize(
    "path",
    [
        "/../secret",
        "/below/../../secret",
        "/%2e%2e/secret",
        "/%2E%2E%2Fsecret",
        "/..%2fsecret",
        "/below/%2e%2e/%2e%2e/secret",
        "-beside/secret",
        "/../missing",
        "/link",
        "/folder-link/secret",
        "/below/chain",
        "/loop/a",
        "/",
        "",
        "/../pictures",
        "//../secret",
    ],
)
def test_what_is_elsewhere_is_refused_whether_it_exists_or_not(
    root: Path, tmp_path: Path, path: str
) -> None:
    (root / "link").symlink_to(tmp_path / "secret")
    (root / "folder-link").symlink_to(tmp_path)
    (root / "below" / "chain").symlink_to(root / "link")
    (root / "loop").symlink_to(root / "loop")
    error = refusal(root, f"file://{root}{path}")
    assert error.code == "invalid_image_url"
    if path != "/loop/a":
        assert "is not below the folder" in error.problem
    else:
        assert "is not a file" in error.problem


@pytest.mark.parametrize(
    "address",
    [
        "file:a.png",
        "file://a.png",
        "file://evil.org/a.png",
        "file:////srv/a.png",
        "file:///a.png?b",
        "file:///a.png#b",
        "file:///a%00.png",
        "file://",
        "file:///" + "a" * 10_000,
    ],
)
def test_what_is_not_a_path_is_refused(root: Path, address: str) -> None:
    assert refusal(root, address).code == "invalid_image_url"


def test_what_is_not_a_file_is_refused_and_not_even_opened(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = list[object]()
    open_file = os.open

    def open_and_note(name: str, *flags: int, **options: int) -> int:
        opened.append(name)
        return open_file(name, *flags, **options)

    monkeypatch.setattr(os, "open", open_and_note)
    os.mkfifo(root / "pipe")
    (root / "device").symlink_to("/dev/zero")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(root / "socket"))
    for name in ("pipe", "below", "socket", "missing", "a.png/b"):
        error = refusal(root, f"file://{root}/{name}")
        assert error.code == "invalid_image_url"
        assert "is not a file that can be read" in error.problem
    assert "is not below" in refusal(root, f"file://{root}/device").problem
    assert "is not a file" in refusal(Path("/dev"), "file:///dev/zero").problem
    listener.close()
    assert not {"pipe", "socket", "zero"} & set(opened)


def test_a_file_that_is_too_large_is_refused(root: Path) -> None:
    assert refusal(root, f"file://{root}/large.png").code == "image_too_large"


def test_a_folder_that_became_a_link_is_not_followed(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look and the opening."""
    realpath = os.path.realpath
    (root / "below" / "secret").write_bytes(DATA)

    def replace_folder(path: str) -> str:
        place = realpath(path)
        (root / "below").rename(root / "gone")
        (root / "below").symlink_to(tmp_path)
        return place

    folder = PictureFolder(root, LIMIT)
    monkeypatch.setattr(os.path, "realpath", replace_folder)
    with pytest.raises(RequestError, match="is not a file that can be read"):
        folder.read(f"file://{root}/below/secret")
