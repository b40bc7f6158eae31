"""A bundle as it was exported: the settings that an earlier tuning wrote into it do not count."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from vpt_edge.runtime.bundle import Bundle
from vpt_edge.runtime.manifest import Budget, seal, to_object

if TYPE_CHECKING:
    import os

    from vpt_edge.runtime.manifest import Manifest


def open_untuned(path: str | os.PathLike[str]) -> Bundle:
    """The bundle at ``path``, read and checked, as it was exported. Raises BundleError."""
    bundle = Bundle.open(path)
    return replace(bundle, manifest=without_tuning(bundle.manifest))


def without_tuning(manifest: Manifest) -> Manifest:
    """``manifest`` as it was exported; drafts change no answer, and stay."""
    return replace(manifest, budget=Budget(draft_tokens=manifest.budget.draft_tokens))


def fingerprint(manifest: Manifest) -> str:
    """The sha256 of what ``manifest`` says but for a tuning: the same before and after one.

    It holds the hashes of all files.
    """
    return seal(to_object(without_tuning(manifest)))
