"""What vpt-eval asks the judged bundle and the other one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from vpt_edge.calibration import evaluation
from vpt_edge.commands import eval as command
from vpt_edge.runtime import pipeline
from vpt_edge.runtime.testing import Script, tiny_bundle

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Of a bundle that is held against itself, and two pictures with two questions each."""
    bundle = tiny_bundle(tmp_path / "bundle")
    data = tmp_path / "data"
    data.mkdir()
    for name in ("a.png", "b.png"):
        Image.new("RGB", (28 * 12, 28 * 10)).save(data / name)
    script = Script(*["Yes."] * 4)
    monkeypatch.setattr(pipeline, "open_session", lambda model, name, device: script(model, name))
    return [str(bundle.path), "--data", str(data), "--compare", str(bundle.path)]


def test_a_share_of_first_views_is_of_the_judged_bundle_alone(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    dropped = []
    ask = evaluation.ask

    def watch(*given: Any, **options: Any) -> Any:
        answer = ask(*given, **options)
        dropped.append(answer.usage.dropped_tokens)
        return answer

    monkeypatch.setattr(evaluation, "ask", watch)
    assert command.main([*arguments, "--first-token-share", "0.75"]) == 0
    assert dropped == [30] * 4 + [0] * 4


def test_a_share_that_is_none_is_refused_before_anything_is_asked(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main([*arguments, "--first-token-share", "1.5"]) == 2
    said = capsys.readouterr().err
    assert said == "error: found first_token_share 1.5; expected more than 0 and at most 1\n"
