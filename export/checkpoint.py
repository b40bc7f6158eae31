"""Reads the released checkpoints' own files: configuration, token ids, tensors."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenizers import Tokenizer

from vpt_edge.runtime import image
from vpt_edge.runtime.bundle import ImageLimits, Tokens
from vpt_edge.runtime.errors import CheckpointError

if TYPE_CHECKING:
    import torch

Shape = tuple[int, ...]

ENCODERS = {"clip": "clip", "dino": "detection", "sam": "seg"}  # the authors' vision_encoder_ls -> kind
IMAGE_RESOLUTION = 512  # the authors' limit on the longest side (PROTOCOL 4)

# Whether a released checkpoint waits for the sentence in the question before it looks again (PROTOCOL 1.1).
RELEASED = {
    "Qwen2-VL-2b-VPT-CLIP": True,
    "Qwen2-VL-2b-VPT-Det": True,
    "Qwen2-VL-2b-VPT-Det-NoPrompt": False,
    "Qwen2-VL-2b-VPT-Det-Alignment": False,
    "Qwen2-VL-2b-VPT-Seg": True,
    "Qwen2-VL-2b-VPT-Seg-Alignment": False,
    "Qwen2-VL-7b-VPT-CLIP": True,
}

QWEN_SPECIALS = (
    "<|endoftext|> <|im_start|> <|im_end|> <|object_ref_start|> <|object_ref_end|> <|box_start|> <|box_end|> "
    "<|quad_start|> <|quad_end|> <|vision_start|> <|vision_end|> <|vision_pad|> <|image_pad|> <|video_pad|>"
).split()
REGION_TOKENS = ["<|region_token_start|>", "<|region_token_end|>", *(f"<|{a}_{i}|>" for a in "xy" for i in range(8))]


@dataclass(frozen=True)
class VisionConfig:
    """Geometry of Qwen2-VL's vision tower; the defaults are those that transformers leaves out of config.json."""

    hidden_size: int
    embed_dim: int = 1280
    depth: int = 32
    num_heads: int = 16
    mlp_ratio: float = 4
    patch_size: int = 14
    merge_size: int = 2
    temporal_patch_size: int = 2
    in_channels: int = 3

    @property
    def mlp_dim(self) -> int:
        return int(self.embed_dim * self.mlp_ratio)

    @property
    def patch_width(self) -> int:
        """Numbers in one flattened patch: channels, frames, rows, columns."""
        return self.in_channels * self.temporal_patch_size * self.patch_size**2

    @property
    def head_dim(self) -> int:
        return self.embed_dim // self.num_heads


@dataclass(frozen=True)
class TextConfig:
    """Geometry of the language model."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    vocab_size: int
    rms_norm_eps: float
    rope_theta: float
    mrope_section: tuple[int, int, int]
    tie_word_embeddings: bool

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads


@dataclass(frozen=True)
class Dinov2Config:
    """Geometry of DINOv2; the defaults are facebook/dinov2-large, which the authors' code hard-wires."""

    hidden_size: int = 1024
    num_hidden_layers: int = 24
    num_attention_heads: int = 16
    mlp_ratio: float = 4
    patch_size: int = 14
    image_size: int = 518
    layer_norm_eps: float = 1e-6
    image_side = 224  # what it is shown

    @property
    def mlp_dim(self) -> int:
        return int(self.hidden_size * self.mlp_ratio)

    @property
    def grid(self) -> int:
        return self.image_side // self.patch_size


@dataclass(frozen=True)
class SamConfig:
    """Geometry of SAM's encoder; the defaults are facebook/sam-vit-large, which the authors' code hard-wires."""

    hidden_size: int = 1024
    num_hidden_layers: int = 24
    num_attention_heads: int = 16
    mlp_dim: int = 4096
    patch_size: int = 16
    window_size: int = 14
    global_attn_indexes: tuple[int, ...] = (5, 11, 17, 23)
    output_channels: int = 256
    layer_norm_eps: float = 1e-6
    image_side = 1024

    @property
    def grid(self) -> int:
        return self.image_side // self.patch_size


