"""ONNX Runtime on the CPU for what is not a bundle's graph: watched, optimized or made by hand."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vpt_edge.runtime.names import utf8_name

SILENT = 4  # of ONNX Runtime's log: what it has to say is in its exceptions as well


def open_cpu_session(
    model: Path | bytes, entries: Mapping[str, str] | None = None, **options: Any
) -> Any:
    """An ``onnxruntime.InferenceSession`` of an .onnx file, or of its bytes.

    ``entries`` are its "session." configuration entries, ``options`` attributes of its
    SessionOptions. Raises what ONNX Runtime raises: nobody but us has written the graph.
    """
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = SILENT
    for name, value in options.items():
        setattr(settings, name, value)
    for key, value in (entries or {}).items():
        settings.add_session_config_entry(key, value)
    if isinstance(model, bytes):
        return onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])
    with utf8_name(model) as name:
        return onnxruntime.InferenceSession(name, settings, providers=["CPUExecutionProvider"])
