"""What counts as dense, on sources small enough to count by hand."""

from __future__ import annotations

import ast
import json
import re
import subprocess
from pathlib import Path

import pytest
from golden import ROOT

from benchmarks import density

SOURCE = '''"""A module.

Its docstring has no code."""

from math import sqrt  # a comment behind code counts


# a comment alone does not
def roots(numbers):
    """The roots."""

    low, high = 0, 9
    text = """one

two"""
    return [sqrt(number) for number in numbers if low < number < high]


class Empty:
    """Nothing."""

    async def go(self):
        first, second = pair
        first, second = second, first
        return 1 if first else [x for x in (y for y in second)]
'''


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git repository whose one commit has another runtime/core.py than its working tree."""
    (tmp_path / "runtime").mkdir()
    core = tmp_path / "runtime" / "core.py"
    core.write_text("a, b = 1, 2\n")
    for command in ("init -q", "add .", "-c user.name=a -c user.email=a@b commit -q -m first"):
        subprocess.run(["git", *command.split()], cwd=tmp_path, check=True)
    core.write_text("a = 1\n")
    monkeypatch.setattr(density, "ROOT", tmp_path)
    return tmp_path


def statement(source: str) -> ast.stmt:
    return ast.parse(source).body[0]


def test_a_source_is_counted() -> None:
    result = density.measure([SOURCE])
    assert result.code_lines == 11
    assert result.comprehensions == 3
    assert result.conditionals == 1
    assert result.tuple_assignments == 2
    assert result.nested == 2
    assert sorted(result.function_lines) == [4, 8]
    assert result.wide_lines == 0
    assert result.per_hundred(result.comprehensions) == pytest.approx(27.27)


def test_sources_add_up() -> None:
    single = density.measure([SOURCE])
    double = density.measure([SOURCE, SOURCE])
    assert double.files == 2
    assert double.code_lines == 2 * single.code_lines
    assert double.nested == 2 * single.nested
    assert double.per_hundred(double.nested) == single.per_hundred(single.nested)


def test_nothing_has_no_density() -> None:
    result = density.measure(["", "# only a comment\n"])
    assert result.code_lines == 0
    assert result.per_hundred(result.comprehensions) == 0
    assert (result.median, result.p90, result.longest) == (0, 0, 0)


def test_lengths_of_functions() -> None:
    result = density.measure("def f():\n" + "    pass\n" * lines for lines in range(1, 12))
    assert (result.median, result.p90, result.longest) == (7, 11, 12)


@pytest.mark.parametrize("columns", [100, 101])
def test_wide_lines(columns: int) -> None:
    assert density.measure(["#" * columns]).wide_lines == int(columns > 100)


@pytest.mark.parametrize(
    ("source", "packs"),
    [
        ("a, b = 1, 2", True),
        ("a, b = b, a", True),
        ("[a, b] = [1, 2]", True),
        ("a, (b, c) = x, pair", True),
        ("pair = a, b = 1, 2", True),
        ("a, b = pair", False),
        ("a, b = divmod(7, 2)", False),
        ("pair = 1, 2", False),
        ("a, *rest = items", False),
    ],
)
def test_packing(source: str, packs: bool) -> None:
    assert density.is_packing(statement(source)) is packs


@pytest.mark.parametrize(
    "source",
    [
        "if [x for x in y]:\n    a = [x for x in y]",
        "def f(a=[x for x in y]):\n    return [x for x in y]",
        "for a in [x for x in y]:\n    if b:\n        [x for x in y]\n    else:\n        {*x}",
        "match [x for x in y]:\n    case 1:\n        [x for x in y]",
        "try:\n    [x for x in y]\nexcept f(x for x in y):\n    [x for x in y]",
    ],
)
def test_a_compound_statement_is_its_header(source: str) -> None:
    assert len(density.comprehensions(statement(source))) == 1


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("[x for x in a] + [x for x in b]", 0),
        ("[y for x in a for y in x]", 0),
        ("[[y for y in x] for x in a]", 1),
        ("[y if y else 0 for y in a]", 1),
        ("1 if a else 2 if b else 3", 1),
        ("f([1 if x else {z for z in x} for x in y])", 2),
    ],
)
def test_nested(source: str, count: int) -> None:
    assert len(density.nested(statement(source))) == count


def test_a_revision_is_read_from_git(repository: Path) -> None:
    assert density.read_tree(["runtime"]) == {"runtime": ["a = 1\n"]}
    for name in ("runtime", "runtime/", "runtime/core.py"):
        assert density.read_revision("HEAD", [name]) == {name: ["a, b = 1, 2\n"]}
    assert list(density.read_revision("HEAD", density.PRODUCT)) == ["runtime"]


def test_what_is_not_there_is_an_error(repository: Path) -> None:
    with pytest.raises(SystemExit, match="no Python file at"):
        density.read_tree(["engine"])
    with pytest.raises(SystemExit, match="HEAD has none of engine"):
        density.read_revision("HEAD", ["engine"])
    with pytest.raises(SystemExit, match="nowhere"):
        density.read_revision("nowhere", ["runtime"])


def test_the_table(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    density.main(["runtime", "runtime/core.py", "--revision", "HEAD"])
    rows = capsys.readouterr().out.splitlines()[2:]
    assert len({row.count("|") for row in rows}) == 1
    assert rows[-1] == "| all | 2 | 2 | 0.0 | 0.0 | 100.0 | 0 | 0 | 0 | 0 | 0 |"


def test_json(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    density.main(["runtime", "--json"])
    result = json.loads(capsys.readouterr().out)
    assert result["revision"] is None
    assert list(result["density"]) == ["runtime"]
    assert result["density"]["runtime"]["code_lines"] == 1
    assert result["density"]["runtime"]["per_hundred"]["tuple_assignments"] == 0


def test_the_product_is_every_package() -> None:
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    packages = set(re.findall(r'^    "vpt_edge\.(\w+)[\w.]*",$', project, re.MULTILINE))
    assert packages == set(density.PRODUCT)
