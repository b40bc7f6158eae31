"""Bundles without a model, written once a session."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from vpt_edge.runtime import Bundle
from vpt_edge.runtime.testing import tiny_bundle

if TYPE_CHECKING:
    from scripted import Tiny


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """Opens the bundle of a kind with a cache of some capacity."""
    bundles = dict[tuple[str, int], Bundle]()

    def open_tiny(kind: str = "clip", capacity: int = 2048) -> Bundle:
        key = (kind, capacity)
        if key not in bundles:
            bundles[key] = tiny_bundle(tmp_path_factory.mktemp(kind), kind, capacity)
        return bundles[key]

    return open_tiny
