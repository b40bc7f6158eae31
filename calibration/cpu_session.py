"""ONNX Runtime on the CPU for what is not a bundle's graph: watched, optimized or made by hand."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnxruntime

ERRORS_ONLY = 3  # of ONNX Runtime's log


def open_cpu_session(
    model: Path | bytes, entries: Mapping[str, str] | None = None, **options: Any
) -> Any:
    """An ``onnxruntime.InferenceSession`` of an .onnx file, or of its bytes.

    ``entries`` are its "session." configuration entries, ``options`` attributes of its
    SessionOptions. Raises what ONNX Runtime raises: nobody but us has written the graph.
    """
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = ERRORS_ONLY
    for name, value in options.items():
        setattr(settings, name, value)
    for key, value in (entries or {}).items():
        settings.add_session_config_entry(key, value)
    source = str(model) if isinstance(model, Path) else model
    return onnxruntime.InferenceSession(source, settings, providers=["CPUExecutionProvider"])
