"""Visual Perception Tokens: what a VPT checkpoint has besides its tower.

Its kind says what re-encodes a picture: "clip" the tower's own vision encoder, "detection" DINOv2,
"seg" SAM.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor, nn

from vpt_edge.export.config_fields import value_error
from vpt_edge.export.config_files import CONFIG, expect_if_given, read_optional
from vpt_edge.export.layers import LayerNorm, Linear
from vpt_edge.export.models import dinov2, sam
from vpt_edge.export.spec import Spec, floats, weight_and_bias
from vpt_edge.runtime import image
from vpt_edge.runtime.manifest import Graph, ImageConfig
from vpt_edge.runtime.perception.vpt import (
    VptConfig,
    action_tokens,
    pads_of,
    trigger_tokens,
)

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from vpt_edge.export.spec import GraphOptions, Shape

KINDS = {"clip": "clip", "dino": "detection", "sam": "seg"}  # by the authors' vision_encoder_ls
SEG_SIDE = 1024  # longest side of a picture that SAM is shown (PROTOCOL 4)
FEATURE_TOKENS = 256  # of an encoder of its own

_IMAGENET = {
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": list(image.IMAGENET_MEAN),
    "image_std": list(image.IMAGENET_STD),
    "rescale_factor": 1 / 255,
}
PREPROCESSORS: dict[str, dict[str, Any]] = {  # constants of the runtime (PROTOCOL 4)
    "detection": {
        **_IMAGENET,
        "crop_size": {"height": 224, "width": 224},
        "do_center_crop": True,
        "resample": 3,
        "size": {"shortest_edge": 256},
    },
    "seg": {
        **_IMAGENET,
        "do_pad": True,
        "pad_size": {"height": SEG_SIDE, "width": SEG_SIDE},
        "resample": 2,
        "size": {"longest_edge": SEG_SIDE},
    },
}

# Whether a released checkpoint waits for the sentence in the question before it looks again
# (PROTOCOL 1.1).
RELEASED = {
    "Qwen2-VL-2b-VPT-CLIP": True,
    "Qwen2-VL-2b-VPT-Det": True,
    "Qwen2-VL-2b-VPT-Det-NoPrompt": False,
    "Qwen2-VL-2b-VPT-Det-Alignment": False,
    "Qwen2-VL-2b-VPT-Seg": True,
    "Qwen2-VL-2b-VPT-Seg-Alignment": False,
    "Qwen2-VL-7b-VPT-CLIP": True,
}
HUB_FOLDER = "models--rp-yu--"  # how the Hub's cache begins the name of a released checkpoint


class EncoderModule(Protocol):
    """What a file beside this one offers for an encoder of its own."""

    def read_config(self, folder: Path) -> Any: ...

    def tensors(self, config: Any, hidden_size: int) -> dict[str, Shape]: ...

    def spec(self, config: Any, hidden_size: int) -> Spec: ...


ENCODERS: dict[str, EncoderModule] = {"detection": dinov2, "seg": sam}


@dataclass(frozen=True)
class Reencoder:
    """What encodes a picture a second time, and what the condition does to its features.

    ``kind``: clip, detection or seg; ``encoder``: geometry of DINOv2 or SAM, None for clip;
    ``hidden_size`` of the language model.
    """

    kind: str
    encoder: Any
    hidden_size: int

    @classmethod
    def read(cls, kind: str, folder: Path, hidden_size: int) -> Reencoder:
        """From the files in ``folder``."""
        if kind not in ENCODERS:
            return cls(kind, None, hidden_size)
        return cls(kind, ENCODERS[kind].read_config(folder), hidden_size)

    def tensors(self) -> dict[str, Shape]:
        """Name and shape of every tensor (PROTOCOL 6), those that the kind never reads included."""
        size = self.hidden_size
        projector = f"{self.kind}_projector"
        if self.kind in ENCODERS:
            shapes = ENCODERS[self.kind].tensors(self.encoder, size)
        else:
            shapes = weight_and_bias(f"{projector}.linear_feature", (size, size))
            shapes |= weight_and_bias(f"{projector}.layernorm_feature", (size,))
        shapes |= weight_and_bias(f"{projector}.linear_condition", (size, size))
        shapes |= weight_and_bias(f"{projector}.layernorm_condition", (size,))
        return shapes

    def original_name(self, name: str) -> str:
        """A tensor of the file by the name that ``tensors`` has for it: newer transformers save
        every part but the output matrix one level deeper.
        """
        inner = name.removeprefix("model.")
        is_own = inner.startswith((f"{self.kind}_model.", f"{self.kind}_projector."))
        return inner if is_own else name

    def specs(self, options: GraphOptions) -> dict[str, Spec]:
        """The graphs of re-encoding, in the order in which they are exported."""
        specs = {}
        if self.kind in ENCODERS:
            specs["reencoder_features"] = ENCODERS[self.kind].spec(self.encoder, self.hidden_size)
        specs["reencoder_projector"] = self._projector(options)
        return specs

    def _projector(self, options: GraphOptions) -> Spec:
        size = self.hidden_size
        most = max(options.image_tokens, FEATURE_TOKENS)
        graph = Graph(
            file="reencoder_projector.onnx",
            inputs=(floats("features", 1, "tokens", size), floats("condition", 1, size)),
            outputs=(floats("projected", 1, "tokens", size),),
            bounds={"tokens": (1, FEATURE_TOKENS, most)},
        )
        return Spec(
            graph,
            lambda attention: Projector(size),
            lambda name: f"{self.kind}_projector.{name}",
        )


class Projector(nn.Module):
    """What the condition does to re-encoded features (PROTOCOL 5.1): c = W·LN(h) + b, f + (f·c)·c.

    ``features`` (batch, tokens, hidden) and ``condition`` (batch, hidden), the post-norm hidden
    state at the action's start token -> (batch, tokens, hidden). No softmax and no scaling, as the
    authors have it.
    """

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.layernorm_condition = LayerNorm(hidden_size, eps=1e-5)
        self.linear_condition = Linear(hidden_size, hidden_size)

    def forward(self, features: Tensor, condition: Tensor) -> Tensor:
        c = self.linear_condition(self.layernorm_condition(condition)).float()
        c = c[:, None]  # (batch, 1, hidden)
        return features + (features * c).sum(-1, keepdim=True) * c


def read_kind(config: Mapping[str, Any], folder: Path) -> str:
    """clip, detection or seg, from ``config``, which config.json in ``folder`` holds."""
    names = config.get("vision_encoder_ls")
    for name, kind in KINDS.items():
        if names == [name]:
            return kind
    expected = f"one of {', '.join(KINDS)} in a list"
    raise value_error(f"{folder / CONFIG}: vision_encoder_ls", names, expected)


def is_prompt_triggered(names: Iterable[str]) -> bool:
    """Whether one of ``names``, of folders or of the Hub, is a released checkpoint that looks again
    only when the question asks for it.
    """
    return any(RELEASED.get(name.removeprefix(HUB_FOLDER), False) for name in names)


def required_tokens(tokenizer: Tokenizer, kind: str) -> list[str]:
    """The tokens of a checkpoint of ``kind``; one for alignment has no trigger at all."""
    tokens = list(pads_of(kind).values())
    if _triggers(tokenizer, kind):
        tokens += trigger_tokens(kind)
    return tokens


def end_tokens(tokenizer: Tokenizer) -> tuple[int, ...]:
    """What ends a turn: ``<|im_end|>`` and every special token but the padding (PROTOCOL 5.5)."""
    ids = tokenizer.get_vocab()
    turn_end = ids["<|im_end|>"]
    end = [turn_end]
    for number, token in sorted(tokenizer.get_added_tokens_decoder().items()):
        if token.special and number not in (turn_end, ids["<|endoftext|>"]):
            end.append(number)
    return tuple(end)


def find_perception(
    tokenizer: Tokenizer, kind: str, prompt_triggered: bool, longest_side: int
) -> VptConfig:
    """The manifest's block ``perception``.

    Ids by token string: the same numbers mean different words in CLIP, Det and Seg (PROTOCOL 1.3).
    """
    ids = tokenizer.get_vocab()
    action_start, action, _ = action_tokens(kind)
    return VptConfig(
        kind=kind,
        prompt_triggered=prompt_triggered,
        reencode_pad=ids[pads_of(kind)[f"{kind}_image"]],
        action_start=ids.get(action_start),
        action=ids.get(action),
        triggers=_triggers(tokenizer, kind),
        longest_side=longest_side,
    )


def _triggers(tokenizer: Tokenizer, kind: str) -> tuple[int, ...]:
    ids = tokenizer.get_vocab()
    return tuple(ids[name] for name in trigger_tokens(kind) if name in ids)


def reencode_side(limits: ImageConfig, kind: str, folder: Path) -> int:
    """The longest side of a picture that is to be re-encoded.

    Constants of the kind's preprocessor in ``folder`` must be those of the runtime (PROTOCOL 4).
    """
    assert limits.longest_side is not None
    file = folder / f"{kind}_preprocessor_config.json"
    expect_if_given(read_optional(file), PREPROCESSORS.get(kind, {}), file)
    if kind == "seg":
        return SEG_SIDE
    return limits.longest_side
