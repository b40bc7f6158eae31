"""The pages are true: their Python runs, their commands parse, their errors exist."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import re
import shlex
import typing
from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path

import pytest
from golden import ROOT, TAGS, Exporter
from PIL import Image

from vpt_edge import runtime
from vpt_edge.runtime.manifest import (
    SCHEMA_VERSION,
    SEAL,
    Budget,
    CacheConfig,
    Gate,
    Graph,
    ImageConfig,
    Manifest,
    Parity,
    TextConfig,
    Tokens,
)
from vpt_edge.runtime.models.qwen2_5_vl import Qwen25VLConfig
from vpt_edge.runtime.models.qwen2_vl import Qwen2VLConfig
from vpt_edge.runtime.models.qwen3_vl import Qwen3VLConfig
from vpt_edge.runtime.perception.none import NoneConfig
from vpt_edge.runtime.perception.rules import RulesConfig
from vpt_edge.runtime.perception.vpt import VptConfig
from vpt_edge.runtime.tuned import Tuned

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
PYPROJECT = (ROOT / "pyproject.toml").read_text("utf-8")  # Python 3.10 has no tomllib
MODULES = dict(re.findall(r'^(vpt-[a-z]+) = "([\w.]+):main"$', PYPROJECT, re.MULTILINE))
FOLDERS = re.findall(r'^"vpt_edge[\w.]*" = "([\w/]+)"$', PYPROJECT, re.MULTILINE)
ANYTHING = "…"  # in a heading and here: what an error fills in


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text("utf-8"), re.DOTALL)


def programs() -> list[tuple[str, str]]:
    return [(page.name, code) for page in PAGES for code in blocks(page, "python")]


def commands() -> list[str]:
    scripts = [block for page in PAGES for block in blocks(page, "sh")]
    lines = [line.split("#")[0].strip() for block in scripts for line in block.splitlines()]
    return sorted({line for line in lines if line.split(" ")[0] in MODULES})


def parser(command: str) -> ArgumentParser:
    module = importlib.import_module(MODULES[command])
    return typing.cast("ArgumentParser", module._parser())


@pytest.mark.parametrize(("page", "code"), programs())
def test_the_python_runs(
    page: str, code: str, exported: Exporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bundle").symlink_to(exported(TAGS).path)
    Image.new("RGB", (64, 48)).save(tmp_path / "street.jpg")
    monkeypatch.chdir(tmp_path)
    exec(compile(code, page, "exec"), {})


@pytest.mark.parametrize("command", commands())
def test_the_command_parses(command: str) -> None:
    name, *arguments = shlex.split(command)
    parser(name).parse_args(arguments)


def test_make_knows_its_targets() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for page in PAGES:
        for target in re.findall(r"\bmake ([a-z-]+)\b", " ".join(blocks(page, "sh"))):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"{page.name}: make {target}"


def test_the_files_exist() -> None:
    for page in PAGES:
        for name in re.findall(r"`((?:[a-z_]+/)+[a-z_]+\.(?:py|md))`", page.read_text("utf-8")):
            assert (ROOT / name).is_file(), f"{page.name}: {name}"


def text_of(node: ast.expr) -> str:
    """The text of a string in the source, with ANYTHING where something is filled in."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(map(text_of, node.values))
    return ANYTHING


def errors() -> Iterator[str]:
    paths = {path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")}
    for path in sorted(paths):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("Error"):
                yield "; ".join(map(text_of, node.args))


def explained() -> list[str]:
    page = (DOCS / "troubleshooting.md").read_text("utf-8")
    return re.findall(r"^### `(.+)`$", page, re.MULTILINE)


def test_errors_are_explained() -> None:
    assert len(explained()) > 30


@pytest.mark.parametrize("heading", explained())
def test_the_error_exists(heading: str) -> None:
    pattern = ".*".join(map(re.escape, heading.split(ANYTHING)))
    assert any(re.match(pattern, text, re.DOTALL) for text in errors())


def keys_of(title: str) -> list[str]:
    """The first column of the table below a title of the page on bundles."""
    page = (DOCS / "bundle.md").read_text("utf-8")
    section = page.partition(f"# {title}\n")[2].partition("\n#")[0]
    return re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)


def fields_of(cls: type) -> list[str]:
    return [field.name for field in dataclasses.fields(cls)]


def test_the_bundle_page_names_every_key_of_the_manifest() -> None:
    assert keys_of("manifest.json") == [*fields_of(Manifest), SEAL]


@pytest.mark.parametrize(
    ("key", "block"),
    [
        ("tokens", Tokens),
        ("image", ImageConfig),
        ("text", TextConfig),
        ("cache", CacheConfig),
        ("graphs", Graph),
        ("parity", Parity),
        ("gate", Gate),
        ("budget", Budget),
        ("tuned", Tuned),
    ],
)
def test_the_bundle_page_names_every_key_of_a_block(key: str, block: type) -> None:
    assert keys_of(f"`{key}`") == fields_of(block)


def test_the_bundle_page_names_every_key_of_each_model() -> None:
    configs = (Qwen2VLConfig, Qwen25VLConfig, Qwen3VLConfig)
    fields = dict.fromkeys(name for config in configs for name in fields_of(config))
    assert keys_of("`model`") == ["name", *fields]


def test_the_bundle_page_names_every_key_of_each_perception() -> None:
    configs = (VptConfig, NoneConfig, RulesConfig)
    fields = [name for config in configs for name in fields_of(config)]
    assert keys_of("`perception`") == ["name", *fields]


def test_the_pages_know_the_schema() -> None:
    assert f"| of this format, {SCHEMA_VERSION};" in (DOCS / "bundle.md").read_text("utf-8")
    assert f"`schema_version`: {SCHEMA_VERSION} now" in (DOCS / "versions.md").read_text("utf-8")


def test_the_python_page_has_every_public_name() -> None:
    page = (DOCS / "python.md").read_text("utf-8")
    names = {name.rpartition(".")[2] for name in re.findall(r"^::: ([\w.]+)$", page, re.MULTILINE)}
    exported_names = set(runtime.__all__) - {"VptError"}  # among the errors
    assert exported_names | {"EncodedPicture", "Options", "Turn", "Usage"} < names
    assert {"errors", "testing"} < names


def test_nothing_comes_from_the_network() -> None:
    config = (ROOT / "mkdocs.yml").read_text("utf-8")
    assert "  font: false" in config
    assert "://" not in config
