"""The place where a bundle is to stand: free, or taken by an older bundle, which alone may be
replaced.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from vpt_edge.runtime.errors import ExportError, VptError
from vpt_edge.runtime.files import check_file, resolve
from vpt_edge.runtime.lock import LOCK, read_writer
from vpt_edge.runtime.manifest import MANIFEST
from vpt_edge.runtime.mounts import find_mount
from vpt_edge.runtime.partial import PARTIAL
from vpt_edge.runtime.schema import brief, parse_json
from vpt_edge.runtime.sessions.plan import PLANS, TIMINGS

MANIFEST_KEYS = {"schema_version", "precision", "graphs", "files"}  # of every schema version
LISTED = 5  # names in an error
PLATFORM = re.compile(r"[a-z0-9._-]+")  # the name of a folder of plans


def check_destination(path: str | os.PathLike[str]) -> None:
    """Raises ExportError where a bundle cannot be put in the place of ``path`` without a loss.

    An older bundle, of whatever schema version, may be replaced: a folder that holds the files
    which its own manifest lists, the manifest, what vpt-build writes into ``plans``, and nothing
    else.
    """
    try:
        target = resolve(path)
        is_free = not target.exists()
    except (OSError, ValueError) as error:  # a name that is too long, or has a NUL
        problem = f"cannot write {brief(str(path))}: {error.args[-1]}"
        raise ExportError(problem, "choose another name") from error
    if is_free:
        return
    mount = find_mount(target)
    if mount == target:
        raise ExportError(
            f"{path} is a mount point, which cannot be replaced",
            f"choose a folder in it, such as {Path(path) / 'bundle'}",
        )
    if mount is not None:
        raise ExportError(
            f"{path} holds the mount point {mount}, which cannot be replaced",
            "unmount it, or choose another folder",
        )
    if Path.cwd().is_relative_to(target):
        raise ExportError(
            f"{path} is the working folder or holds it, and would be replaced",
            "run vpt-export from another folder",
        )
    if not target.is_dir():
        raise ExportError(f"{path} exists and is not a folder", "choose another name")
    foreign = _foreign_names(target)
    if foreign:
        names = ", ".join(foreign[:LISTED])
        more = f" and {len(foreign) - LISTED} more" if len(foreign) > LISTED else ""
        verb = "is" if len(foreign) == 1 else "are"
        raise ExportError(
            f"{path} holds {names}{more}, which {verb} not part of a bundle and would be lost",
            "move it, or choose another folder",
        )
    _check_plans(target)


def check_ranges(path: Path) -> None:
    """Raises ExportError where the ranges of a calibration cannot be put at ``path`` without a
    loss: only older ones may be replaced.
    """
    try:
        check_file(path)
        if not path.exists():
            return
        data = parse_json(path.read_bytes())
    except (OSError, VptError) as error:
        raise ExportError(f"the ranges cannot be kept: {error}", "choose another BUNDLE") from error
    except ValueError:
        data = None
    is_ours = isinstance(data, dict) and isinstance(data.get("key"), str)
    if not is_ours or not isinstance(data.get("passes"), dict):
        raise ExportError(
            f"{path} does not hold ranges of a calibration and would be lost",
            "move it, or choose another BUNDLE",
        )


def _check_plans(target: Path) -> None:
    """Raises ExportError where vpt-build is at work in the bundle."""
    for folder in target.glob(f"{PLANS}/*"):
        builder = read_writer(folder)
        if builder is not None:
            raise ExportError(
                f"cannot replace {target}: vpt-build is writing plans into it ({builder})",
                "wait until it has ended",
            )


def _foreign_names(folder: Path) -> list[str]:
    """What ``folder`` holds besides the bundle. Raises ExportError where it is not a bundle."""
    files = _manifest_files(folder / MANIFEST)
    if files is None:
        state = "it has no manifest.json"
        if (folder / MANIFEST).exists():
            state = "its manifest.json is not a bundle's"
        raise ExportError(
            f"{folder} exists and is not a bundle: {state}", "choose another folder, or remove it"
        )
    names = []
    for entry in sorted(folder.iterdir()):
        is_file = entry.is_symlink() or entry.is_file()
        is_listed = is_file and (entry.name in files or entry.name == MANIFEST)
        if entry.name == PLANS and entry.is_dir():
            names += _foreign_plans(entry, folder / MANIFEST)
        elif not is_listed:
            names.append(entry.name)
    return names


def _foreign_plans(plans: Path, manifest: Path) -> list[str]:
    """What the folder ``plans`` holds besides that which vpt-build writes for the graphs of
    ``manifest``.
    """
    written = {TIMINGS}
    for graph in json.loads(manifest.read_text("utf-8"))["graphs"]:
        written |= {f"{graph}.plan", f"{graph}.json"}
    names = []
    for entry in sorted(plans.iterdir()):
        if entry.is_dir() and PLATFORM.fullmatch(entry.name):
            files = [file for file in sorted(entry.iterdir()) if not _is_built(file, written)]
            names += [f"{PLANS}/{entry.name}/{file.name}" for file in files]
        elif not (entry.is_file() and entry.name.endswith(LOCK)):
            names.append(f"{PLANS}/{entry.name}")
    return names


def _is_built(file: Path, written: set[str]) -> bool:
    """Whether ``file`` is one of ``written``, or what a build has left of one."""
    is_partial = file.name.startswith(".") and file.name.endswith(PARTIAL)
    return file.is_file() and (is_partial or file.name in written)


def _manifest_files(path: Path) -> set[str] | None:
    """The names that a bundle's manifest lists; None for what is not the manifest of a bundle."""
    if not path.is_file():
        return None
    try:
        data = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(data, dict) or not data.keys() >= MANIFEST_KEYS:
        return None
    files = data["files"]
    if type(data["schema_version"]) is not int or not isinstance(files, dict):
        return None
    if not isinstance(data["graphs"], dict):
        return None
    plain = all(Path(name).name == name for name in files)
    return set(files) if plain else None
