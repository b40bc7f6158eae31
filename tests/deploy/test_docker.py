"""The Dockerfiles, by the linter and by rules of our own; `make image-steps` walks one of them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from golden import ROOT
from images import dockerfile

if TYPE_CHECKING:
    from images.dockerfile import Stage

FOLDER = ROOT / "deploy" / "docker"
FILES = sorted(FOLDER.glob("*.Dockerfile"))
PACKAGES = {
    *("runtime", "live", "server", "device", "engines", "calibration", "tuning", "export"),
    "commands",
}
BUILD_TOOLS = re.compile(
    r"\b(?:gcc|g\+\+|make|build-essential|git|pip|python3-venv|[\w.+-]+-dev)\b"
)
JETPACK = {  # of the table in docs/jetson.md: Python, TensorRT; and NVIDIA's name of the release
    "jetpack6": ("3.10", "10.3", "r36.4"),
    "jetpack7": ("3.12", "10.16", "r39.2"),
}
STATUS = "/run/vpt-edge/status.json"

each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
each_jetpack = pytest.mark.parametrize("name", JETPACK)


def read(path: Path) -> tuple[Stage, Stage]:
    build, image = dockerfile.read(path)
    return build, image


def run_text(stage: Stage) -> str:
    return "\n".join(each.text for each in stage.all("RUN"))


def find_hadolint() -> str | None:
    return shutil.which("hadolint", path=Path(sys.executable).parent) or shutil.which("hadolint")


def test_there_is_one_for_each_machine() -> None:
    assert [path.stem for path in FILES] == ["cpu", "jetpack6", "jetpack7"]


@each_file
@pytest.mark.skipif(find_hadolint() is None, reason="hadolint is not installed")
def test_the_linter_has_nothing_to_say(path: Path) -> None:
    command = [str(find_hadolint()), "--config", str(FOLDER / "hadolint.yaml"), str(path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.stdout, result.returncode) == ("", 0)


@pytest.mark.skipif(find_hadolint() is None, reason="hadolint is not installed")
def test_the_linter_works(tmp_path: Path) -> None:
    text = FILES[0].read_text("utf-8").replace("USER 10001\n", "").replace(":bookworm-slim", "")
    (tmp_path / "Dockerfile").write_text(text)
    command = [str(find_hadolint()), "--config", str(FOLDER / "hadolint.yaml"), "Dockerfile"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert "DL3006" in result.stdout
    assert result.returncode == 1


@each_file
def test_it_runs_as_nobody_in_particular(path: Path) -> None:
    """In the group of the cameras."""
    _, image = read(path)
    (user,) = image.all("USER")
    assert user.text == "10001"
    assert "useradd --uid 10001 --groups video " in run_text(image)
    after = image.instructions[image.instructions.index(user) :]
    assert {each.keyword for each in after} == {"USER", "WORKDIR", "HEALTHCHECK", "ENTRYPOINT"}


@each_file
def test_its_health_is_read_where_it_is_written(path: Path) -> None:
    _, image = read(path)
    (check,) = image.all("HEALTHCHECK")
    (entry,) = image.all("ENTRYPOINT")
    assert check.text == f'CMD ["vpt-watch", "--check", "{STATUS}"]'
    assert entry.words == ["vpt-watch", "--status", STATUS]
    assert f"install --directory --owner=vpt /data {Path(STATUS).parent}" in run_text(image)


@each_file
def test_the_command_takes_what_is_given(path: Path) -> None:
    watch = pytest.importorskip("vpt_edge.commands.watch")
    _, image = read(path)
    (entry,) = image.all("ENTRYPOINT")
    words = [*entry.words[1:], "/bundle", "@/run/secrets/source", "Is it open?", "--every", "2"]
    parsed = watch._parser().parse_args(words)
    assert (parsed.bundle, parsed.question, parsed.status) == ("/bundle", ["Is it open?"], STATUS)
    (check,) = image.all("HEALTHCHECK")
    words = json.loads(check.text.removeprefix("CMD "))
    assert watch._parser().parse_args(words[1:]).check == STATUS


@each_file
def test_the_image_has_nothing_to_build_with(path: Path) -> None:
    """And no source: it takes the environment, from whose own Python pip is gone."""
    build, image = read(path)
    (copy,) = image.all("COPY")
    assert copy.flags == {"from": "build"}
    assert copy.words == ["/opt/vpt-edge", "/opt/vpt-edge"]
    assert BUILD_TOOLS.findall(run_text(image)) == []
    assert run_text(build).endswith("/opt/vpt-edge/bin/pip uninstall -y pip setuptools")


@each_file
def test_nothing_is_told_to_others(path: Path) -> None:
    _, image = read(path)
    (variables,) = image.all("ENV")
    assert variables.variables["ORT_DISABLE_TELEMETRY"] == "1"


@each_file
def test_both_stages_have_one_python(path: Path) -> None:
    """An environment holds for the system that it was made on; none is the latest of anything."""
    build, image = read(path)
    assert build.base == image.base
    assert re.fullmatch(r"[\w./-]+:[\w.-]+", image.base)
    assert not image.base.endswith(":latest")


@each_file
def test_versions_are_pinned(path: Path) -> None:
    build, _ = read(path)
    variables: dict[str, str] = {}
    for instruction in build.all("ENV"):
        variables |= instruction.variables
    pins = variables["PIP_CONSTRAINT"].removeprefix("/src/")
    assert pins in dockerfile.context(ROOT, ROOT / ".dockerignore")
    lines = (ROOT / pins).read_text("utf-8").splitlines()
    pinned = {line.partition("==")[0].lower() for line in lines if not line.startswith("#")}
    assert {"numpy", "onnxruntime", "pillow", "tokenizers", "av"} <= pinned


@each_jetpack
def test_a_jetpack_has_its_own_versions(name: str) -> None:
    python, tensorrt, release = JETPACK[name]
    _, image = read(FOLDER / f"{name}.Dockerfile")
    text = run_text(image)
    assert f"python3-libnvinfer={tensorrt}." in text
    assert f"https://repo.download.nvidia.com/jetson/common {release} main" in text
    assert f"sys.version_info[:2] == ({python.replace('.', ', ')})" in text
    table = (ROOT / "docs" / "jetson.md").read_text("utf-8")
    assert re.search(
        rf"^\| [67][^|]+\|[^|]+\| {python} \|[^|]+\| {tensorrt} \|$", table, re.MULTILINE
    )


@each_jetpack
def test_a_jetpack_sees_its_system_packages(name: str) -> None:
    build, image = read(FOLDER / f"{name}.Dockerfile")
    assert "python3 -m venv --system-site-packages /opt/vpt-edge" in run_text(build)
    assert "gstreamer1.0-tools" in run_text(image)


def test_the_two_jetpacks_differ_in_nothing_else() -> None:
    first, second = (FOLDER / f"{name}.Dockerfile" for name in JETPACK)
    pairs = zip(first.read_text().splitlines(), second.read_text().splitlines(), strict=True)
    different = [line.split()[0] for line, other in pairs if line != other]
    assert different == [
        "#",  # which JetPack
        "#",
        "FROM",
        "ENV",
        "FROM",
        '"https://repo.download.nvidia.com/jetson/common',
        "python3-libnvinfer=10.3.0.30-1+cuda12.5",
        "assert",
    ]


def test_the_builder_is_given_what_the_wheel_is_made_of() -> None:
    names = dockerfile.context(ROOT, ROOT / ".dockerignore")
    tops = {name.partition("/")[0] for name in names if "/" in name}
    assert tops == PACKAGES | {"deploy"}
    single = {name for name in names if "/" not in name or name.startswith("deploy/")}
    assert single == {
        "LICENSE",
        "README.md",
        "constraints.txt",
        "deploy/docker/jetpack6-constraints.txt",
        "pyproject.toml",
    }
    sources = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    assert {path.relative_to(ROOT).as_posix() for path in sources} <= set(names)
    assert not [name for name in names if "__pycache__" in name]


@pytest.mark.parametrize(
    ("rules", "names"),
    [
        ("", ["a/b.py", "a/c/d.py", "e.md"]),
        ("*\n!a", ["a/b.py", "a/c/d.py"]),
        ("*\n!a\n**/c", ["a/b.py"]),
        ("*\n!a/*.py", ["a/b.py"]),
        ("# none\n\n*.md", ["a/b.py", "a/c/d.py"]),
        ("a\n!a/c", ["a/c/d.py", "e.md"]),
    ],
)
def test_a_context_is_read_as_docker_does(tmp_path: Path, rules: str, names: list[str]) -> None:
    root = tmp_path / "tree"
    for name in ("a/b.py", "a/c/d.py", "e.md"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("")
    ignore = tmp_path / "ignore"
    ignore.write_text(rules)
    assert dockerfile.context(root, ignore) == names


def test_a_folder_that_is_ignored_whole_is_not_looked_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a/b/c.py", "build/proc/1", "d/e/f.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / "ignore").write_text("*\n!a/b/*.py\n!**/f.py")
    looked = list[str]()
    list_folder = Path.iterdir

    def note(folder: Path) -> Iterator[Path]:
        looked.append(folder.relative_to(tmp_path).as_posix())
        return list_folder(folder)

    monkeypatch.setattr(Path, "iterdir", note)
    assert dockerfile.context(tmp_path, tmp_path / "ignore") == ["a/b/c.py", "d/e/f.py"]
    (tmp_path / "ignore").write_text("*\n!a/b/*.py")
    looked.clear()
    assert dockerfile.context(tmp_path, tmp_path / "ignore") == ["a/b/c.py"]
    assert looked == [".", "a", "a/b"]


def test_a_dockerfile_is_read_as_docker_does(tmp_path: Path) -> None:
    path = tmp_path / "Dockerfile"
    path.write_text(
        "# a comment\nFROM debian:12 AS build\nRUN one \\\n # within\n && two\n\nFROM debian:12\n"
        'COPY --from=build --chmod=644 /a "/b c"\nENV X=1 Y="2 3"\nENTRYPOINT ["x", "--y"]\n'
    )
    build, image = dockerfile.read(path)
    assert (build.base, build.name, image.name) == ("debian:12", "build", "")
    assert build.all("RUN")[0].text == "one && two"
    (copy,) = image.all("COPY")
    assert copy.flags == {"from": "build", "chmod": "644"}
    assert copy.words == ["/a", "/b c"]
    assert image.all("ENV")[0].variables == {"X": "1", "Y": "2 3"}
    assert image.all("ENTRYPOINT")[0].words == ["x", "--y"]
