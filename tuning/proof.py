"""The choice, put into the bundle's manifest with its proof."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from vpt_edge.runtime.errors import BundleError, VptError
from vpt_edge.runtime.files import check_file, resolve, write_file
from vpt_edge.runtime.lock import lock_place
from vpt_edge.runtime.manifest import MANIFEST, Budget, read_manifest, sealed_text, to_object
from vpt_edge.runtime.tuned import Tuned
from vpt_edge.tuning.untuned import fingerprint

if TYPE_CHECKING:
    from pathlib import Path

    from vpt_edge.runtime.manifest import Manifest
    from vpt_edge.tuning.candidate import Setting
    from vpt_edge.tuning.search import Task
    from vpt_edge.tuning.table import Row


def check_writable(folder: Path) -> None:
    """Raises VptError where the manifest in ``folder`` could not be replaced: to be asked before
    the work whose result it takes.
    """
    file = folder / MANIFEST
    if file.is_symlink():
        raise VptError(
            f"{file} is a symlink: what it points to may be another bundle's too",
            f"copy what it points to, cp -rL {folder} COPY",
        )
    check_file(file)


def prove(chosen: Row, default: Row, task: Task, data: str) -> Tuned:
    """What is known of the ``chosen`` row beside the default's; ``data``: the samples' hash."""
    assert chosen.drop is not None and chosen.drop_interval is not None
    assert chosen.whole is not None and default.whole is not None
    return Tuned(
        default=fingerprint(task.bundles[0].manifest),
        data=data,
        samples=chosen.count,
        labelled=chosen.labelled,
        metric=task.metric,
        accuracy=chosen.accuracy,
        default_accuracy=default.accuracy,
        answers_equal=chosen.answers_equal or 0.0,
        drop=chosen.drop,
        drop_interval=chosen.drop_interval,
        allowed=task.max_drop,
        seconds=chosen.whole,
        default_seconds=default.whole,
        threads=chosen.candidate.threads,
    )


def write_budget(folder: Path, tried: Manifest, setting: Setting, tuned: Tuned) -> None:
    """Put ``setting`` into the manifest in ``folder``: the old or the new one stands there whole.

    ``tried``: the manifest of the bundle that was tuned. Raises BundleError where another one
    stands there now, LockedError where somebody else writes it, VptError and OSError.
    """
    check_writable(folder)
    with lock_place(resolve(folder), "tuning"):
        manifest = read_manifest(folder)
        if fingerprint(manifest) != fingerprint(tried):
            raise BundleError(
                f"{folder} was replaced while it was tuned", "tune the bundle that is there now"
            )
        budget = replace(
            Budget(draft_tokens=manifest.budget.draft_tokens), tuned=tuned, **setting.options()
        )
        text = sealed_text(to_object(replace(manifest, budget=budget)))
        write_file(folder / MANIFEST, text.encode())
