"""README is true: its Python runs, its commands and files exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from golden import DEMO, ROOT, Exporter
from PIL import Image

from vpt_edge.commands.bench import _parser as bench_parser
from vpt_edge.commands.build import _parser as build_parser
from vpt_edge.commands.doctor import _parser as doctor_parser
from vpt_edge.commands.eval import _parser as eval_parser
from vpt_edge.commands.export import _parser as export_parser
from vpt_edge.commands.run import _parser as run_parser

README = (ROOT / "README.md").read_text("utf-8")
PARSERS = {
    "vpt-export": export_parser,
    "vpt-run": run_parser,
    "vpt-eval": eval_parser,
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
    (tmp_path / "bundle").symlink_to(exported(DEMO).path)
    Image.new("RGB", (64, 48)).save(tmp_path / "street.jpg")
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})


@pytest.mark.parametrize("command", [line for line in commands() if line.split()[0] in PARSERS])
def test_the_commands_parse(command: str) -> None:
    import shlex

    name, *arguments = shlex.split(command)
    PARSERS[name]().parse_args(arguments)


def test_make_knows_its_targets() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"\bmake ([a-z-]+)", README):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_the_files_exist() -> None:
    named = set(re.findall(r"`((?:[a-z_]+/)+[a-z_.]*)`", README)) | set(
        re.findall(r"\]\(((?!http)[^)]+)\)", README)
    )
    assert "runtime/" in named
    assert [name for name in named if not (ROOT / name).exists()] == []
