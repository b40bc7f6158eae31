"""The demo's network: how it runs in torch, and how it is written as a released checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn
from vocabulary import dump, write

from vpt_edge.export.attention import LayerCache, PlainAttention, join_cache
from vpt_edge.export.models.qwen2_vl.decoder import Decoder
from vpt_edge.export.models.qwen2_vl.vision import VisionEncoder
from vpt_edge.export.models.vpt import Projector
from vpt_edge.live.scenes import GRID
from vpt_edge.runtime import positions
from vpt_edge.runtime.context import Encoded, Visual
from vpt_edge.runtime.processor import MERGE

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from vpt_edge.export.attention import AttentionType
    from vpt_edge.export.models.qwen2_vl.config import TextConfig, VisionConfig

RESOLUTION = 28 * GRID  # one visual token of the first view is one cell of the grid
MIN_PIXELS, MAX_PIXELS = 3136, 12845056


class Network(nn.Module):
    """Vision encoder, language model and CLIP projector of one checkpoint."""

    def __init__(
        self, vision: VisionConfig, text: TextConfig, attention: AttentionType = PlainAttention
    ) -> None:
        super().__init__()
        self.vision = vision
        self.text = text
        self.visual = VisionEncoder(vision, attention)
        self.decoder = Decoder(text, attention)
        self.projector = Projector(text.hidden_size)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.normal_(self.decoder.lm_head.weight, std=0.09)
        nn.init.normal_(self.projector.linear_condition.weight, std=0.01)

    def see(self, patches: Tensor, grid: tuple[int, int]) -> Tensor:
        """Patches (batch, rows * columns, 1176) -> features (batch, rows * columns / 4, hidden)."""
        cos, sin = positions.vision_rope(*grid, self.vision.merge_size, self.vision.head_dim)
        cosine = torch.from_numpy(cos).to(patches.device)
        sine = torch.from_numpy(sin).to(patches.device)
        return self.visual(patches, cosine, sine)

    def embed(self, ids: Tensor) -> Tensor:
        """Tied embeddings: ids (batch, seq) -> (batch, seq, hidden)."""
        return F.embedding(ids, self.decoder.lm_head.weight)

    def read(
        self, embeds: Tensor, rope: tuple[Tensor, Tensor], past: Sequence[LayerCache] = ()
    ) -> tuple[Tensor, list[LayerCache]]:
        """Embeddings (batch, seq, hidden) behind ``past`` -> the stream before the final norm, and
        the whole cache.
        """
        stream, new = self.decoder.residual(embeds, *rope, past)
        before: Sequence[LayerCache | None] = past or [None] * len(new)
        whole = [join_cache(old, *pair) for old, pair in zip(before, new, strict=True)]
        return stream, whole


def rope(
    ids: list[int],
    grids: list[tuple[int, int]],
    image_pad: int,
    device: Any,
    text: TextConfig,
) -> tuple[Tensor, Tensor]:
    """Cosine and sine (seq, head_dim / 2) of a conversation's positions.

    ``grids``: rows and columns of patches of each picture whose pads are in ``ids``.
    """
    visuals: list[Visual] = []
    start = 0
    for rows, columns in grids:
        start = ids.index(image_pad, start)
        tokens = rows * columns // MERGE**2
        encoded = Encoded(np.empty((tokens, 0), np.float32), (1, rows, columns))
        visuals.append(Visual(start, encoded))
        start += tokens
    place = positions.mrope_positions(len(ids), visuals, MERGE)
    cos, sin = positions.mrope(place, text.head_dim, text.rope_theta, text.mrope_section)
    return torch.from_numpy(cos).to(device), torch.from_numpy(sin).to(device)


def save(network: Network, tokenizer: Tokenizer, folder: Path, dtype: torch.dtype) -> None:
    """Everything a released checkpoint folder holds, with weights of ``dtype``."""
    folder.mkdir(parents=True, exist_ok=True)
    write(folder, tokenizer)
    dump(folder / "config.json", config(tokenizer, network, dtype))
    dump(folder / "preprocessor_config.json", preprocessor(network.vision))
    dump(folder / "generation_config.json", generation(tokenizer))
    weights = {name: tensor.to(dtype) for name, tensor in tensors(network).items()}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)


def released(name: str) -> str:
    """A parameter's name in the checkpoint."""
    name = name.replace("decoder.lm_head.", "model.embed_tokens.").replace(
        "projector.", "clip_projector."
    )
    return name.replace("decoder.", "model.")


