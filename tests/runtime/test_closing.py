"""A closed pipeline holds no file and no memory, even before the collector runs."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from golden import TAGS, Exporter
from scripted import PICTURE

from vpt_edge.runtime import Bundle, Pipeline
from vpt_edge.runtime.errors import BundleError, VptError
from vpt_edge.runtime.testing import Script, tiny_bundle

if TYPE_CHECKING:
    from vpt_edge.runtime.sessions import Session

FILES = Path("/proc/self/fd")
MAPS = Path("/proc/self/maps")
needs_proc = pytest.mark.skipif(not MAPS.exists(), reason="the system does not tell")


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def held(folder: Path) -> list[str]:
    """The open and mapped files of ``folder``."""
    names = [str(path.readlink()) for path in FILES.iterdir() if path.is_symlink()]
    names += [line.split(maxsplit=5)[-1] for line in MAPS.read_text().splitlines()]
    return [name for name in names if name.startswith(str(folder))]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("tiny"))


@needs_proc
def test_files_are_let_go_at_once(tiny: Bundle) -> None:
    for count in range(3):
        pipeline = Pipeline(tiny, opener=Script("yes"))
        assert held(tiny.path)  # the table
        if count:
            assert pipeline.ask(PICTURE, "What?").text == "yes"
        pipeline.close()
        assert held(tiny.path) == []


@needs_proc
def test_files_of_real_sessions_are_let_go_at_once(exported: Exporter) -> None:
    bundle = exported(TAGS)
    pipelines = []
    for _ in range(2):
        with Pipeline(bundle.path) as pipeline:
            pipeline.ask(PICTURE, "What?", max_new_tokens=2)
            pipelines.append(pipeline)
        assert held(bundle.path) == []


@needs_proc
def test_an_opening_that_fails_holds_nothing(tiny: Bundle, tmp_path: Path) -> None:
    script = Script("yes")

    def fail(model: Any, name: str) -> Session:
        if name == "reencoder_projector":
            raise VptError("no memory")
        return script(model, name)

    with pytest.raises(VptError, match="no memory"):
        Pipeline(tiny, opener=fail)
    assert held(tiny.path) == []
    broken = tiny_bundle(tmp_path / "broken")
    broken.file("tokenizer.json").write_text("{")
    with pytest.raises(BundleError, match="altered"):
        Pipeline(broken.path, opener=script)
    assert held(broken.path) == []


def test_a_pipeline_that_nobody_needs_is_gone(tiny: Bundle) -> None:
    pipeline = Pipeline(tiny, opener=Script("yes"))
    pipeline.ask(PICTURE, "What?")
    pipeline.close()
    seen = weakref.ref(pipeline)
    del pipeline
    assert seen() is None


def test_what_comes_behind_the_end_is_told(tiny: Bundle) -> None:
    pipeline = Pipeline(tiny, opener=Script("yes"))
    pipeline.close()
    pipeline.close()
    for call in (lambda: pipeline.ask(PICTURE, "What?"), pipeline.forget):
        with pytest.raises(VptError, match="the pipeline is closed"):
            call()
