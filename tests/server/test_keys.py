from __future__ import annotations

import hmac
from pathlib import Path

import pytest

from vpt_edge.runtime import VptError
from vpt_edge.server.keys import Keys, find_readers, read_keys
from vpt_edge.server.settings import Settings


def test_each_key_has_its_place() -> None:
    keys = Keys(["one", "two", "three"])
    assert [keys.find(f"Bearer {key}") for key in ("one", "two", "three")] == [0, 1, 2]
    assert keys.find("bearer  two ") == 1


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "Bearer onetwo", "Bearer on", "Basic one", "one", "Bearer ÿ"],
)
def test_another_is_not_known(header: str) -> None:
    assert Keys(["one", "two"]).find(header) is None


def test_all_keys_are_compared_whichever_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of hashes of one length: neither time nor the number of comparisons tells a key."""
    compared = list[tuple[int, int]]()
    compare = hmac.compare_digest

    def count(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return compare(one, other)

    monkeypatch.setattr("vpt_edge.server.keys.hmac.compare_digest", count)
    keys = Keys(["one", "two", "three"])
    for shown in ("one", "three", "a wrong one", ""):
        compared.clear()
        keys.find(f"Bearer {shown}")
        assert compared == [(32, 32)] * 3


def test_a_file_has_a_key_a_line(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_bytes(b"\xef\xbb\xbf# of the kitchen\r\nsk-1\r\n\r\n  sk-2  \n#sk-3\nsk-1\n")
    assert read_keys(path) == ("sk-1", "sk-2")


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "has no key"),
        (b"# sk-1\n", "has no key"),
        (b"sk-1\nsk 2\n", "line 2 of"),
        ("sk-ü\n".encode(), "line 1 of"),
        (b"k" * 513, "line 1 of"),
        (b"\xff\xfe", "is not UTF-8"),
        (b"#" * (1 << 20) + b"#", "has more than"),
    ],
)
def test_what_is_not_a_file_of_keys_is_refused_and_not_shown(
    data: bytes, text: str, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    with pytest.raises(VptError, match=text) as error:
        read_keys(path)
    assert "sk" not in str(error.value).replace(str(path), "")
    with pytest.raises(VptError, match="No such file"):
        read_keys(tmp_path / "none")


def test_a_file_that_everybody_reads_is_told(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("sk-1")
    path.chmod(0o640)
    assert find_readers(path) is None
    path.chmod(0o644)
    assert f"chmod 600 {path}" in str(find_readers(path))


def test_settings_do_not_show_them() -> None:
    assert "secret" not in repr(Settings("model", keys=("secret",)))