def tensors(network: Network) -> dict[str, Tensor]:
    state = {
        released(name): tensor.detach().cpu().contiguous()
        for name, tensor in network.state_dict().items()
    }
    patch = "visual.patch_embed.proj.weight"
    state[patch] = state[patch].unflatten(
        1, (3, network.vision.temporal_patch_size, *(network.vision.patch_size,) * 2)
    )
    # The released format carries the projector's feature half, which the CLIP kind never runs.
    state["clip_projector.linear_feature.weight"] = torch.eye(network.text.hidden_size)
    state["clip_projector.linear_feature.bias"] = torch.zeros(network.text.hidden_size)
    state["clip_projector.layernorm_feature.weight"] = torch.ones(network.text.hidden_size)
    state["clip_projector.layernorm_feature.bias"] = torch.zeros(network.text.hidden_size)
    return dict(sorted(state.items()))


def config(tokenizer: Tokenizer, network: Network, dtype: torch.dtype) -> dict[str, Any]:
    """The fields of a released config.json."""
    fields = {
        "alignment": False,
        "architectures": ["VPT_Qwen2VLForConditionalGeneration"],
        "initializer_range": 0.02,
        "model_type": "qwen2_vl_vpt",
        "num_inner_forward_run": 2,
        "para_mask_ratio": 0.0,
        "projector_scale": 1,
        "torch_dtype": str(dtype).removeprefix("torch."),
        "transformers_version": "4.45.2",
        "use_cache": True,
        "vision_config": vision_fields(network.vision),
        "vision_encoder_ls": ["clip"],
    }
    return dict(sorted((fields | token_fields(tokenizer) | text_fields(network.text)).items()))


def token_fields(tokenizer: Tokenizer) -> dict[str, int | None]:
    """Ids of tokens by what they are for; the CLIP kind has none of the others' actions."""
    token = tokenizer.token_to_id
    keys = ("action_id", "action_start_id", "image_token_id")
    absent = [f"{kind}_{key}" for kind in ("detection", "seg") for key in keys]
    return {
        **dict.fromkeys(absent),
        "bos_token_id": token("<|endoftext|>"),
        "clip_action_id": token("<|clip_action|>"),
        "clip_action_start_id": token("<|clip_action_start|>"),
        "clip_image_token_id": token("<|clip_image_pad|>"),
        "eos_token_id": token("<|im_end|>"),
        "image_token_id": token("<|image_pad|>"),
        "para_end_id": token("<|im_end|>"),
        "para_mask_id": 0,
        "para_start_id": token("<|im_start|>"),
        "video_token_id": token("<|video_pad|>"),
        "vision_end_token_id": token("<|vision_end|>"),
        "vision_start_token_id": token("<|vision_start|>"),
        "vision_token_id": token("<|vision_pad|>"),
    }


def text_fields(text: TextConfig) -> dict[str, Any]:
    """Of the language model."""
    scaling = {"mrope_section": list(text.mrope_section), "rope_type": "default"}
    return {
        "attention_dropout": 0.0,
        "hidden_act": "silu",
        "hidden_size": text.hidden_size,
        "intermediate_size": text.intermediate_size,
        "max_position_embeddings": 32768,
        "max_window_layers": text.num_hidden_layers,
        "num_attention_heads": text.num_attention_heads,
        "num_hidden_layers": text.num_hidden_layers,
        "num_key_value_heads": text.num_key_value_heads,
        "rms_norm_eps": text.rms_norm_eps,
        "rope_scaling": {**scaling, "type": "default"},
        "rope_theta": text.rope_theta,
        "sliding_window": 32768,
        "tie_word_embeddings": text.tie_word_embeddings,
        "use_sliding_window": False,
        "vocab_size": text.vocab_size,
    }


def vision_fields(vision: VisionConfig) -> dict[str, Any]:
    """Of the vision encoder."""
    return {
        "depth": vision.depth,
        "embed_dim": vision.embed_dim,
        "hidden_size": vision.hidden_size,
        "in_chans": vision.in_channels,
        "model_type": "qwen2_vl",
        "num_heads": vision.num_heads,
        "spatial_patch_size": vision.patch_size,
    }


def preprocessor(vision: VisionConfig) -> dict[str, Any]:
    return {
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_processor_type": "Qwen2VLImageProcessor",
        "image_resolution": RESOLUTION,
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "max_pixels": MAX_PIXELS,
        "merge_size": vision.merge_size,
        "min_pixels": MIN_PIXELS,
        "patch_size": vision.patch_size,
        "processor_class": "Qwen2VLProcessor",
        "resample": 3,
        "rescale_factor": 1 / 255,
        "size": {"max_pixels": MAX_PIXELS, "min_pixels": MIN_PIXELS},
        "temporal_patch_size": vision.temporal_patch_size,
    }


def generation(tokenizer: Tokenizer) -> dict[str, Any]:
    pad, end = tokenizer.token_to_id("<|endoftext|>"), tokenizer.token_to_id("<|im_end|>")
    return {
        "bos_token_id": pad,
        "do_sample": True,
        "eos_token_id": [end, pad],
        "pad_token_id": pad,
        "repetition_penalty": 1.0,
        "temperature": 0.01,
        "top_k": 1,
        "top_p": 0.001,
        "transformers_version": "4.45.2",
    }
