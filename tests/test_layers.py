"""Who may import whom, held against the syntax tree."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from golden import ROOT

from vpt_edge import runtime

MAY_IMPORT: dict[str, set[str]] = {
    "runtime": set(),
    "export": {"calibration", "runtime"},
    "calibration": {"runtime"},
    "engines": {"runtime"},
}
EVERYWHERE = {"numpy", "PIL", "tokenizers"}  # what the runtime may import where it likes
IN_FUNCTIONS = {"onnxruntime"}
HEAVY = {"torch", "transformers", "onnx", "onnxruntime", "onnx_ir", "onnxscript", "rich", "tensorrt", "huggingface_hub"}

FILES = [path for package in MAY_IMPORT for path in sorted((ROOT / package).glob("*.py"))]


class Import(NamedTuple):
    module: str
    at_import: bool  # runs when the module is imported
    relative: bool
    line: int


def imports(path: Path) -> Iterator[Import]:
    tree = ast.parse(path.read_text("utf-8"))
    late = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        or (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names, relative = [alias.name for alias in node.names], False
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            relative = node.level > 0
        else:
            continue
        for name in names:
            yield Import(name, id(node) not in late, relative, node.lineno)


def test_every_package_has_files() -> None:
    assert {path.parent.name for path in FILES} == set(MAY_IMPORT)


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_imports_keep_to_the_layers(path: Path) -> None:
    allowed = MAY_IMPORT[path.parent.name] | {path.parent.name}
    for found in imports(path):
        where = f"{path.name}:{found.line} imports {found.module}"
        assert not found.relative, f"{where} by a relative import"
        root, *rest = found.module.split(".")
        assert root not in MAY_IMPORT, f"{where}, which another distribution may own"
        assert root != "vpt_edge" or rest[0] in allowed, f"{where}; {path.parent.name} may import {sorted(allowed)}"


@pytest.mark.parametrize("path", sorted((ROOT / "runtime").glob("*.py")), ids=lambda path: path.name)
def test_the_runtime_needs_little(path: Path) -> None:
    for found in imports(path):
        root = found.module.split(".")[0]
        allowed = EVERYWHERE | sys.stdlib_module_names | {"vpt_edge"} | (set() if found.at_import else IN_FUNCTIONS)
        assert root in allowed, f"{path.name}:{found.line} imports {found.module}"


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_packages_are_flat(package: str) -> None:
    """A folder below would be missing from the wheel without an error."""
    assert not [path for path in (ROOT / package).glob("*/*.py") if path.is_file()]


def test_the_public_surface_is_exact() -> None:
    expected = ["Answer", "Bundle", "Crop", "Finished", "Looked", "Pipeline", "Reencode", "Text", "VptError"]
    assert runtime.__all__ == expected
    assert len(expected) <= 10
    assert all(hasattr(runtime, name) for name in expected)


def run(code: str) -> str:
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_importing_the_runtime_loads_nothing_heavy() -> None:
    assert run(f"import sys, vpt_edge.runtime; print(sorted({HEAVY} & set(sys.modules)))") == "[]"


def test_every_module_of_the_runtime_imports_without_the_rest() -> None:
    modules = [f"vpt_edge.runtime.{path.stem}" for path in sorted((ROOT / "runtime").glob("[!_]*.py"))]
    others = {f"vpt_edge.{package}" for package in MAY_IMPORT if package != "runtime"}
    blocked = f"import sys; sys.modules.update(dict.fromkeys({HEAVY | others}))"
    run(f"{blocked}; import importlib; [importlib.import_module(name) for name in {modules}]")
