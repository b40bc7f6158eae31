"""Models that are made once a session, and the table of what was measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from parity.models import FAMILIES

if TYPE_CHECKING:
    from parity.loop import Loop
    from parity.reference import Reference
    from vpt_edge.runtime import Bundle

if find_spec("transformers") is None:  # make parity has an environment of its own for it
    collect_ignore_glob = ["test_*.py"]

Rows = dict[tuple[str, str], tuple[float, float]]  # by family and what: difference, allowed
Measure = Callable[[str, str, float, float], None]
ROWS = pytest.StashKey[Rows]()
OPTION = "--write-table"
HEADING = "## Against transformers"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(OPTION, metavar="PAGE", help=f"put the table into PAGE, under {HEADING}")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[ROWS] = {}


@pytest.fixture
def measure(request: pytest.FixtureRequest) -> Measure:
    """Holds a difference against what is allowed; the largest of each kind comes into the table."""
    rows = request.config.stash[ROWS]

    def hold(family: str, what: str, difference: float, allowed: float) -> None:
        worst, _ = rows.get((family, what), (0.0, allowed))
        rows[family, what] = (max(worst, difference), allowed)
        assert difference <= allowed, f"{family}: {what}"

    return hold


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    table = make_table(config.stash[ROWS])
    if not table:
        return
    terminalreporter.section("differences from transformers")
    terminalreporter.write_line(table)
    page = config.getoption(OPTION, None)
    if page is not None:
        write_table(Path(page), table)


def make_table(rows: Rows) -> str:
    """Markdown: a row for each thing that was measured, a column for each family."""
    if not rows:
        return ""
    families = list(dict.fromkeys(family for family, _ in rows))
    lines = [f"| | {' | '.join(families)} | allowed |", f"|---|{'---:|' * len(families)}---:|"]
    for what in dict.fromkeys(what for _, what in rows):
        found = [rows.get((family, what)) for family in families]
        cells = ["" if row is None else f"{row[0]:.0e}" for row in found]
        allowed = max(row[1] for row in found if row is not None)
        lines.append(f"| {what} | {' | '.join(cells)} | {allowed:.0e} |".replace("0e+00", "0"))
    return "\n".join(lines)


def write_table(page: Path, table: str) -> None:
    """Put ``table`` in the place of the one that follows the heading in ``page``."""
    before, heading, after = page.read_text("utf-8").partition(f"{HEADING}\n")
    assert heading, f"{page} has no {HEADING}"
    text, _, rest = after.partition("\n|")
    lines = rest.splitlines(keepends=True)
    while lines and (lines[0].startswith("|") or len(lines) == len(rest.splitlines())):
        lines.pop(0)
    page.write_text(f"{before}{heading}{text}\n{table}\n{''.join(lines)}", "utf-8")


@pytest.fixture(scope="session", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def checkpoint(family: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the family, as transformers saves it."""
    from parity.models import save_model

    return save_model(tmp_path_factory.mktemp(family) / "checkpoint", family)


@pytest.fixture(scope="session")
def reference(checkpoint: Path) -> Reference:
    from parity.reference import Reference

    return Reference(checkpoint)


@pytest.fixture(scope="session")
def bundle(checkpoint: Path) -> Bundle:
    from vpt_edge.export.exporter import export

    return export(str(checkpoint), checkpoint.with_name("bundle"), precision="fp32")


@pytest.fixture
def loop(bundle: Bundle) -> Iterator[Loop]:
    from parity.loop import Loop

    loop = Loop(bundle)
    yield loop
    loop.close()
