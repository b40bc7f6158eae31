"""Opens a checkpoint: a folder or a Hub id, checked before anything is made of it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from vpt_edge.export.attention import TARGETS
from vpt_edge.export.config_files import CONFIG, DOWNLOAD_AGAIN, read_json
from vpt_edge.export.foreign import FLOAT, check_adapter, check_quantized
from vpt_edge.export.foreign_files import check_form, check_listing
from vpt_edge.export.foreign_names import check_names
from vpt_edge.export.models import Model, vpt
from vpt_edge.export.notes import find_notes
from vpt_edge.export.perception import VPT, PerceptionChoice, choose_vpt, choose_way
from vpt_edge.export.spec import GraphOptions, Spec
from vpt_edge.export.tensor_files import FLOATS, TensorFiles
from vpt_edge.export.tokenizer_files import (
    TOKENIZER,
    check_added_tokens,
    check_ids,
    check_tokens,
    check_vocabulary,
    open_tokenizer,
)
from vpt_edge.export.tokenizer_pipeline import check_pipeline
from vpt_edge.export.weights import is_equal, is_finite
from vpt_edge.runtime.errors import CheckpointError, ExportError
from vpt_edge.runtime.schema import brief, label

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer

    from vpt_edge.export.models.tower import TextGeometry

LISTED = 20  # tensors that an error names
LAYER = re.compile(r"[a-z_.]+\.\d+(?=\.)")
HUB_ID = r"\w[\w.-]*/[\w.-]+"


class Checkpoint:
    """A checkpoint on disk, checked: every tensor is there and has its shape.

    ``model``: what its config files describe; ``image`` and ``perception``, which may be asked for,
    are for the manifest. ``notes``: what its files ask for in vain.
    """

    def __init__(self, path: Path, source: str, perception: str | None = None) -> None:
        self.path = path
        self.source = source
        check_adapter(path)
        check_form(path)
        config = read_json(path / CONFIG)
        check_quantized(config, path)
        self.model = Model.read(config, path)
        self.tokenizer_file = path / TOKENIZER
        tokenizer = open_tokenizer(self.tokenizer_file)
        check_pipeline(self.tokenizer_file)
        tower = self.model.tower
        required = self._required_tokens(tokenizer)
        check_tokens(tokenizer, required, self.kind, self.tokenizer_file)
        ids = tokenizer.get_vocab()
        check_vocabulary(ids, self.text.vocab_size, self.tokenizer_file)
        named = {key: ids[token] for key, token in tower.token_ids.items()}
        check_ids(config, named, self.text.vocab_size, path / CONFIG)
        check_added_tokens(tokenizer, path)
        self.image = self.model.image_limits(path)
        self.perception = self._choose_perception(tokenizer, perception)
        tokens = self.perception.tokens
        is_vpt = self.model.reencoder is not None
        notes = find_notes(path, ids, tokens, is_vpt=is_vpt)
        self.notes = (*notes, *self.model.image_notes(path))
        self.perception.check(self.tokenizer_file)
        self._files = TensorFiles(path)
        self._stored = self._original_names()
        self._check_tensors()
        self.notes += self._head_notes()
        self._finite = set[str]()  # tensors that were looked at

    @classmethod
    def open(cls, name: str, perception: str | None = None) -> Checkpoint:
        """Open a folder, or download a Hub id such as ``rp-yu/Qwen2-VL-2b-VPT-CLIP``.

        ``perception``: the way of looking again, of a checkpoint that has no tokens for one: its
        name, or the file of a description. Raises CheckpointError.
        """
        path = Path(name)
        try:
            is_folder = path.is_dir()
            is_local = path.exists()
        except (OSError, ValueError) as error:  # a name that is too long, or has a NUL
            raise CheckpointError(
                f"{brief(name)} cannot be opened ({error.args[-1]})",
                "expected a folder with config.json, or a Hub id owner/name",
            ) from error
        if is_folder:
            return cls(path, name, perception)
        if is_local or not re.fullmatch(HUB_ID, name):
            raise CheckpointError(
                f"no checkpoint at {name}: "
                "expected a folder with config.json, or a Hub id owner/name"
            )
        return cls(_download(name), name, perception)

    @property
    def kind(self) -> str:
        """clip, detection or seg; of a model that re-encodes nothing, the name of its tower."""
        if self.model.reencoder is None:
            return str(self.model.tower.block()["name"])
        return self.model.reencoder.kind

    @property
    def text(self) -> TextGeometry:
        """Geometry of the language model."""
        return self.model.tower.text

    def _required_tokens(self, tokenizer: Tokenizer) -> list[str]:
        tokens = [*self.model.tower.special_tokens]
        if self.model.reencoder is not None:
            tokens += vpt.required_tokens(tokenizer, self.kind)
        return tokens

    def _choose_perception(self, tokenizer: Tokenizer, asked: str | None) -> PerceptionChoice:
        if self.model.reencoder is None:
            return choose_way(tokenizer, asked, self.path, self.kind)
        if asked not in (None, VPT):
            raise ExportError(
                f"{self.path} looks again by its own tokens, not by {brief(asked)}",
                "leave out --perception",
            )
        side = vpt.reencode_side(self.image, self.kind, self.path)
        return choose_vpt(tokenizer, self.kind, self._waits_for_prompt(), side)

    def _waits_for_prompt(self) -> bool:
        """Whether this is a released checkpoint that looks only when the question asks for it."""
        return vpt.is_prompt_triggered((*self.path.resolve().parts, *Path(self.source).parts))

    @property
    def tied(self) -> bool:
        """Whether the embedding table is the output matrix too."""
        return self.text.tie_word_embeddings

    @property
    def embeddings_tensor(self) -> str:
        """The name of the embedding table."""
        return self.model.tower.embeddings_tensor(self._stored)

    def read(self, name: str) -> torch.Tensor:
        """One tensor, mapped from disk. Raises CheckpointError where a number of it is NaN or
        infinite: answers would be too.
        """
        tensor = self._map(name)
        if name not in self._finite:
            if not is_finite(tensor):
                raise CheckpointError(
                    f"{self.path}: {name} holds numbers that are NaN or infinite",
                    "the training diverged, or the file is damaged: take an earlier checkpoint",
                )
            self._finite.add(name)
        return tensor

    @property
    def image_tokens(self) -> int:
        """The most visual tokens of a picture."""
        return self.model.tower.processor.most_tokens(self.image)

    def limit_pixels(
        self, min_pixels: int | None, max_pixels: int | None, cache_tokens: int
    ) -> None:
        """Show pictures in ``min_pixels`` to ``max_pixels``; None: as the checkpoint's files say.

        Where there is no first shrink a picture takes half of a cache of ``cache_tokens`` at most,
        unless ``max_pixels`` says otherwise. Raises ExportError for limits that leave no size.
        """
        area = self.model.tower.processor.factor**2
        limits = self.image
        if min_pixels is not None:
            limits = replace(limits, min_pixels=min_pixels)
        most = max(cache_tokens // 2, 1) * area
        if max_pixels is not None:
            limits = replace(limits, max_pixels=max_pixels)
        elif limits.longest_side is None and limits.max_pixels > most:
            limits = replace(limits, max_pixels=max(most, limits.min_pixels))
            self.notes += (
                f"the checkpoint shows pictures of up to {self.image.max_pixels:,} pixels "
                f"({self.image.max_pixels // area:,} visual tokens): {limits.max_pixels:,} "
                f"({limits.max_pixels // area:,}) here, of a cache of {cache_tokens:,} tokens; "
                "--max-pixels and --cache-tokens set other limits",
            )
        if not 1 <= limits.min_pixels <= limits.max_pixels or limits.max_pixels < area:
            raise ExportError(
                f"min_pixels {limits.min_pixels:,} and max_pixels {limits.max_pixels:,} leave no "
                f"size for a picture, whose smallest is {area:,} pixels",
                "give --min-pixels and --max-pixels in this order",
            )
        self.image = limits

    def specs(self, target: str, dtype: str, cache_tokens: int) -> dict[str, Spec]:
        """The graphs that compute in ``dtype``, in the order in which they are exported."""
        options = GraphOptions(TARGETS[target], dtype, cache_tokens, self.image_tokens)
        return self.model.specs(options, self.embeddings_tensor)

    def _original_names(self) -> dict[str, str]:
        """The names of the tensors in the file by those that the model has for them."""
        stored = dict[str, str]()
        for name in self._files.shapes:
            original = self.model.original_name(name)
            if original in stored:
                raise CheckpointError(
                    f"{self.path} holds {original} twice, as {stored[original]} and {name}",
                    DOWNLOAD_AGAIN,
                )
            stored[original] = name
        return stored

    def _head_notes(self) -> tuple[str, ...]:
        table = self.model.tower.embeddings_tensor(())
        head = self.embeddings_tensor
        if head == table or is_equal(self._map(table), self._map(head)):
            return ()
        return (
            f"the checkpoint holds {head} and {table} with other numbers, and tie_word_embeddings "
            f"in {CONFIG}: {head} counts for both, as in the authors' loader",
        )

    def _map(self, name: str) -> torch.Tensor:
        return self._files.read(self._stored[name])

    def _check_tensors(self) -> None:
        expected = self.model.tensors()
        check_names(
            self._files.shapes, lambda name: self.model.original_name(name) in expected, self.path
        )
        shapes = {name: self._files.shapes[stored] for name, stored in self._stored.items()}
        missing = set(expected) - set(shapes) - self.model.tower.optional_tensors()
        wrong = [f"missing {name}" for name in sorted(missing)]
        wrong += [f"surplus {label(name)}" for name in sorted(set(shapes) - set(expected))]
        for name, shape in expected.items():
            if name not in shapes:
                continue
            if shapes[name] != shape:
                wrong.append(f"{name} has shape {list(shapes[name])}, expected {list(shape)}")
            dtype = self._files.dtypes[self._stored[name]]
            if dtype not in FLOATS:
                wrong.append(f"{name} is {dtype}, expected {', '.join(FLOATS)}")
        if len(wrong) > LISTED:
            wrong[LISTED:] = [f"and {len(wrong) - LISTED} more"]
        wrong[:0] = _count_layers(shapes, expected)
        if wrong:
            is_float = set(self._files.dtypes.values()) <= set(FLOATS)
            raise CheckpointError(
                f"{self.path} does not hold the tensors that its config.json describes: "
                f"{'; '.join(wrong)}",
                DOWNLOAD_AGAIN if is_float else FLOAT,
            )


def _count_layers(names: Iterable[str], expected: Iterable[str]) -> list[str]:
    """Of each stack, where the file has more layers or fewer than its config says."""
    counts = _layers(names)
    wrong = []
    for stack, layers in _layers(expected).items():
        if counts[stack] != layers:
            wrong.append(f"{stack} has {counts[stack]} layers, expected {layers}")
    return wrong


def _layers(names: Iterable[str]) -> Counter[str]:
    """The number of layers by what stands before their index: {"model.layers": 28}."""
    layers = {match[0] for match in map(LAYER.match, names) if match}
    return Counter(layer.rpartition(".")[0] for layer in layers)


def _download(name: str) -> Path:
    from huggingface_hub import HfApi, snapshot_download

    try:
        files = HfApi().list_repo_files(name)
        check_listing({file.partition("/")[0] for file in files}, name)
        weights = "pytorch_model*.bin"
        if any(file.endswith(".safetensors") for file in files):
            weights = "*.safetensors"
        patterns = ["*.json", "*.jinja", "merges.txt", weights]
        return Path(snapshot_download(name, allow_patterns=patterns))
    except CheckpointError:
        raise
    except Exception as error:  # the hub's client raises the errors of several libraries
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise CheckpointError(
            f"{name} is not a folder here, and the Hub does not give it: {reason}"
        ) from error
