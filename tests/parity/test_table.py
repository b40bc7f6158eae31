"""The table of differences, and its place in the page."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from golden import ROOT

from parity.conftest import HEADING, Rows, make_table, write_table
from parity.models import FAMILIES

if TYPE_CHECKING:
    from pathlib import Path

ROWS: Rows = {
    ("one", "pixels"): (0.0, 0.0),
    ("one", "ids"): (2e-6, 5e-4),
    ("two", "ids"): (3e-7, 5e-4),
}
TABLE = """\
| | one | two | allowed |
|---|---:|---:|---:|
| pixels | 0 |  | 0 |
| ids | 2e-06 | 3e-07 | 5e-04 |"""


def test_a_family_has_a_column_and_a_kind_a_row() -> None:
    assert make_table(ROWS) == TABLE
    assert make_table({}) == ""


def test_only_the_table_under_the_heading_is_replaced(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    other = "| a | b |\n|---|---|\n| 1 | 2 |\n"
    before = f"# Page\n\n{other}\n{HEADING}\n\nText:\n\n"
    after = f"\nMore text.\n\n## Next\n\n{other}"
    page.write_text(f"{before}| old |\n|---|\n| x |\n| y |\n{after}", "utf-8")
    for _ in range(2):
        write_table(page, TABLE)
        assert page.read_text("utf-8") == f"{before}{TABLE}\n{after}"


def test_a_page_without_the_heading_is_named(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Page\n", "utf-8")
    with pytest.raises(AssertionError, match="has no ## Against transformers"):
        write_table(page, TABLE)


def test_the_page_has_every_family() -> None:
    page = (ROOT / "docs" / "exactness.md").read_text("utf-8")
    table = page.partition(HEADING)[2]
    assert f"| | {' | '.join(FAMILIES)} | allowed |" in table
