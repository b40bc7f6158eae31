"""Files of JSON that are broken."""

from __future__ import annotations

import pytest
from checkpoints import Copy, refused
from golden import needs_golden

pytestmark = needs_golden


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_a_broken_config_is_refused(text: str, copy: Copy) -> None:
    folder = copy("clip")
    (folder / "config.json").write_text(text, "utf-8")
    assert "config.json" in refused(folder)
