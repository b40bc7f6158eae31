"""Lines that read: one thought a statement, and functions and files short enough to see whole.

What counts as a statement, a comprehension or a packed tuple is defined in ``benchmarks.density``,
which measures what this test refuses. Columns and complexity are ruff's.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from golden import ROOT

from benchmarks import density

FUNCTION_LINES = 50
FILE_LINES = 300
BOOLS = {"all", "any", "bool", "callable", "hasattr", "isinstance", "issubclass"}  # return a bool
Sequence = ast.Tuple | ast.List | ast.JoinedStr

FILES = sorted(path for package in density.PRODUCT for path in (ROOT / package).rglob("*.py"))


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def is_bool(node: ast.AST) -> bool:
    """Whether an expression is a bool whatever its parts are; a comparison may be an array."""
    if isinstance(node, ast.Call):
        return ast.unparse(node.func) in BOOLS
    if isinstance(node, ast.Constant):
        return isinstance(node.value, bool)
    return isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not)


def is_truth(node: ast.AST) -> bool:
    """Whether an expression is a bool unless it compares arrays."""
    if isinstance(node, ast.BoolOp):
        return all(map(is_truth, node.values))
    return is_bool(node) or isinstance(node, ast.Compare)


def is_dictionary_of_bools(node: ast.AST) -> bool:
    if not isinstance(node, ast.Dict):
        return False
    return any(key is not None and is_bool(key) for key in node.keys)


def is_sequence(node: ast.AST) -> bool:
    """Whether a list, a tuple or a string is written out here."""
    if isinstance(node, ast.Constant):
        return isinstance(node.value, str | bytes)
    return isinstance(node, Sequence)


def dense_statement(statement: ast.stmt) -> Iterator[str]:
    count = len(density.comprehensions(statement)) + len(density.conditionals(statement))
    if count > 1:
        yield f"{count} comprehensions or conditional expressions in one statement"
    if density.nested(statement):
        yield "a comprehension or conditional expression inside another"


def packed_tuple(statement: ast.stmt) -> Iterator[str]:
    if density.is_packing(statement):
        yield "a tuple is packed only to be unpacked: two statements say it"


def control_flow(statement: ast.stmt) -> Iterator[str]:
    if not isinstance(statement, ast.Expr):
        return
    if isinstance(statement.value, ast.BoolOp):
        yield "`and` or `or` as control flow: an `if` says it"
    if isinstance(statement.value, ast.IfExp):
        yield "a conditional expression as control flow: an `if` says it"
    if isinstance(statement.value, density.Comprehension):
        yield "a comprehension as control flow: a `for` says it"


def mapped_lambda(statement: ast.stmt) -> Iterator[str]:
    for node in density.expressions(statement):
        if not isinstance(node, ast.Call) or ast.unparse(node.func) not in ("map", "filter"):
            continue
        if any(isinstance(argument, ast.Lambda) for argument in node.args):
            yield "map or filter of a lambda: a comprehension says it"


def bool_as_number(statement: ast.stmt) -> Iterator[str]:
    for node in density.expressions(statement):
        if not isinstance(node, ast.BinOp):
            continue
        if not isinstance(node.op, ast.Add | ast.Sub | ast.Mult):
            continue
        operands = (node.left, node.right)
        is_repeated = isinstance(node.op, ast.Mult) and any(map(is_sequence, operands))
        if any(map(is_bool, operands)):
            yield "arithmetic with a bool: an `if` says it"
        elif is_repeated and any(map(is_truth, operands)):
            yield "a sequence times a bool: an `if` says it"


def bool_as_index(statement: ast.stmt) -> Iterator[str]:
    for node in density.expressions(statement):
        if not isinstance(node, ast.Subscript):
            continue
        choices = node.value
        is_constant = isinstance(node.slice, ast.Constant | ast.Slice | ast.UnaryOp)
        if is_bool(node.slice) or (is_sequence(choices) and is_truth(node.slice)):
            yield "a bool as an index: an `if` says it"
        elif isinstance(choices, ast.Tuple | ast.List):
            if len(choices.elts) == 2 and not is_constant:
                yield "one of two picked by an index: an `if` says it"
        elif is_dictionary_of_bools(choices):
            yield "a dictionary of True and False: an `if` says it"


def comprehension_in_text(statement: ast.stmt) -> Iterator[str]:
    for node in density.expressions(statement):
        if not isinstance(node, ast.JoinedStr):
            continue
        if any(isinstance(inner, density.Comprehension) for inner in ast.walk(node)):
            yield "a comprehension inside an f-string: a name before it says it"


def relative_import(statement: ast.stmt) -> Iterator[str]:
    if isinstance(statement, ast.ImportFrom) and statement.level:
        yield "a relative import"


def long_function(statement: ast.stmt) -> Iterator[str]:
    if isinstance(statement, density.Function):
        length = density.function_length(statement)
        if length > FUNCTION_LINES:
            yield f"{statement.name} has {length} lines, of at most {FUNCTION_LINES}"


RULES: tuple[Callable[[ast.stmt], Iterator[str]], ...] = (
    dense_statement,
    packed_tuple,
    control_flow,
    mapped_lambda,
    bool_as_number,
    bool_as_index,
    comprehension_in_text,
    relative_import,
    long_function,
)


def find_problems(source: str) -> list[str]:
    """What is wrong with a source, each with its line."""
    problems = list[str]()
    for statement in density.statements(ast.parse(source)):
        for rule in RULES:
            problems.extend(f"line {statement.lineno}: {text}" for text in rule(statement))
    length = len(source.splitlines())
    if length > FILE_LINES:
        problems.append(f"the file has {length} lines, of at most {FILE_LINES}")
    return problems


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_a_file_reads(path: Path) -> None:
    problems = find_problems(path.read_text("utf-8"))
    assert not problems, "\n".join([relative(path), *problems])


LONG_FUNCTION = "def f():\n" + "    pass\n" * FUNCTION_LINES


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("a = [x for x in y] + [x for x in z]", "2 comprehensions"),
        ("a = [x if x else 0 for x in y]", "inside another"),
        ("a = 1 if b else 2 if c else 3", "inside another"),
        ("def f():\n    return {k: (v for v in w) for k in y}", "line 2: .*inside another"),
        ("def f(a=x if y else z, b=tuple(x for x in y)):\n    pass", "2 comprehensions"),
        ("for a in [x for x in (y if z else w)]:\n    pass", "inside another"),
        ("a, b = 1, 2", "packed"),
        ("a, b = b, a", "packed"),
        ("class A:\n    def f(self):\n        self.a, self.b = a, b", "line 3: .*packed"),
        ("ready or start()", "control flow"),
        ("ready and start()", "control flow"),
        ("start() if ready else stop()", "control flow"),
        ("[start(x) for x in y]", "control flow"),
        ("a = list(map(lambda x: x + 1, y))", "lambda"),
        ("a = [x] * bool(y)", "arithmetic with a bool"),
        ("a = (not x) + y", "arithmetic with a bool"),
        ("a = [x] * (y > 0)", "times a bool"),
        ("a = 's' * (count != 1)", "times a bool"),
        ("a = (x, y) * (count > 1 and not z)", "times a bool"),
        ("a = (x, y)[flag]", "one of two"),
        ("a = [x, y][flag > 1]", "bool as an index"),
        ("a = ('no', 'yes', 'maybe')[bool(flag)]", "bool as an index"),
        ("a = names[not flag]", "bool as an index"),
        ("a = 'ab'[x is None]", "bool as an index"),
        ("a = {True: x, False: y}[flag]", "True and False"),
        ("a = f'{[x for x in y]}'", "f-string"),
        ("a = f'{\", \".join(x for x in y)}'", "f-string"),
        ("from . import core", "relative"),
        ("def f():\n    from .core import a", "line 2: a relative"),
        (LONG_FUNCTION, "51 lines"),
        ("a = 1\n" * (FILE_LINES + 1), "301 lines"),
    ],
)
def test_a_fault_is_seen(source: str, problem: str) -> None:
    with pytest.raises(AssertionError, match=problem):
        assert not find_problems(source), "\n".join(find_problems(source))


@pytest.mark.parametrize(
    "source",
    [
        "a = [x for x in y]\nb = [x for x in z]",
        "if [x for x in y]:\n    a = 1 if b else 2\nelif any(x for x in z):\n    a = 2",
        "def f(a=x if y else z):\n    return [x for x in y]",
        "a = [y for x in z if x for y in x]",
        "a, b = pair\n(a, b), c = split(pair)\nfor a, b in pairs:\n    pass",
        "pair = (1, 2)\na = b = 0\nfirst, *rest = names",
        "a = [x] + (y or [])\nb = ['s'] * (count or 1)",
        "a = ready or default\nif ready and able:\n    start()",
        "a = sorted(y, key=lambda x: -x)\nb = map(int, y)",
        "a = values[values > 0]\nb = weights * (values > 0)\nc = values[(a > 0) & (b > 0)]",
        "a = (x, y)[0]\nb = (x, y)[-1]\nc = (x, y, z)[index]\nd = [x, y][:1]",
        "a = [x] * count\nb = 's' * (count - 1)\nc = -1 * count",
        "a = f'{x if y else z} {names}'",
        "from vpt_edge.runtime import errors",
        LONG_FUNCTION.replace("    pass\n", "", 1),
        "a = 1\n" * FILE_LINES,
    ],
)
def test_a_plain_line_is_left_alone(source: str) -> None:
    assert find_problems(source) == []