class Checkpoint:
    """A VPT checkpoint on disk, checked: every tensor is there and has its shape.

    ``kind``: clip, detection or seg; ``encoder``: geometry of DINOv2 or SAM, None for clip.
    """

    def __init__(self, path: Path, source: str) -> None:
        self.path, self.source = path, source
        config = _read_json(path / "config.json")
        self.kind = _kind(config, path)
        self.text, self.vision = _text_config(config, path), _vision_config(config, path)
        self.encoder = self._encoder_config()
        self.tokenizer_file = path / "tokenizer.json"
        self.tokens = _tokens(self.tokenizer_file, self.kind, self.text.vocab_size)
        self.image = _image_limits(path, self.kind, self.vision.head_dim)
        self._files = TensorFiles(path)
        self._check_tensors()

    @classmethod
    def open(cls, name: str) -> Checkpoint:
        """Open a folder, or download a Hub id such as ``rp-yu/Qwen2-VL-2b-VPT-CLIP``."""
        path = Path(name)
        if path.is_dir():
            return cls(path, name)
        if path.exists() or not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
            raise CheckpointError(f"no checkpoint at {name}: expected a folder with config.json, or a Hub id owner/name")
        return cls(_download(name), name)

    @property
    def prompt_triggered(self) -> bool:
        """Whether this is a released checkpoint that looks again only when the question asks for it."""
        parts = [part.replace("models--rp-yu--", "") for part in (self.path.resolve().parts + Path(self.source).parts)]
        return any(RELEASED.get(part, False) for part in parts)

    @property
    def tied(self) -> bool:
        """Whether the embedding table is the output matrix too."""
        return self.text.tie_word_embeddings

    @property
    def embeddings_tensor(self) -> str:
        """A tied checkpoint with a separate lm_head takes that for both, as the authors' loader does (PROTOCOL 6)."""
        return "lm_head.weight" if self.tied and "lm_head.weight" in self._files.shapes else "model.embed_tokens.weight"

    def decoder_tensor(self, name: str) -> str:
        """The checkpoint's name of the decoder module's parameter ``name``."""
        if name != "lm_head.weight":
            return f"model.{name}"
        return self.embeddings_tensor if self.tied else name

    def read(self, name: str) -> torch.Tensor:
        """One tensor, mapped from disk."""
        return self._files.read(name)

    def _encoder_config(self) -> Dinov2Config | SamConfig | None:
        if self.kind == "clip":
            return None
        cls = Dinov2Config if self.kind == "detection" else SamConfig
        path = self.path / f"{self.kind}_model_config.json"
        if not path.exists():
            return cls()
        data = _read_json(path)
        fixed = {"use_swiglu_ffn": False, "use_abs_pos": True, "use_rel_pos": True, "qkv_bias": True, "hidden_act": "gelu"}
        _expect(data, {key: value for key, value in fixed.items() if key in data}, path)
        values = {key: data[key] for key in cls.__dataclass_fields__ if key in data}
        return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})

    def _check_tensors(self) -> None:
        expected, found = self.expected_tensors(), self._files.shapes
        optional = {"lm_head.weight"} if self.tied else set()
        wrong = [f"missing {name}" for name in sorted(set(expected) - set(found) - optional)]
        wrong += [f"surplus {name}" for name in sorted(set(found) - set(expected))]
        wrong += [
            f"{name} has shape {list(found[name])}, expected {list(shape)}"
            for name, shape in expected.items()
            if name in found and found[name] != shape
        ]
        if wrong:
            listed = "; ".join(wrong[:20]) + (f"; and {len(wrong) - 20} more" if len(wrong) > 20 else "")
            raise CheckpointError(
                f"{self.path} does not hold the tensors that its config.json describes: {listed}; "
                "download or copy the checkpoint again"
            )

    def expected_tensors(self) -> dict[str, Shape]:
        """Name and shape of every tensor of such a checkpoint (PROTOCOL 6), a separate lm_head included."""
        names = {**_vision_tensors(self.vision), **_text_tensors(self.text)}
        width = self.text.hidden_size
        if isinstance(self.encoder, Dinov2Config):
            names |= _dinov2_tensors(self.encoder)
            width = self.encoder.hidden_size
        elif isinstance(self.encoder, SamConfig):
            names |= _sam_tensors(self.encoder)
            width = self.encoder.output_channels
            names |= _pair("seg_projector.conv_feature", (self.text.hidden_size, width, 4, 4))
        projector, hidden = f"{self.kind}_projector", self.text.hidden_size
        for part, size in (("feature", width), ("condition", hidden)):
            names |= _pair(f"{projector}.linear_{part}", (hidden, size)) | _pair(f"{projector}.layernorm_{part}", (size,))
        return names


