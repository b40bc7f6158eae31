"""Manifests that say something else than what was written, and how they are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from vpt_edge.runtime.errors import BundleError
from vpt_edge.runtime.interface import decoder_tensors, whole_blocks
from vpt_edge.runtime.manifest import write_sealed

if TYPE_CHECKING:
    from vpt_edge.runtime import Bundle
    from vpt_edge.runtime.manifest import Manifest

Alter = Callable[[dict[str, Any]], object]


def altered(bundle: Bundle, alter: Alter) -> Path:
    """The bundle's folder with ``alter`` applied to its manifest, which is sealed again."""
    data = json.loads(bundle.file("manifest.json").read_text("utf-8"))
    alter(data)
    data.pop("sha256", None)
    write_sealed(data, bundle.path)
    return bundle.path


def refused(read: Callable[[], object]) -> str:
    """The text with which a bundle is refused; it is one line that names a command."""
    with pytest.raises(BundleError) as error:
        read()
    text = str(error.value)
    assert "\n" not in text
    assert "vpt-export CHECKPOINT -o" in text
    return text


def for_tensorrt(manifest: Manifest) -> Manifest:
    """A stand-in's manifest as vpt-export --target tensorrt writes it."""
    cache = replace(manifest.cache, layout="appended")
    capacity = whole_blocks(cache.capacity)
    inputs, outputs = decoder_tensors(manifest.text, cache, "sequence")
    decoder = manifest.graphs["decoder"]
    bounds = {"sequence": decoder.bounds["sequence"], "past": (256, 256, capacity)}
    decoder = replace(decoder, inputs=tuple(inputs), outputs=tuple(outputs), bounds=bounds)
    graphs = {**manifest.graphs, "decoder": decoder}
    return replace(manifest, target="tensorrt", cache=cache, graphs=graphs)
