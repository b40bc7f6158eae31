"""A bundle that is replaced while it is opened is noticed, wherever in the opening that happens."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vpt_edge.runtime import Bundle, Pipeline, bundle, pipeline, snapshot
from vpt_edge.runtime.errors import BundleError
from vpt_edge.runtime.testing import Script, tiny_bundle

REPLACED = "was replaced while it was in use.*open the bundle again"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A bundle; ``other`` beside it has the same files but for the cache's size."""
    tiny_bundle(tmp_path / "other", capacity=512)
    return tiny_bundle(tmp_path / "bundle").path


def exchange(path: Path) -> None:
    """What vpt-export does at its end."""
    path.rename(path.with_name("old"))
    path.with_name("other").rename(path)


def copy_over(path: Path) -> None:
    """What ``cp`` does: the folder stays."""
    for file in path.with_name("other").iterdir():
        shutil.copyfile(file, path / file.name)
        os.utime(path / file.name, (1, 1))


def take_away(path: Path) -> None:
    path.rename(path.with_name("old"))


CHANGES = [exchange, copy_over, take_away]
Steps = tuple[Any, str]
# What is called on the way from the manifest to the last file that is mapped.
STEPS: dict[str, Steps] = {
    "manifest": (bundle, "read_manifest"),
    "interface": (bundle, "check_manifest"),
    "graphs": (bundle, "read_external_data"),
    "tokenizer": (pipeline, "Chat"),
    "table": (Bundle, "embeddings"),
}


def behind(
    monkeypatch: pytest.MonkeyPatch, step: Steps, change: Callable[[Path], None], path: Path
) -> None:
    """Let ``change`` happen once, behind the step."""
    owner, name = step
    original = getattr(owner, name)
    done = list[bool]()

    def replaced(*arguments: Any) -> Any:
        result = original(*arguments)
        if not done:
            done.append(True)
            change(path)
        return result

    monkeypatch.setattr(owner, name, replaced)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("step", STEPS)
def test_a_pipeline_is_never_a_mixture(
    step: str, change: Callable[[Path], None], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    behind(monkeypatch, STEPS[step], change, path)
    with pytest.raises(BundleError, match=REPLACED):
        Pipeline(path, opener=Script("yes"))


@pytest.mark.parametrize("step", ["graphs", "tokenizer", "table"])
def test_another_file_of_the_same_size_is_noticed(
    step: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rename(path: Path) -> None:
        data = bytearray((path / "embeddings.bin").read_bytes())
        data[0] ^= 1
        (path / "beside").write_bytes(data)
        (path / "beside").rename(path / "embeddings.bin")

    behind(monkeypatch, STEPS[step], rename, path)
    with pytest.raises(BundleError, match=r"embeddings\.bin changed"):
        Pipeline(path, opener=Script("yes"))


@pytest.mark.parametrize("step", ["graphs", "tokenizer", "table"])
def test_files_that_the_system_numbers_anew_are_the_same(
    step: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As some file systems do whenever they like."""
    numbers = itertools.count()
    identify = snapshot._identify_file

    def number_anew(file: Path) -> snapshot.Identity | None:
        identity = identify(file)
        if identity is None:
            return None
        return identity._replace(numbers=(next(numbers),))

    def begin(path: Path) -> None:
        monkeypatch.setattr(snapshot, "_identify_file", number_anew)

    behind(monkeypatch, STEPS[step], begin, path)
    Pipeline(path, opener=Script("yes")).close()


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("step", ["manifest", "interface", "graphs"])
def test_nor_is_a_bundle(
    step: str, change: Callable[[Path], None], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    behind(monkeypatch, STEPS[step], change, path)
    with pytest.raises(BundleError, match=REPLACED):
        Bundle.open(path)


@pytest.mark.parametrize("change", CHANGES)
def test_a_bundle_that_was_opened_before_is_still_that_one(
    change: Callable[[Path], None], path: Path
) -> None:
    """As vpt-eval does: it opens the bundle, reads its data, and makes the pipeline."""
    opened = Bundle.open(path)
    change(path)
    with pytest.raises(BundleError, match=REPLACED):
        Pipeline(opened, opener=Script("yes"))


def test_a_link_to_the_newest_bundle_that_moves_on_is_noticed(path: Path) -> None:
    link = path.with_name("newest")
    link.symlink_to(path)
    opened = Bundle.open(link)
    link.unlink()
    link.symlink_to(path.with_name("other"))
    with pytest.raises(BundleError, match=REPLACED):
        Pipeline(opened, opener=Script("yes"))


def test_what_is_added_does_not_matter(path: Path) -> None:
    opened = Bundle.open(path)
    (path / "plans").mkdir()
    (path / "notes.txt").touch()
    with Pipeline(opened, opener=Script("yes")):
        pass


def test_the_same_bundle_once_more_is_no_other(path: Path) -> None:
    opened = Bundle.open(path)
    shutil.copytree(path, path.with_name("same"))
    path.rename(path.with_name("old"))
    path.with_name("same").rename(path)
    Pipeline(opened, opener=Script("yes")).close()


def test_an_error_is_itself_where_nothing_was_replaced(path: Path) -> None:
    with pytest.raises(ZeroDivisionError), Bundle.open(path).hold():
        raise ZeroDivisionError
