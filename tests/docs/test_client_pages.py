"""The pages for clients are true: what they show runs against a real server."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from golden import ROOT
from javascript import install_package
from PIL import Image
from scripted import REGION
from serving import LONG, Served

from vpt_edge.commands.serve import _parser
from vpt_edge.runtime.testing import tiny_bundle

if TYPE_CHECKING:
    from vpt_edge.runtime import Bundle

FOLDER = ROOT / "docs" / "clients"
PAGES = sorted(FOLDER.glob("*.md"))
ADDRESS = "http://localhost:8000"
ANSWER = "Bakery"


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text("utf-8"), re.DOTALL)


def programs(language: str) -> list[tuple[str, str]]:
    return [(page.name, code) for page in PAGES for code in blocks(page, language)]


def requests() -> list[str]:
    """The commands of curl, on this page and on that about serving."""
    pages = [FOLDER / "curl.md", ROOT / "docs" / "serve.md"]
    scripts = [code for page in pages for code in blocks(page, "sh")]
    return [script for script in scripts if script.startswith("curl")]


def test_a_name_that_is_not_the_machine_s_is_allowed_first() -> None:
    for page in PAGES:
        text = page.read_text("utf-8")
        for name in re.findall(r"http://(\w+\.[\w.]+):8000", text):
            assert f"--allow-host {name}" in text


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("served"))


@pytest.fixture
def served(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """A server whose model looks again and answers, twice; a picture lies in the folder."""
    Image.new("RGB", (96, 64), "navy").save(tmp_path / "street.jpg")
    monkeypatch.chdir(tmp_path)
    with Served(bundle, REGION, ANSWER, REGION, ANSWER, model="bundle") as served:
        yield served


@pytest.mark.parametrize(("page", "code"), programs("python"))
def test_the_python_runs(
    page: str, code: str, served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    if "langchain" in code and importlib.util.find_spec("langchain_openai") is None:
        pytest.skip("LangChain is not installed: pip install langchain-openai")
    assert ADDRESS in code
    exec(compile(code.replace(ADDRESS, served.url), page, "exec"), {})
    printed = capsys.readouterr().out
    assert ANSWER in printed
    assert "langchain" in code or "[0, 8, 60, 32]" in printed


@pytest.mark.parametrize(("page", "code"), programs("js"))
def test_the_javascript_runs(page: str, code: str, served: Served) -> None:
    program = install_package().parent / f"{page}.mjs"  # from where node finds the package
    program.write_text(code.replace(ADDRESS, served.url), "utf-8")
    command = ["node", str(program)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LONG)
    assert result.returncode == 0, result.stderr
    assert ANSWER in result.stdout
    assert "[ 0, 8, 60, 32 ]" in result.stdout


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is missing")
@pytest.mark.parametrize("script", requests())
def test_curl_is_answered(script: str, served: Served) -> None:
    assert ADDRESS in script
    command = ["bash", "-ec", script.replace(ADDRESS, served.url).replace("curl ", "curl -sf ")]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LONG)
    assert result.returncode == 0, result.stdout + result.stderr
    if "messages" in script:
        assert ANSWER in "".join(re.findall(r'"content": ?"(.*?)"', result.stdout))


@pytest.mark.parametrize(("page", "code"), programs("yaml"))
def test_the_settings_are_yaml(page: str, code: str) -> None:
    settings = yaml.safe_load(code)
    if page == "frigate.md":
        assert settings["objects"]["genai"]["use_snapshot"] is True
        assert settings["genai"]["vpt"]["base_url"].endswith("/v1")
    else:
        assert settings["action"].startswith("llmvision.")


def test_the_commands_parse() -> None:
    lines = [line for _, script in programs("sh") for line in script.splitlines()]
    commands = [line for line in lines if line.startswith("vpt-serve ")]
    assert commands
    for line in commands:
        _parser().parse_args(shlex.split(line)[1:])


def test_every_page_is_linked() -> None:
    text = (ROOT / "docs" / "serve.md").read_text("utf-8")
    assert {page.name for page in PAGES} == set(re.findall(r"\(clients/([\w-]+\.md)", text))
    navigation = (ROOT / "mkdocs.yml").read_text("utf-8")
    for page in PAGES:
        assert f"clients/{page.name}" in navigation


def test_the_json_is_json() -> None:
    for page in (*PAGES, ROOT / "docs" / "serve.md"):
        for code in blocks(page, "json"):
            json.loads(code)
