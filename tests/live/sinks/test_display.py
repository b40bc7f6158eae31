"""Windows of a cv2 that is a script; the trial runs it in a process of its own, as it is."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from answers import seen
from sources import frame

from vpt_edge.live.sinks.display import Display
from vpt_edge.live.sinks.outputs import Outputs
from vpt_edge.runtime.errors import SinkError

CV2 = """
WINDOW_NORMAL = 0
WINDOW_GUI_NORMAL = 16
WND_PROP_VISIBLE = 4
calls = []
shown = {}
keys = []
visible = 1.0
def namedWindow(name, flags=0): calls.append(name)
def resizeWindow(name, width, height): calls.append((name, width, height))
def imshow(name, pixels): shown[name] = pixels
def waitKey(milliseconds): return keys.pop(0) if keys else -1
def getWindowProperty(name, number): return visible
def destroyAllWindows(): calls.append("destroyed")
"""
RED = np.full((240, 320, 3), (200, 30, 30), np.uint8)


def script(folder: Path, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "cv2.py").write_text(code)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.delitem(sys.modules, "cv2", raising=False)


@pytest.fixture
def cv2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    script(tmp_path, CV2, monkeypatch)
    import cv2

    yield cv2
    del sys.modules["cv2"]


def test_each_source_has_a_window_with_its_answers(cv2: Any) -> None:
    display = Display("display://0", ["a", "b"])
    display.put(seen(0, source="a", pixels=RED))
    for number in range(3):
        display.put(frame(number, RED, source="a"))
        display.put(frame(number, source="b"))
    display.close()
    assert cv2.calls == [
        "vpt-watch a",
        ("vpt-watch a", 320, 240),
        "vpt-watch b",
        ("vpt-watch b", 96, 64),
        "destroyed",
    ]
    assert cv2.shown["vpt-watch a"][0, 0].tolist() == [30, 30, 200]
    assert cv2.shown["vpt-watch a"][-30:].min(2).max() > 200
    assert cv2.shown["vpt-watch b"].max() == 0


def put_all(outputs: Outputs) -> None:
    for number in range(100_000):
        outputs.put(frame(number), wait=True)


@pytest.mark.parametrize("key", [ord("q"), 27, 27 | 0x100000])
def test_a_key_ends_the_watch(key: int, cv2: Any) -> None:
    cv2.keys.extend([-1, ord("x"), key])
    outputs = Outputs([("output", Display("display://0", ["test"]))])
    with pytest.raises(BrokenPipeError):
        put_all(outputs)
    outputs.close()
    assert cv2.calls[-1] == "destroyed"


def test_closing_the_window_ends_the_watch(cv2: Any) -> None:
    display = Display("display://0", ["test"])
    display.put(frame(0))
    cv2.visible = -1.0  # GTK's answer
    display.put(frame(0))
    cv2.visible = 0.0
    with pytest.raises(BrokenPipeError):
        display.put(frame(1))


def test_nothing_is_left_of_a_watch_without_a_frame(cv2: Any) -> None:
    Display("display://0", ["test"]).close()
    assert cv2.calls == []


@pytest.mark.parametrize("target", ["display://1", "display://", "display://0/x"])
def test_another_display_is_not_known(target: str) -> None:
    with pytest.raises(SinkError, match=f"'{target}', expected display://0"):
        Display(target, ["test"])


def test_without_opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SinkError, match="needs OpenCV with windows; pip install opencv-python"):
        Display("display://0", ["test"])


@pytest.mark.usefixtures("cv2")
def test_without_a_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("DISPLAY")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(SinkError, match="neither DISPLAY nor WAYLAND_DISPLAY is set"):
        Display("display://0", ["test"])


@pytest.mark.parametrize(
    ("failure", "text"),
    [
        ("raise RuntimeError('The function is not implemented.')", "has no windows; pip uninstall"),
        ("import os; os.abort()", "OpenCV says: it ended with -6"),
        ("raise SystemExit('could not connect to display :0')", "could not connect to display"),
    ],
)
def test_a_window_that_cannot_be_opened_is_one_line(
    failure: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(tmp_path, f"def namedWindow(name): {failure}\n", monkeypatch)
    with pytest.raises(SinkError, match=text) as error:
        Display("display://0", ["test"])
    assert "\n" not in str(error.value)
