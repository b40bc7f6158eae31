"""How much a reader must decode a line, and how long functions and lines are.

    python benchmarks/density.py
    python benchmarks/density.py runtime export/models/vpt.py --json
    python benchmarks/density.py --revision e31ec99

Counted a hundred code lines:

- a code line is neither blank nor a comment alone nor part of a string that stands alone (a
  docstring);
- a comprehension is one of a list, a set or a dictionary, or a generator expression;
- a conditional expression is ``a if b else c``;
- a tuple assignment packs only to unpack again: ``a, b = 1, 2``, a swap included, and not
  ``a, b = pair``.

Counted as they are: comprehensions and conditional expressions inside another one, and lines of
more than 100 columns. A function's lines run from ``def`` to its last line, docstring included;
p90 is the shortest length that nine of ten functions keep.

``tests/test_style.py`` holds the product to the same definitions.
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import math
import statistics
import subprocess
import tarfile
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PRODUCT = (
    *("runtime", "live", "server", "device", "engines", "calibration", "tuning", "export"),
    "commands",
)
COLUMNS = 100
TOTAL = "all"

Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
Function = ast.FunctionDef | ast.AsyncFunctionDef
LAYOUT = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}


def statements(tree: ast.AST) -> Iterator[ast.stmt]:
    """Every statement, those in the bodies of others included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt):
            yield node


def expressions(statement: ast.stmt) -> Iterator[ast.AST]:
    """What belongs to a statement itself: of a compound one the header, not its body."""
    waiting = list(ast.iter_child_nodes(statement))
    while waiting:
        node = waiting.pop(0)
        if not isinstance(node, ast.stmt):
            yield node
            waiting.extend(ast.iter_child_nodes(node))


def comprehensions(statement: ast.stmt) -> list[ast.AST]:
    return [node for node in expressions(statement) if isinstance(node, Comprehension)]


def conditionals(statement: ast.stmt) -> list[ast.AST]:
    return [node for node in expressions(statement) if isinstance(node, ast.IfExp)]


def nested(statement: ast.stmt) -> list[ast.AST]:
    """The comprehensions and conditional expressions that stand inside another one."""
    dense = [*comprehensions(statement), *conditionals(statement)]
    inner = set[ast.AST]()
    for node in dense:
        inner.update(each for each in ast.walk(node) if each is not node)
    return [node for node in dense if node in inner]


def is_packing(statement: ast.stmt) -> bool:
    """Whether a tuple is made only to be taken apart by the same statement."""
    if not isinstance(statement, ast.Assign):
        return False
    if not isinstance(statement.value, ast.Tuple | ast.List):
        return False
    return any(isinstance(target, ast.Tuple | ast.List) for target in statement.targets)


def functions(tree: ast.AST) -> list[Function]:
    return [node for node in ast.walk(tree) if isinstance(node, Function)]


def function_length(function: Function) -> int:
    """Lines from ``def`` to the last, decorators left out."""
    assert function.end_lineno is not None
    return function.end_lineno - function.lineno + 1


def count_code_lines(source: str) -> int:
    numbers = set[int]()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in LAYOUT:
            numbers.update(range(token.start[0], token.end[0] + 1))
    for statement in statements(ast.parse(source)):
        if is_text(statement):
            assert statement.end_lineno is not None
            numbers.difference_update(range(statement.lineno, statement.end_lineno + 1))
    lines = source.splitlines()
    return sum(1 for number in numbers if lines[number - 1].strip())


def is_text(statement: ast.stmt) -> bool:
    """Whether a statement is nothing but a string: a docstring."""
    if not isinstance(statement, ast.Expr) or not isinstance(statement.value, ast.Constant):
        return False
    return isinstance(statement.value.value, str)


