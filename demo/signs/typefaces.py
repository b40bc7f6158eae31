"""The typefaces that training has beside those of the demo: what package.json names, installed by
npm.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vpt_edge.runtime.errors import VptError

if TYPE_CHECKING:
    from pathlib import Path

WEIGHTS = (400, 700)


def find_typefaces(folder: Path) -> tuple[str, ...]:
    """Paths of the upright faces, regular and bold, of all packages in ``folder``.

    Raises VptError where there is none.
    """
    faces = list[str]()
    for weight in WEIGHTS:
        pattern = f"node_modules/@fontsource/*/files/*-latin-{weight}-normal.woff2"
        faces.extend(str(path) for path in folder.glob(pattern))
    if not faces:
        raise VptError(f"there are no typefaces in {folder}", "make build/typefaces")
    return tuple(sorted(faces))
