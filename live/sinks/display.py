"""What sources show, with their answers drawn in, in windows of this machine."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from vpt_edge.live.sinks.painter import Painter
from vpt_edge.runtime.errors import SinkError
from vpt_edge.runtime.source import shorten

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image

    from vpt_edge.live.sinks.sink import Item

TARGET = "display://0"
QUIT = (ord("q"), 27)  # and Esc
SCREENS = ("DISPLAY", "WAYLAND_DISPLAY")
# Without a screen OpenCV's libraries end the whole process: it is tried in another one.
TRIAL = "import cv2; cv2.namedWindow('vpt-watch'); cv2.waitKey(1)"
PATIENCE = 20.0  # seconds for it
REPLACE = "pip uninstall opencv-python-headless && pip install opencv-python"


class Display:
    """A window by OpenCV for each of ``sources``, at most ``rate`` pictures a second or all.

    The key q, Esc and closing a window end the watch. Raises SinkError where no window can be.
    """

    wants = Painter.wants
    dropped = 0

    def __init__(self, target: str, sources: Sequence[str], rate: float | None = None) -> None:
        if target.lower() != TARGET:
            raise SinkError(f"the display is {shorten(target)!r}, expected {TARGET}")
        _check_windows()
        self._painters = [Painter(source, rate) for source in sources]
        self._windows = set[str]()

    def put(self, item: Item) -> None:
        for painter in self._painters:
            picture = painter.paint(item)
            if picture is not None:
                self._show(f"vpt-watch {painter.source}", picture)

    def close(self) -> None:
        if self._windows:
            _load_cv2().destroyAllWindows()
        self._windows.clear()

    def _show(self, window: str, picture: Image.Image) -> None:
        """OpenCV wants all of this from one thread, which is that of the sink."""
        cv2 = _load_cv2()
        if window not in self._windows:
            cv2.namedWindow(window, cv2.WINDOW_NORMAL | cv2.WINDOW_GUI_NORMAL)
            cv2.resizeWindow(window, *picture.size)
            self._windows.add(window)
        cv2.imshow(window, np.asarray(picture)[:, :, ::-1].copy())
        key = cv2.waitKey(1) & 0xFF
        is_visible = cv2.getWindowProperty(window, cv2.WND_PROP_VISIBLE)  # -1: GTK does not tell
        if key in QUIT or is_visible == 0:
            raise BrokenPipeError("who watches has seen enough")


def _load_cv2() -> Any:
    import cv2

    return cv2


def _check_windows() -> None:
    if importlib.util.find_spec("cv2") is None:
        raise SinkError("display:// needs OpenCV with windows", "pip install opencv-python")
    if sys.platform == "linux" and not any(map(os.environ.get, SCREENS)):
        names = " nor ".join(SCREENS)
        fix = "start vpt-watch on the desktop, or serve rtsp://@:8554/NAME"
        raise SinkError(f"display:// needs a screen, and neither {names} is set", fix)
    try:
        trial = subprocess.run(
            [sys.executable, "-c", TRIAL],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise SinkError("display:// cannot open a window: the screen does not answer") from error
    if trial.returncode == 0:
        return
    said = trial.stderr.decode("utf-8", "replace").strip()
    if "not implemented" in said:  # what the headless build says of each window
        raise SinkError("the OpenCV that is installed has no windows", REPLACE)
    reason = shorten(said) or f"it ended with {trial.returncode}"
    raise SinkError(f"display:// cannot open a window: OpenCV says: {reason}")