@dataclass
class Density:
    """Plain counts of some sources; ``function_lines`` holds one length a function."""

    files: int
    code_lines: int
    comprehensions: int
    conditionals: int
    tuple_assignments: int
    nested: int
    function_lines: list[int]
    wide_lines: int

    def per_hundred(self, count: int) -> float:
        """Zero where there is no code."""
        return round(100 * count / max(self.code_lines, 1), 2)

    @property
    def median(self) -> float:
        return statistics.median(self.function_lines or [0])

    @property
    def p90(self) -> int:
        ordered = sorted(self.function_lines or [0])
        return ordered[math.ceil(9 * len(ordered) / 10) - 1]

    @property
    def longest(self) -> int:
        return max(self.function_lines, default=0)

    def row(self) -> list[str]:
        return [
            f"{self.files}",
            f"{self.code_lines:,}",
            f"{self.per_hundred(self.comprehensions):.1f}",
            f"{self.per_hundred(self.conditionals):.1f}",
            f"{self.per_hundred(self.tuple_assignments):.1f}",
            f"{self.nested}",
            f"{self.median:g}",
            f"{self.p90}",
            f"{self.longest}",
            f"{self.wide_lines}",
        ]

    def as_json(self) -> dict[str, object]:
        """The counts, with the lengths of functions as their median, p90 and longest."""
        counts = asdict(self)
        counts["function_lines"] = {"median": self.median, "p90": self.p90, "max": self.longest}
        counts["per_hundred"] = {
            "comprehensions": self.per_hundred(self.comprehensions),
            "conditionals": self.per_hundred(self.conditionals),
            "tuple_assignments": self.per_hundred(self.tuple_assignments),
        }
        return counts


HEADER = (
    "files",
    "code lines",
    "comprehensions",
    "conditionals",
    "tuple assignments",
    "nested",
    "function lines, median",
    "p90",
    "max",
    f"over {COLUMNS} columns",
)


def measure(sources: Iterable[str]) -> Density:
    """The density of some Python sources together."""
    total = Density(0, 0, 0, 0, 0, 0, [], 0)
    for source in sources:
        tree = ast.parse(source)
        total.files += 1
        total.code_lines += count_code_lines(source)
        total.wide_lines += sum(1 for line in source.splitlines() if len(line) > COLUMNS)
        total.function_lines.extend(map(function_length, functions(tree)))
        for statement in statements(tree):
            total.comprehensions += len(comprehensions(statement))
            total.conditionals += len(conditionals(statement))
            total.tuple_assignments += int(is_packing(statement))
            total.nested += len(nested(statement))
    return total


def read_tree(names: Iterable[str]) -> dict[str, list[str]]:
    """The sources below each folder, or of each file, as they lie here.

    Raises SystemExit for a name with no Python file.
    """
    sources = {}
    for name in names:
        path = ROOT / name
        paths = sorted(path.rglob("*.py"))
        if path.is_file():
            paths = [path]
        if not paths:
            raise SystemExit(f"error: no Python file at {path}; name a folder or a file of them")
        sources[name] = [path.read_text("utf-8") for path in paths]
    return sources


def read_revision(revision: str, names: Iterable[str]) -> dict[str, list[str]]:
    """The sources below each folder, or of each file, as a git revision has them.

    A name that the revision lacks is left out: older ones had fewer folders. Raises SystemExit for
    an unknown revision, or one that has none of the names.
    """
    archive = subprocess.run(
        ["git", "archive", "--format=tar", revision], cwd=ROOT, capture_output=True, check=False
    )
    if archive.returncode:
        raise SystemExit(f"error: {archive.stderr.decode().strip()}")
    texts = {}
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        for member in tar:
            file = tar.extractfile(member) if member.name.endswith(".py") else None
            if file is not None:
                texts[member.name] = file.read().decode()
    sources = {}
    for name in names:
        folder = f"{name.rstrip('/')}/"
        own = [text for path, text in texts.items() if path == name or path.startswith(folder)]
        if own:
            sources[name] = own
    if not sources:
        raise SystemExit(f"error: {revision} has none of {', '.join(names)}")
    return sources


def measure_rows(sources: dict[str, list[str]]) -> dict[str, Density]:
    """The density of each name, and behind them that of all together if there are several."""
    rows = {name: measure(texts) for name, texts in sources.items()}
    if len(sources) > 1:
        rows[TOTAL] = measure([text for texts in sources.values() for text in texts])
    return rows


def format_table(rows: dict[str, Density]) -> str:
    lines = [f"| | {' | '.join(HEADER)} |", f"|---|{'---:|' * len(HEADER)}"]
    for name, density in rows.items():
        lines.append(f"| {name} | {' | '.join(density.row())} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Measure how dense the code is.")
    parser.add_argument(
        "names", nargs="*", default=PRODUCT, help="folders or files; the product's by default"
    )
    parser.add_argument("--revision", help="of git; without it, the files as they lie here")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    if options.revision:
        sources = read_revision(options.revision, options.names)
    else:
        sources = read_tree(options.names)
    rows = measure_rows(sources)
    if options.json:
        density = {name: row.as_json() for name, row in rows.items()}
        print(json.dumps({"revision": options.revision, "density": density}, indent=2))
    else:
        print("a hundred code lines: comprehensions, conditionals, tuple assignments\n")
        print(format_table(rows))


if __name__ == "__main__":
    main()
