"""What a tower tells of itself: the seam that a folder beside this file fills, one a model_type."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from vpt_edge.export.spec import GraphOptions, Shape, Spec
    from vpt_edge.runtime.processor import Processor


class TextGeometry(Protocol):
    """Geometry of a language model."""

    @property
    def hidden_size(self) -> int: ...

    @property
    def intermediate_size(self) -> int: ...

    @property
    def num_hidden_layers(self) -> int: ...

    @property
    def num_attention_heads(self) -> int: ...

    @property
    def num_key_value_heads(self) -> int: ...

    @property
    def head_dim(self) -> int: ...

    @property
    def vocab_size(self) -> int: ...

    @property
    def rope_theta(self) -> float: ...

    @property
    def mrope_section(self) -> tuple[int, int, int]: ...

    @property
    def tie_word_embeddings(self) -> bool: ...


class Tower(Protocol):
    """A vision encoder and a language model, as config.json describes them."""

    @property
    def text(self) -> TextGeometry: ...

    @property
    def processor(self) -> Processor:
        """The image processor that its vision encoder was trained with."""

    @property
    def kv_cache(self) -> str:
        """What a quantized export keeps keys and values in unless it is told: "float" or "int8"."""

    @property
    def special_tokens(self) -> Sequence[str]:
        """The tokens that its prompts are made of."""

    @property
    def token_ids(self) -> Mapping[str, str]:
        """The keys of config.json that name a token by its id, and that token."""

    @classmethod
    def read(cls, config: Mapping[str, Any], folder: Path) -> Tower:
        """From ``config``, which config.json in ``folder`` holds, and the files beside it.

        Raises CheckpointError for a model that the graphs are not written for.
        """

    def block(self) -> dict[str, Any]:
        """The manifest's block ``model``: what the runtime's tower of that name has to know."""

    def tensors(self) -> dict[str, Shape]:
        """Name and shape of every tensor, a separate output matrix included."""

    def optional_tensors(self) -> set[str]:
        """Those that a checkpoint may lack."""

    def original_name(self, name: str) -> str:
        """A tensor of the file by the name that ``tensors`` has for it."""

    def embeddings_tensor(self, names: Container[str]) -> str:
        """The embedding table among the tensors ``names`` of a checkpoint."""

    def specs(self, options: GraphOptions, embeddings: str) -> dict[str, Spec]:
        """The graphs ``vision_encoder`` and ``decoder``; ``embeddings`` is the tensor of the
        embedding table.
        """
