from __future__ import annotations

import pytest

from vpt_edge.runtime import VptError
from vpt_edge.server.origins import read_origin


@pytest.mark.parametrize(
    "text", ["*", "null", "", "home.example", "https://", "https://a/b", "https://*.example", "a b"]
)
def test_an_origin_is_one_page_s(text: str) -> None:
    with pytest.raises(VptError, match="is not the origin of a page"):
        read_origin(text)


def test_an_origin_is_written_in_several_ways() -> None:
    assert read_origin("HTTPS://Home.Example:8123/") == "https://home.example:8123"
    assert read_origin("chrome-extension://abcdef") == "chrome-extension://abcdef"