def _pair(name: str, shape: Shape) -> dict[str, Shape]:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def _vision_tensors(c: VisionConfig) -> dict[str, Shape]:
    width = c.embed_dim * c.merge_size**2
    names: dict[str, Shape] = {
        "visual.patch_embed.proj.weight": (c.embed_dim, c.in_channels, c.temporal_patch_size, c.patch_size, c.patch_size)
    }
    for block in (f"visual.blocks.{index}" for index in range(c.depth)):
        names |= _pair(f"{block}.norm1", (c.embed_dim,)) | _pair(f"{block}.norm2", (c.embed_dim,))
        names |= _pair(f"{block}.attn.qkv", (3 * c.embed_dim, c.embed_dim))
        names |= _pair(f"{block}.attn.proj", (c.embed_dim, c.embed_dim))
        names |= _pair(f"{block}.mlp.fc1", (c.mlp_dim, c.embed_dim)) | _pair(f"{block}.mlp.fc2", (c.embed_dim, c.mlp_dim))
    names |= _pair("visual.merger.ln_q", (c.embed_dim,)) | _pair("visual.merger.mlp.0", (width, width))
    return names | _pair("visual.merger.mlp.2", (c.hidden_size, width))


def _text_tensors(c: TextConfig) -> dict[str, Shape]:
    size, kv_size = c.hidden_size, c.num_key_value_heads * c.head_dim
    names: dict[str, Shape] = dict.fromkeys(("model.embed_tokens.weight", "lm_head.weight"), (c.vocab_size, size))
    names["model.norm.weight"] = (size,)
    for layer in (f"model.layers.{index}" for index in range(c.num_hidden_layers)):
        names |= _pair(f"{layer}.self_attn.q_proj", (size, size))
        names |= _pair(f"{layer}.self_attn.k_proj", (kv_size, size)) | _pair(f"{layer}.self_attn.v_proj", (kv_size, size))
        names[f"{layer}.self_attn.o_proj.weight"] = (size, size)
        names |= {f"{layer}.mlp.{part}_proj.weight": (c.intermediate_size, size) for part in ("gate", "up")}
        names[f"{layer}.mlp.down_proj.weight"] = (size, c.intermediate_size)
        names |= {f"{layer}.{norm}.weight": (size,) for norm in ("input_layernorm", "post_attention_layernorm")}
    return names


