"""Nothing is reported to the makers of a library."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

SWITCH = "ORT_DISABLE_TELEMETRY"
needs_torch = pytest.mark.skipif(find_spec("torch") is None, reason="an export needs torch")
SAY = f"import os; print(os.environ.get({SWITCH!r}), flush=True)"


def value_when_loaded(tmp_path: Path, code: str, **variables: str) -> str:
    """What a library that stands in for ONNX Runtime finds when ``code`` loads it."""
    package = tmp_path / "onnxruntime"
    package.mkdir(exist_ok=True)
    (package / "__init__.py").write_text(SAY)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), **variables}
    if SWITCH not in variables:
        environment.pop(SWITCH, None)
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.mark.parametrize(
    "code",
    [
        "import vpt_edge.runtime, onnxruntime",
        "from vpt_edge.runtime.sessions.ort import silence_log as say; import onnxruntime",
        "import vpt_edge.calibration.cpu_session, onnxruntime",
        "import vpt_edge.device.probes, onnxruntime",
        pytest.param("import vpt_edge.export.exporter, onnxruntime", marks=needs_torch),
    ],
)
def test_telemetry_is_off_when_the_library_is_loaded(tmp_path: Path, code: str) -> None:
    assert value_when_loaded(tmp_path, code) == "1"


def test_an_applications_own_word_counts(tmp_path: Path) -> None:
    code = "import vpt_edge.runtime, onnxruntime"
    assert value_when_loaded(tmp_path, code, **{SWITCH: "0"}) == "0"
