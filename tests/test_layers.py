"""Who may import whom, held against the syntax tree: type-only imports included, and without a
circle.
"""

from __future__ import annotations

import ast
import re
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
    "live": {"runtime"},
    "server": {"live", "runtime"},
    "device": {"runtime"},
    "engines": {"runtime"},
    "calibration": {"runtime"},
    "tuning": {"calibration", "runtime"},
    "export": {"calibration", "runtime"},
    "commands": {
        *("calibration", "device", "engines", "export", "live", "runtime", "server", "tuning"),
    },
}
RUNTIME_CORE = {
    *("pipeline", "encoded_picture", "request", "album", "turn_text"),
    *("frame_album", "frame_features"),
    *("decoder", "vision", "result", "overlay"),
}
MAY_NOT_IMPORT = {  # folders inside a package, and the modules beside them that they may not know
    "runtime/models": RUNTIME_CORE,
    "runtime/perception": RUNTIME_CORE,
    "runtime/sessions": RUNTIME_CORE,
    "export/models": {"checkpoint", "exporter", "writer"},
}
EVERYWHERE = {"numpy", "PIL", "tokenizers"}  # what the runtime may import where it likes
LATE = {"onnxruntime", "typing_extensions"}  # in functions, or for types alone
HEAVY = {
    "torch",
    "transformers",
    "onnx",
    "onnxruntime",
    "onnx_ir",
    "onnxscript",
    "rich",
    "av",
    "tensorrt",
    "huggingface_hub",
}


class Import(NamedTuple):
    module: str
    at_import: bool  # runs when the module is imported
    relative: bool
    line: int


def package_files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


FILES = [path for package in MAY_IMPORT for path in package_files(package)]


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    if parts[-1] == "__init__":
        parts = parts[:-1]
    return ".".join(("vpt_edge", *parts))


MODULES = {module_name(path): path for path in FILES}


def late_nodes(tree: ast.Module) -> set[int]:
    """The nodes that do not run when the module is imported."""
    late = set[int]()
    for node in ast.walk(tree):
        in_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for_types = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        if in_function or for_types:
            late.update(id(inner) for inner in ast.walk(node))
    return late


def imports(path: Path) -> Iterator[Import]:
    tree = ast.parse(path.read_text("utf-8"))
    late = late_nodes(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, id(node) not in late, False, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield Import(
                    f"{node.module}.{alias.name}", id(node) not in late, node.level > 0, node.lineno
                )


def imported_modules(path: Path) -> set[str]:
    """The modules of ours that a file imports, for types and in functions too."""
    modules = set[str]()
    for each in imports(path):
        if each.module in MODULES:
            modules.add(each.module)
        elif each.module.rpartition(".")[0] in MODULES:
            modules.add(each.module.rpartition(".")[0])
    return modules


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_imports_keep_to_the_layers(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    allowed = MAY_IMPORT[package] | {package}
    for each in imports(path):
        where = f"{relative(path)}:{each.line} imports {each.module}"
        assert not each.relative, f"{where} by a relative import"
        root, *rest = each.module.split(".")
        assert root not in MAY_IMPORT, f"{where}, which another distribution may own"
        assert root != "vpt_edge" or rest[0] in allowed, (
            f"{where}; {package} may import {sorted(allowed)}"
        )


@pytest.mark.parametrize("folder", MAY_NOT_IMPORT)
def test_a_seam_does_not_know_what_stands_behind_it(folder: str) -> None:
    package = folder.split("/", maxsplit=1)[0]
    forbidden = {f"vpt_edge.{package}.{name}" for name in MAY_NOT_IMPORT[folder]}
    for path in package_files(folder):
        assert imported_modules(path) & forbidden == set(), relative(path)


def test_no_circle_of_imports_types_included() -> None:
    graph = {name: imported_modules(path) - {name} for name, path in MODULES.items()}
    finished = set[str]()

    def visit(name: str, trail: list[str]) -> None:
        assert name not in trail, f"a circle: {' -> '.join([*trail[trail.index(name) :], name])}"
        if name in finished:
            return
        for other in sorted(graph[name]):
            visit(other, [*trail, name])
        finished.add(name)

    for name in sorted(graph):
        visit(name, [])


def test_nobody_imports_a_command() -> None:
    for path in FILES:
        if path.parent.name != "commands":
            assert not [
                each for each in imported_modules(path) if each.startswith("vpt_edge.commands")
            ]


@pytest.mark.parametrize("path", package_files("runtime"), ids=relative)
def test_the_runtime_needs_little(path: Path) -> None:
    for each in imports(path):
        root = each.module.split(".")[0]
        allowed = EVERYWHERE | sys.stdlib_module_names | {"vpt_edge"}
        if not each.at_import:
            allowed |= LATE
        assert root in allowed, f"{relative(path)}:{each.line} imports {each.module}"


def test_every_folder_is_listed_in_pyproject() -> None:
    """One that is not would be missing from the wheel without an error."""
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    listed = dict(re.findall(r'^"(vpt_edge\.[\w.]+)" = "([\w/]+)"$', project, re.MULTILINE))
    packages = re.findall(r'^    "(vpt_edge\.[\w.]+)",$', project, re.MULTILINE)
    folders = {str(path.parent.relative_to(ROOT)) for path in FILES}
    assert set(listed.values()) == folders
    assert set(listed) == {f"vpt_edge.{folder.replace('/', '.')}" for folder in folders}
    assert sorted(packages) == sorted(listed)


def test_the_public_surface_is_exact() -> None:
    expected = [
        "Answer",
        "Bundle",
        "Crop",
        "Exchange",
        "Finished",
        "Frames",
        "Looked",
        "Pipeline",
        "Reencode",
        "Refused",
        "Text",
        "Thought",
        "VptError",
    ]
    assert runtime.__all__ == expected
    assert len(expected) <= 13
    assert all(hasattr(runtime, name) for name in expected)


def run(code: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_importing_the_runtime_loads_nothing_heavy() -> None:
    assert run(f"import sys, vpt_edge.runtime; print(sorted({HEAVY} & set(sys.modules)))") == "[]"


def test_every_module_of_the_runtime_imports_without_the_rest() -> None:
    modules = [name for name in MODULES if name.startswith("vpt_edge.runtime")]
    others = {f"vpt_edge.{package}" for package in MAY_IMPORT if package != "runtime"}
    blocked = f"import sys; sys.modules.update(dict.fromkeys({HEAVY | others}))"
    run(f"{blocked}; import importlib; [importlib.import_module(name) for name in {modules}]")