def _dinov2_tensors(c: Dinov2Config) -> dict[str, Shape]:
    width, root = c.hidden_size, "detection_model"
    names: dict[str, Shape] = {
        f"{root}.embeddings.cls_token": (1, 1, width),
        f"{root}.embeddings.mask_token": (1, width),
        f"{root}.embeddings.position_embeddings": (1, 1 + (c.image_size // c.patch_size) ** 2, width),
    }
    names |= _pair(f"{root}.embeddings.patch_embeddings.projection", (width, 3, c.patch_size, c.patch_size))
    for layer in (f"{root}.encoder.layer.{index}" for index in range(c.num_hidden_layers)):
        for part in ("attention.query", "attention.key", "attention.value", "output.dense"):
            names |= _pair(f"{layer}.attention.{part}", (width, width))
        for index in (1, 2):
            names |= _pair(f"{layer}.norm{index}", (width,)) | {f"{layer}.layer_scale{index}.lambda1": (width,)}
        names |= _pair(f"{layer}.mlp.fc1", (c.mlp_dim, width)) | _pair(f"{layer}.mlp.fc2", (width, c.mlp_dim))
    return names | _pair(f"{root}.layernorm", (width,))


def _sam_tensors(c: SamConfig) -> dict[str, Shape]:
    width, out, root = c.hidden_size, c.output_channels, "seg_model"
    names: dict[str, Shape] = {f"{root}.pos_embed": (1, c.grid, c.grid, width)}
    names |= _pair(f"{root}.patch_embed.projection", (width, 3, c.patch_size, c.patch_size))
    for index in range(c.num_hidden_layers):
        layer, side = f"{root}.layers.{index}", c.grid if index in c.global_attn_indexes else c.window_size
        for axis in "hw":
            names[f"{layer}.attn.rel_pos_{axis}"] = (2 * side - 1, width // c.num_attention_heads)
        names |= _pair(f"{layer}.attn.qkv", (3 * width, width)) | _pair(f"{layer}.attn.proj", (width, width))
        names |= _pair(f"{layer}.layer_norm1", (width,)) | _pair(f"{layer}.layer_norm2", (width,))
        names |= _pair(f"{layer}.mlp.lin1", (c.mlp_dim, width)) | _pair(f"{layer}.mlp.lin2", (width, c.mlp_dim))
    names |= {f"{root}.neck.conv1.weight": (out, width, 1, 1), f"{root}.neck.conv2.weight": (out, out, 3, 3)}
    return names | _pair(f"{root}.neck.layer_norm1", (out,)) | _pair(f"{root}.neck.layer_norm2", (out,))


class TensorFiles:
    """The weights: safetensors or pytorch_model*.bin, single or sharded; read through memory maps."""

    def __init__(self, path: Path) -> None:
        self.shapes: dict[str, Shape] = {}
        self._file_of: dict[str, Any] = {}
        for file in self._list(path):
            try:
                opened = _open_safetensors(file) if file.suffix == ".safetensors" else _open_bin(file)
                for name, shape in opened.shapes.items():
                    self.shapes[name], self._file_of[name] = shape, opened
            except (OSError, ValueError, RuntimeError, KeyError, EOFError, pickle.UnpicklingError) as error:
                raise CheckpointError(f"{file} is damaged or cut off ({error}); download or copy it again") from error

    def read(self, name: str) -> torch.Tensor:
        return self._file_of[name].read(name)  # type: ignore[no-any-return]

    @staticmethod
    def _list(path: Path) -> list[Path]:
        for stem, suffix in (("model", "safetensors"), ("pytorch_model", "bin")):
            single, index = path / f"{stem}.{suffix}", path / f"{stem}.{suffix}.index.json"
            if single.exists():
                return [single]
            if index.exists():
                files = [path / name for name in sorted(set(_read_json(index).get("weight_map", {}).values()))]
                absent = [file.name for file in files if not file.exists()]
                if absent or not files:
                    raise CheckpointError(f"{index} names files that are missing: {', '.join(absent)}; download them")
                return files
        raise CheckpointError(f"{path} holds no weights: expected model.safetensors or pytorch_model.bin, or shards")


@dataclass(frozen=True)
class _OpenFile:
    shapes: dict[str, Shape]
    read: Any


def _open_safetensors(file: Path) -> _OpenFile:
    from safetensors import SafetensorError, safe_open

    try:
        tensors = safe_open(file, framework="pt")
        shapes = {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(str(error)) from error
    return _OpenFile(shapes, tensors.get_tensor)


def _open_bin(file: Path) -> _OpenFile:
    import torch

    tensors = torch.load(file, map_location="cpu", mmap=True, weights_only=True)
    if not isinstance(tensors, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in tensors.values()):
        raise ValueError("it is no dictionary of tensors")
    return _OpenFile({name: tuple(tensor.shape) for name, tensor in tensors.items()}, tensors.__getitem__)


def _download(name: str) -> Path:
    from huggingface_hub import HfApi, snapshot_download

    try:
        files = HfApi().list_repo_files(name)
        weights = "*.safetensors" if any(file.endswith(".safetensors") for file in files) else "pytorch_model*.bin"
        return Path(snapshot_download(name, allow_patterns=["*.json", "merges.txt", weights]))
    except Exception as error:  # the hub's client raises the errors of several libraries
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{name} is no folder here, and the Hub does not give it: {reason}") from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing; a checkpoint folder holds config.json, tokenizer.json and weights") from None
    except ValueError as error:
        raise CheckpointError(f"{path} is no JSON ({error}); download or copy it again") from error
    if not isinstance(data, dict):
        raise CheckpointError(f"{path} holds {type(data).__name__}, expected an object")
    return data


def _expect(data: Mapping[str, Any], expected: Mapping[str, Any], path: Path) -> None:
    """Raise CheckpointError where a value of ``data`` is not the one that the graphs are written for."""
    wrong = [f"{key} is {data.get(key)!r}, expected {value!r}" for key, value in expected.items() if data.get(key) != value]
    if wrong:
        raise CheckpointError(f"{path} describes a model that vpt-edge cannot export: {'; '.join(wrong)}")


def _kind(config: Mapping[str, Any], path: Path) -> str:
    if config.get("model_type") != "qwen2_vl_vpt":
        found = config.get("model_type")
        raise CheckpointError(f"{path} is no VPT checkpoint: model_type is {found!r}, expected 'qwen2_vl_vpt'")
    encoders = config.get("vision_encoder_ls")
    if not isinstance(encoders, list) or len(encoders) != 1 or encoders[0] not in ENCODERS:
        raise CheckpointError(f"{path}: vision_encoder_ls is {encoders!r}, expected one of {', '.join(ENCODERS)} in a list")
    return ENCODERS[encoders[0]]


def _text_config(config: Mapping[str, Any], path: Path) -> TextConfig:
    _expect(config, {"hidden_act": "silu"}, path)
    _expect({"projector_scale": 1, "use_sliding_window": False, **config}, {"projector_scale": 1, "use_sliding_window": False}, path)
    section = (config.get("rope_scaling") or {}).get("mrope_section")  # the type beside it reads "default" (PROTOCOL 1.4)
    values = {**config, "mrope_section": tuple(section or ())}
    absent = [key for key in TextConfig.__dataclass_fields__ if key not in values or values[key] in (None, ())]
    if absent:
        raise CheckpointError(f"{path / 'config.json'} lacks {', '.join(absent)}; download or copy the checkpoint again")
    text = TextConfig(**{key: values[key] for key in TextConfig.__dataclass_fields__})
    if len(text.mrope_section) != 3 or 2 * sum(text.mrope_section) != text.head_dim:
        found, expected = list(text.mrope_section), text.head_dim // 2
        raise CheckpointError(f"{path / 'config.json'}: mrope_section is {found}, expected three numbers of sum {expected}")
    return text


def _vision_config(config: Mapping[str, Any], path: Path) -> VisionConfig:
    data = config.get("vision_config")
    if not isinstance(data, dict):
        raise CheckpointError(f"{path / 'config.json'} lacks vision_config; download or copy the checkpoint again")
    aliases = {"in_chans": "in_channels", "spatial_patch_size": "patch_size", "spatial_merge_size": "merge_size"}
    values = {"hidden_size": 3584, **{aliases.get(key, key): value for key, value in data.items()}}
    vision = VisionConfig(**{key: values[key] for key in VisionConfig.__dataclass_fields__ if key in values})
    fixed = {
        "hidden_size": config["hidden_size"],
        "patch_size": image.PATCH,
        "merge_size": image.MERGE,
        "temporal_patch_size": image.FRAMES,
        "in_channels": 3,
        "hidden_act": "quick_gelu",
    }
    _expect({"hidden_act": "quick_gelu", **values, **vision.__dict__}, fixed, path / "config.json")
    return vision


def _tokens(file: Path, kind: str, vocab_size: int) -> Tokens:
    """Ids by token string: the same numbers mean different words in CLIP, Det and Seg (PROTOCOL 1.3)."""
    if not file.exists():
        raise CheckpointError(f"{file} is missing; save it from Qwen2TokenizerFast into the checkpoint's folder")
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # tokenizers raises bare exceptions
        raise CheckpointError(f"{file} is no tokenizer ({error}); download or copy it again") from error
    actions = [f"<|{kind}_action{end}|>" for end in ("_start", "", "_end")]
    absent = [token for token in (*QWEN_SPECIALS, f"<|{kind}_image_pad|>") if tokenizer.token_to_id(token) is None]
    triggers = [tokenizer.token_to_id(token) for token in (*REGION_TOKENS, *actions)]
    if any(token is None for token in triggers) and any(token is not None for token in triggers):
        absent += [t for t in (*REGION_TOKENS, *actions) if tokenizer.token_to_id(t) is None]
    if absent:
        raise CheckpointError(f"{file} lacks the tokens {', '.join(absent)}; this is no tokenizer of a {kind} checkpoint")
    if tokenizer.get_vocab_size() > vocab_size:
        raise CheckpointError(f"{file} has {tokenizer.get_vocab_size()} tokens, config.json's vocab_size is {vocab_size}")
    aligned = triggers[0] is not None  # an alignment checkpoint knows no trigger yet
    special = [id for id, token in sorted(tokenizer.get_added_tokens_decoder().items()) if token.special]
    turn_end = tokenizer.token_to_id("<|im_end|>")
    return Tokens(
        image_pad=tokenizer.token_to_id("<|image_pad|>"),
        reencode_pad=tokenizer.token_to_id(f"<|{kind}_image_pad|>"),
        action_start=triggers[-3],
        action=triggers[-2],
        end=(turn_end, *(id for id in special if id not in (turn_end, tokenizer.token_to_id("<|endoftext|>")))),
        triggers=tuple(triggers) if aligned else (),
    )


def _image_limits(path: Path, kind: str, head_dim: int) -> ImageLimits:
    """Limits from preprocessor_config.json; other constants there must be those of ``image`` (PROTOCOL 4)."""
    file = path / "preprocessor_config.json"
    data = _read_json(file) if file.exists() else {}
    fixed = {
        "image_mean": list(image.CLIP_MEAN),
        "image_std": list(image.CLIP_STD),
        "patch_size": image.PATCH,
        "merge_size": image.MERGE,
        "temporal_patch_size": image.FRAMES,
        "resample": 3,
    }
    _expect(data, {key: value for key, value in fixed.items() if key in data}, file)
    extra = path / f"{kind}_preprocessor_config.json"
    if extra.exists():
        fixed = {"image_mean": list(image.IMAGENET_MEAN), "image_std": list(image.IMAGENET_STD)}
        _expect(_read_json(extra), fixed, extra)
    limit = data.get("image_resolution", IMAGE_RESOLUTION)
    return ImageLimits(
        limit=limit,
        reencode_limit=2 * IMAGE_RESOLUTION if kind == "seg" else limit,
        min_pixels=data.get("min_pixels", 56 * 56),
        max_pixels=data.get("max_pixels", 12845056),
        vision_head_dim=head_dim,
    )
