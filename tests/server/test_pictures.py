from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any

import pytest

from vpt_edge.runtime.errors import VptError
from vpt_edge.server.errors import RequestError
from vpt_edge.server.pictures import PictureLoader, decode_base64, decode_data
from vpt_edge.server.settings import Settings

DATA = bytes(range(256))
TEXT = base64.b64encode(DATA).decode()


@pytest.mark.parametrize(
    "head",
    [
        "data:image/jpeg;base64",
        "DATA:IMAGE/JPEG;BASE64",
        "data:;base64",
        "data:application/octet-stream;base64",
        "data:image/png;name=a.png;charset=utf-8;base64",
    ],
)
def test_the_picture_in_an_address_is_read(head: str) -> None:
    assert decode_data(f"{head},{TEXT}") == DATA


@pytest.mark.parametrize(
    "address",
    [
        "data:",
        "data:image/png",
        "data:image/png;base64",
        f"data:image/png,{TEXT}",
        f"data:base64,{TEXT}",
        f"data:image/png;base64;charset=utf-8,{TEXT}",
        f"data:image/png;base64 ,{TEXT}",
        "data:image/svg+xml,%3Csvg%3E",
    ],
)
def test_an_address_without_base64_is_refused(address: str) -> None:
    with pytest.raises(RequestError) as error:
        decode_data(address)
    assert (error.value.status, error.value.code) == (400, "invalid_image_url")


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (f"{TEXT[:76]}\n{TEXT[76:]}", r"character 77 is '\\n'"),
        (f" {TEXT}", "character 1 is ' '"),
        (TEXT.replace("+", "-", 1), "is '-'"),
        (TEXT.replace("+", "%2B", 1), "is '%'"),
        (f"{TEXT}é", "is 'é'"),
        (f"{TEXT}\0", r"is '\\x00'"),
        (TEXT[:-1], "a wrong end"),
        (f"{TEXT}=", "a wrong end"),
        (f"AA=={TEXT}", "a wrong end"),
        ("A", "a wrong end"),
        ("", "the picture is empty"),
        (f"data:image/png;base64,{TEXT}", "is ':'"),
    ],
)
def test_what_is_not_base64_is_refused_and_told_where(data: str, found: str) -> None:
    with pytest.raises(RequestError, match=found) as error:
        decode_base64(data)
    assert error.value.code == "invalid_image_format"
    assert len(str(error.value)) < 200


def load(address: str, **settings: Any) -> bytes:
    return asyncio.run(PictureLoader(Settings("tiny", **settings)).load(address))


def test_a_data_address_is_loaded() -> None:
    assert load(f"data:image/png;base64,{TEXT}") == DATA


@pytest.mark.parametrize(
    ("address", "fix"),
    [
        ("https://example.org/a.png", "--allow-urls HOST"),
        ("HTTP://example.org/a.png", "--allow-urls HOST"),
        ("file:///etc/passwd", "--allow-files DIR"),
        ("ftp://example.org/a.png", "expected data:image/jpeg;base64,…"),
        ("javascript:alert(1)", "expected data:image/jpeg;base64,…"),
        ("/etc/passwd", "expected data:image/jpeg;base64,…"),
        (" data:image/png;base64,AA==", "expected data:image/jpeg;base64,…"),
        ("a" * 100_000, "expected data:image/jpeg;base64,…"),
        ("", "expected data:image/jpeg;base64,…"),
    ],
)
def test_other_addresses_are_refused_unless_an_operator_allows_them(address: str, fix: str) -> None:
    with pytest.raises(RequestError) as error:
        load(address)
    assert (error.value.status, error.value.code) == (400, "invalid_image_url")
    assert fix in str(error.value)
    assert len(str(error.value)) < 400


def test_a_file_below_the_folder_that_is_allowed_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(DATA)
    assert load(f"FILE://{tmp_path}/a.png", allow_files=tmp_path) == DATA


def test_settings_that_cannot_be_are_refused(tmp_path: Path) -> None:
    with pytest.raises(VptError, match="is not a folder"):
        load("", allow_files=tmp_path / "missing")
    with pytest.raises(VptError, match="is not a host"):
        load("", allow_urls=("https://example.org",))
