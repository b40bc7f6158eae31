"""The look that is put into a model's mouth: what it would say itself is not known."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from vpt_edge.runtime.models import open_tower
from vpt_edge.runtime.perception import open_perception
from vpt_edge.runtime.perception.views import View

if TYPE_CHECKING:
    from vpt_edge.runtime.image import Size
    from vpt_edge.runtime.manifest import Manifest
    from vpt_edge.runtime.perception.actions import Mode


class GivenLook(NamedTuple):
    """A question's ``perception`` and the ``assistant_prefix`` that looks; empty for no look."""

    mode: Mode
    said: str


def give_look(manifest: Manifest, size: Size) -> GivenLook:
    """The look at the middle of a picture of ``size``, in the words of the model's own way.

    Raises ImageError for a picture that cannot be shown.
    """
    perception = open_perception(manifest)
    tower = open_tower(manifest)
    first = perception.first_size(size) or size
    _, rows, columns = tower.grid(first, manifest.image)
    shown = (columns * tower.patch, rows * tower.patch)
    said = perception.example_look(View(0, (0, 0, *size), size, shown))
    if not said:
        return GivenLook("off", "")
    mode = perception.usual_mode
    if "region" in perception.modes:  # the sentence that asks for it
        mode = "region"
    return GivenLook(mode, said)
