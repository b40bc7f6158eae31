"""The versions of what ran."""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
import sys

from vpt_edge.runtime.sessions import tensorrt

MODULES = ["numpy", "PIL", "tokenizers", "onnxruntime"]
for names in tensorrt.MODULES.values():
    MODULES += names


def read_versions() -> dict[str, str]:
    """Of Python, of this package and of the libraries that the runs have loaded."""
    versions = {"Python": platform.python_version()}
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        versions["vpt-edge"] = importlib.metadata.version("vpt-edge")
    for name in MODULES:
        version = getattr(sys.modules.get(name), "__version__", None)
        if version:
            versions[name] = version
    return versions
