"""What lies around the code for those who come from outside agrees with the code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from golden import ROOT

GITHUB = ROOT / ".github"
CI = GITHUB / "workflows" / "ci.yml"
FORMS = sorted((GITHUB / "ISSUE_TEMPLATE").glob("*.yml"))
PRE_COMMIT = ROOT / ".pre-commit-config.yaml"
CITATION = ROOT / "CITATION.cff"
PYPROJECT = (ROOT / "pyproject.toml").read_text("utf-8")


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text("utf-8"))


def value(key: str) -> str:
    """Of ``key = "value"`` in pyproject.toml: Python 3.10 has no tomllib."""
    match = re.search(rf'^{key} = "(.+)"$', PYPROJECT, re.MULTILINE)
    assert match, key
    return match[1]


def test_ci_tests_the_oldest_python() -> None:
    rows = load(CI)["jobs"]["test"]["strategy"]["matrix"]["include"]
    versions = [row["python"] for row in rows]
    assert f">={versions[0]}" == value("requires-python")
    assert versions == ["3.10", "3.11", "3.12", "3.13"]


def test_ci_runs_what_make_knows() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    steps = [step.get("run", "") for job in load(CI)["jobs"].values() for step in job["steps"]]
    targets = [target for step in steps for target in re.findall(r"^make ([a-z-]+)", step)]
    assert set(targets) == {"lint", "docs"}
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_a_row_without_torch_asks_the_script() -> None:
    job = load(CI)["jobs"]["without-torch"]
    steps = "\n".join(step.get("run", "") for step in job["steps"])
    assert "find_spec('torch')" in steps
    assert "pytest examples/own_test.py" in steps
    assert "vpt-run --version" in steps
    assert "[" not in steps.partition("install")[2].splitlines()[0], "an extra would bring torch"


def test_pre_commit_has_the_pinned_ruff() -> None:
    pins = (ROOT / "constraints.txt").read_text("utf-8").split()
    hooks = {hook["id"]: hook for repo in load(PRE_COMMIT)["repos"] for hook in repo["hooks"]}
    for name in ("ruff", "ruff-format"):
        (pin,) = hooks[name]["additional_dependencies"]
        assert pin in pins


@pytest.mark.parametrize("form", FORMS, ids=lambda path: path.stem)
def test_the_form_is_one(form: Path) -> None:
    content = load(form)
    assert {"name", "description", "body"} <= set(content)
    for part in content["body"]:
        assert part["attributes"].get("label") or part["type"] == "markdown"


def test_a_bug_comes_with_the_machine() -> None:
    parts = {part.get("id"): part for part in load(GITHUB / "ISSUE_TEMPLATE" / "bug.yml")["body"]}
    assert "vpt-doctor" in parts["doctor"]["attributes"]["label"]
    assert "--json" in parts["doctor"]["attributes"]["label"]
    assert parts["doctor"]["validations"]["required"] is True


def test_the_citation_is_of_this_version() -> None:
    citation = load(CITATION)
    assert citation["version"] == value("version")
    assert citation["license"] == value("license")
    (paper,) = citation["references"]
    assert [author["family-names"] for author in paper["authors"]] == ["Yu", "Ma", "Wang"]
    assert paper["url"].endswith("2502.17425")


def test_the_changelog_begins_with_what_is_unreleased() -> None:
    titles = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert titles[0] == "Unreleased"
    assert titles[1] == value("version")


def test_the_places_of_a_change_exist() -> None:
    table = (GITHUB / "CONTRIBUTING.md").read_text("utf-8").partition("| change |")[2]
    rows = table.partition("\n\n")[0]
    paths = re.findall(r"`([\w/-]+(?:/|\.(?:py|md)))`", rows)
    assert len(paths) > 20
    assert [path for path in paths if not (ROOT / path).exists()] == []
