"""The models: what each one's checkpoint holds and how its graphs are built, a folder a tower."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vpt_edge.export import preprocessor
from vpt_edge.export.models import vpt
from vpt_edge.export.models.qwen2_5_vl import Qwen25VL
from vpt_edge.export.models.qwen2_vl import Qwen2VL
from vpt_edge.export.models.qwen3_vl import Qwen3VL
from vpt_edge.runtime.errors import CheckpointError
from vpt_edge.runtime.schema import brief

if TYPE_CHECKING:
    from vpt_edge.export.models.tower import Tower
    from vpt_edge.export.spec import GraphOptions, Shape, Spec
    from vpt_edge.runtime.manifest import ImageConfig

TOWERS: dict[str, type[Tower]] = {  # by model_type of config.json
    "qwen2_vl_vpt": Qwen2VL,
    "qwen2_vl": Qwen2VL,
    "qwen2_5_vl": Qwen25VL,
    "qwen3_vl": Qwen3VL,
}
LOOKING = frozenset({"qwen2_vl_vpt"})  # those that have tokens to ask for a look


@dataclass(frozen=True)
class Model:
    """What the config files of a checkpoint describe: a tower, and what re-encodes.

    ``reencoder`` is None for all but Visual Perception Tokens.
    """

    tower: Tower
    reencoder: vpt.Reencoder | None

    @classmethod
    def read(cls, config: Mapping[str, Any], folder: Path) -> Model:
        """From ``config``, which config.json in ``folder`` holds, and the files beside it.

        Raises CheckpointError for a model that the graphs are not written for.
        """
        model_type = config.get("model_type")
        if not isinstance(model_type, str) or model_type not in TOWERS:
            expected = " or ".join(map(repr, TOWERS))
            raise CheckpointError(
                f"{folder} is not a checkpoint that vpt-edge exports: "
                f"model_type is {brief(model_type)}, expected {expected}"
            )
        if model_type not in LOOKING:
            return cls(TOWERS[model_type].read(config, folder), None)
        kind = vpt.read_kind(config, folder)
        tower = TOWERS[model_type].read(config, folder)
        return cls(tower, vpt.Reencoder.read(kind, folder, tower.text.hidden_size))

    def image_limits(self, folder: Path) -> ImageConfig:
        """How large a picture is shown, from the files in ``folder``."""
        shrinks = self.reencoder is not None
        return preprocessor.image_limits(folder, self.tower.processor, shrinks=shrinks)

    def image_notes(self, folder: Path) -> tuple[str, ...]:
        """A text for each contradiction of the files in ``folder`` about pictures."""
        return preprocessor.image_notes(folder, self.tower.processor)

    def tensors(self) -> dict[str, Shape]:
        """Name and shape of every tensor (PROTOCOL 6), a separate lm_head included."""
        tensors = self.tower.tensors()
        if self.reencoder is not None:
            tensors |= self.reencoder.tensors()
        return tensors

    def original_name(self, name: str) -> str:
        """A tensor of the file by the name that ``tensors`` has for it."""
        original = self.tower.original_name(name)
        if self.reencoder is not None:
            original = self.reencoder.original_name(original)
        return original

    def specs(self, options: GraphOptions, embeddings: str) -> dict[str, Spec]:
        """The graphs, in the order in which they are exported; ``embeddings`` is the tensor of the
        embedding table.
        """
        specs = self.tower.specs(options, embeddings)
        if self.reencoder is not None:
            specs |= self.reencoder.specs(options)
        return specs
