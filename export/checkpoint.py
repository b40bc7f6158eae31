"""Opens a VPT checkpoint: a folder or a Hub id, checked before anything is made of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from tokenizers import Tokenizer

from vpt_edge.export import config_files, tensor_files
from vpt_edge.runtime import image
from vpt_edge.runtime.bundle import ImageLimits, Tokens
from vpt_edge.runtime.errors import CheckpointError

if TYPE_CHECKING:
    import torch

IMAGE_RESOLUTION = 512  # the authors' limit on the longest side (PROTOCOL 4)

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

QWEN_SPECIALS = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>"),
    *("<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>"),
    *("<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"),
)
REGION_TOKENS = [
    "<|region_token_start|>",
    "<|region_token_end|>",
    *(f"<|{a}_{i}|>" for a in "xy" for i in range(8)),
]


class Checkpoint:
    """A VPT checkpoint on disk, checked: every tensor is there and has its shape.

    ``kind``: clip, detection or seg; ``encoder``: geometry of DINOv2 or SAM, None for clip.
    """

    def __init__(self, path: Path, source: str) -> None:
        self.path, self.source = path, source
        config = config_files.read_json(path / "config.json")
        self.kind = config_files.kind_of(config, path)
        self.text, self.vision = (
            config_files.text_config(config, path),
            config_files.vision_config(config, path),
        )
        self.encoder = config_files.encoder_config(self.kind, path)
        self.tokenizer_file = path / "tokenizer.json"
        self.tokens = _tokens(self.tokenizer_file, self.kind, self.text.vocab_size)
        self.image = _image_limits(path, self.kind, self.vision.head_dim)
        self._files = tensor_files.TensorFiles(path)
        self._check_tensors()

    @classmethod
    def open(cls, name: str) -> Checkpoint:
        """Open a folder, or download a Hub id such as ``rp-yu/Qwen2-VL-2b-VPT-CLIP``."""
        path = Path(name)
        if path.is_dir():
            return cls(path, name)
        if path.exists() or not re.fullmatch(r"\w[\w.-]*/[\w.-]+", name):
            raise CheckpointError(
                f"no checkpoint at {name}: expected a folder with config.json, or a Hub id owner/name"
            )
        return cls(_download(name), name)

    @property
    def prompt_triggered(self) -> bool:
        """Whether this is a released checkpoint that looks again only when the question asks for
        it."""
        parts = [
            part.replace("models--rp-yu--", "")
            for part in (self.path.resolve().parts + Path(self.source).parts)
        ]
        return any(RELEASED.get(part, False) for part in parts)

    @property
    def tied(self) -> bool:
        """Whether the embedding table is the output matrix too."""
        return self.text.tie_word_embeddings

    @property
    def embeddings_tensor(self) -> str:
        """A tied checkpoint with a separate lm_head takes that for both, as the authors' loader
        does (PROTOCOL 6)."""
        return (
            "lm_head.weight"
            if self.tied and "lm_head.weight" in self._files.shapes
            else "model.embed_tokens.weight"
        )

    def decoder_tensor(self, name: str) -> str:
        """The checkpoint's name of the decoder module's parameter ``name``."""
        if name != "lm_head.weight":
            return f"model.{name}"
        return self.embeddings_tensor if self.tied else name

    def read(self, name: str) -> torch.Tensor:
        """One tensor, mapped from disk."""
        return self._files.read(name)

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
            listed = "; ".join(wrong[:20]) + (
                f"; and {len(wrong) - 20} more" if len(wrong) > 20 else ""
            )
            raise CheckpointError(
                f"{self.path} does not hold the tensors that its config.json describes: {listed}; "
                "download or copy the checkpoint again"
            )

    def expected_tensors(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every tensor of such a checkpoint, a separate lm_head included."""
        return tensor_files.expected_tensors(self.kind, self.vision, self.text, self.encoder)


def _download(name: str) -> Path:
    from huggingface_hub import HfApi, snapshot_download

    try:
        files = HfApi().list_repo_files(name)
        weights = (
            "*.safetensors"
            if any(file.endswith(".safetensors") for file in files)
            else "pytorch_model*.bin"
        )
        return Path(snapshot_download(name, allow_patterns=["*.json", "merges.txt", weights]))
    except Exception as error:  # the hub's client raises the errors of several libraries
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{name} is no folder here, and the Hub does not give it: {reason}"
        ) from error


def _tokens(file: Path, kind: str, vocab_size: int) -> Tokens:
    """Ids by token string: the same numbers mean different words in CLIP, Det and Seg (PROTOCOL
    1.3)."""
    if not file.exists():
        raise CheckpointError(
            f"{file} is missing; save it from Qwen2TokenizerFast into the checkpoint's folder"
        )
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # tokenizers raises bare exceptions
        raise CheckpointError(
            f"{file} is no tokenizer ({error}); download or copy it again"
        ) from error
    ids, pad = tokenizer.get_vocab(), f"<|{kind}_image_pad|>"
    actions = [f"<|{kind}_action{end}|>" for end in ("_start", "", "_end")]
    triggers = [ids[token] for token in (*REGION_TOKENS, *actions) if token in ids]
    needed = (
        *QWEN_SPECIALS,
        pad,
        *(REGION_TOKENS + actions if triggers else []),
    )  # alignment: no trigger at all
    absent = [token for token in needed if token not in ids]
    if absent:
        raise CheckpointError(
            f"{file} lacks the tokens {', '.join(absent)}; this is no tokenizer of a {kind} checkpoint: copy it again"
        )
    if len(ids) > vocab_size:
        raise CheckpointError(
            f"{file} has {len(ids)} tokens, but config.json a vocab_size of {vocab_size}; copy both again"
        )
    special = [
        number
        for number, token in sorted(tokenizer.get_added_tokens_decoder().items())
        if token.special
    ]
    turn_end, padding = ids["<|im_end|>"], ids["<|endoftext|>"]
    return Tokens(
        image_pad=ids["<|image_pad|>"],
        reencode_pad=ids[pad],
        action_start=ids.get(actions[0]),
        action=ids.get(actions[1]),
        end=(turn_end, *(number for number in special if number not in (turn_end, padding))),
        triggers=tuple(triggers),
    )


def _image_limits(path: Path, kind: str, head_dim: int) -> ImageLimits:
    """Limits from preprocessor_config.json; other constants there must be those of ``image``
    (PROTOCOL 4)."""
    file = path / "preprocessor_config.json"
    data = config_files.read_json(file) if file.exists() else {}
    fixed = {
        "image_mean": list(image.CLIP_MEAN),
        "image_std": list(image.CLIP_STD),
        "patch_size": image.PATCH,
        "merge_size": image.MERGE,
        "temporal_patch_size": image.FRAMES,
        "resample": 3,
    }
    config_files.expect(data, {key: value for key, value in fixed.items() if key in data}, file)
    extra = path / f"{kind}_preprocessor_config.json"
    if extra.exists():
        fixed = {"image_mean": list(image.IMAGENET_MEAN), "image_std": list(image.IMAGENET_STD)}
        config_files.expect(config_files.read_json(extra), fixed, extra)
    limit = data.get("image_resolution", IMAGE_RESOLUTION)
    return ImageLimits(
        limit=limit,
        reencode_limit=2 * IMAGE_RESOLUTION if kind == "seg" else limit,
        min_pixels=data.get("min_pixels", 56 * 56),
        max_pixels=data.get("max_pixels", 12845056),
        vision_head_dim=head_dim,
    )
