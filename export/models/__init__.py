"""The models: what each one's checkpoint holds and how its graphs are built, a folder a tower."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vpt_edge.export.models import vpt
from vpt_edge.export.models.qwen2_vl import Qwen2VL
from vpt_edge.runtime.errors import CheckpointError
from vpt_edge.runtime.schema import brief

if TYPE_CHECKING:
    from vpt_edge.export.models.tower import Tower
    from vpt_edge.export.spec import GraphOptions, Shape, Spec

TOWERS: dict[str, type[Tower]] = {"qwen2_vl_vpt": Qwen2VL}  # by model_type of config.json


@dataclass(frozen=True)
class Model:
    """What the config files of a checkpoint describe: a tower, and what re-encodes."""

    tower: Tower
    reencoder: vpt.Reencoder

    @classmethod
    def read(cls, config: Mapping[str, Any], folder: Path) -> Model:
        """From ``config``, which config.json in ``folder`` holds, and the files beside it.

        Raises CheckpointError for a model that the graphs are not written for.
        """
        model_type = config.get("model_type")
        if not isinstance(model_type, str) or model_type not in TOWERS:
            expected = " or ".join(map(repr, TOWERS))
            raise CheckpointError(
                f"{folder} is not a VPT checkpoint: "
                f"model_type is {brief(model_type)}, expected {expected}"
            )
        kind = vpt.read_kind(config, folder)
        tower = TOWERS[model_type].read(config, folder)
        return cls(tower, vpt.Reencoder.read(kind, folder, tower.text.hidden_size))

    def tensors(self) -> dict[str, Shape]:
        """Name and shape of every tensor (PROTOCOL 6), a separate lm_head included."""
        return {**self.tower.tensors(), **self.reencoder.tensors()}

    def original_name(self, name: str) -> str:
        """A tensor of the file by the name that ``tensors`` has for it."""
        return self.reencoder.original_name(self.tower.original_name(name))

    def specs(self, options: GraphOptions, embeddings: str) -> dict[str, Spec]:
        """The graphs, in the order in which they are exported; ``embeddings`` is the tensor of the
        embedding table.
        """
        return {**self.tower.specs(options, embeddings), **self.reencoder.specs(options)}
