"""README is true: its Python runs, its commands and files exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from golden import ROOT, TAGS, Exporter
from PIL import Image

from vpt_edge.commands.bench import _parser as bench_parser
from vpt_edge.commands.build import _parser as build_parser
from vpt_edge.commands.doctor import _parser as doctor_parser
from vpt_edge.commands.eval import _parser as eval_parser
from vpt_edge.commands.export import _parser as export_parser
from vpt_edge.commands.run import _parser as run_parser
from vpt_edge.commands.serve import _parser as serve_parser
from vpt_edge.commands.tune import _parser as tune_parser

README = (ROOT / "README.md").read_text("utf-8")
PARSERS = {
    "vpt-export": export_parser,
    "vpt-run": run_parser,
    "vpt-serve": serve_parser,
    "vpt-eval": eval_parser,
    "vpt-tune": tune_parser,
    "vpt-build": build_parser,
    "vpt-doctor": doctor_parser,
    "vpt-bench": bench_parser,
}


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def commands() -> list[str]:
    lines = [line.split("#")[0].strip() for block in blocks("sh") for line in block.splitlines()]
    return [line for line in lines if line]


def test_the_python_runs(
    exported: Exporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (code,) = blocks("python")
    assert len(code.splitlines()) == 8
    (tmp_path / "bundle").symlink_to(exported(TAGS).path)
    Image.new("RGB", (64, 48)).save(tmp_path / "street.jpg")
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})


@pytest.mark.parametrize("command", [line for line in commands() if line.split()[0] in PARSERS])
def test_the_commands_parse(command: str) -> None:
    name, *arguments = shlex.split(command)
    PARSERS[name]().parse_args(arguments)


def test_make_knows_its_targets() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"\bmake ([a-z-]+)", README):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_the_files_exist() -> None:
    named = set(re.findall(r"`((?:[a-z_]+/)+[a-z_.]*)`", README))
    linked = {link.partition("#")[0] for link in links()}
    assert "runtime/" in named
    assert "docs/index.md" in linked
    assert [name for name in named | linked if not (ROOT / name).exists()] == []


def links() -> list[str]:
    return re.findall(r"\]\(((?!http)[^)]+)\)", README)


def anchor(title: str) -> str:
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


@pytest.mark.parametrize("link", [link for link in links() if "#" in link])
def test_the_anchors_exist(link: str) -> None:
    file, _, name = link.partition("#")
    titles = re.findall(r"^#+ (.+)$", (ROOT / file).read_text("utf-8"), re.MULTILINE)
    assert name in map(anchor, titles)


def test_the_map_has_every_folder() -> None:
    paths = [path for path in ROOT.iterdir() if path.is_dir() and path.name[0] not in "._"]
    folders = {path.name for path in paths} - {"build", "shared", "dist"}
    rows = set(re.findall(r"^\| `(\w+)/` \|", README, re.MULTILINE))
    assert rows == {name for name in folders if not name.endswith(".egg-info")}


def test_it_says_what_nobody_has_checked() -> None:
    section = README.partition("## What is not verified")[2].partition("\n## ")[0]
    for word in ("released checkpoints", "Jetson", "TensorRT", "Accuracy"):
        assert word in section
