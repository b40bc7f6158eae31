"""What lies in a folder in the place of weights that can be read, and the command that mends it."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

from vpt_edge.export.foreign import FLOAT
from vpt_edge.runtime.errors import CheckpointError
from vpt_edge.runtime.schema import labels

WEIGHTS = ("model.safetensors", "pytorch_model.bin")
ENDINGS = ("", ".index.json")  # the latter of shards


class Form(NamedTuple):
    """Weights of another form: a pattern of the names of files and folders, what they are, and what
    mends it.
    """

    pattern: str
    title: str
    fix: str


ORIGIN = "export the checkpoint that these were made of"
WEB = "a page of a website, not the weights"
LOAD_AGAIN = "download it again, signed in where the site asks for it"
PACKED = "packed"
BEGINNINGS = (  # of files, whatever their name is; of any case
    (b"version https://git-lfs", "a pointer of Git LFS, not the weights", "git lfs pull"),
    (b"# xet version", "a pointer of Xet, not the weights", "git xet pull"),
    (b"GGUF", "a model for llama.cpp (GGUF)", FLOAT),
    (b"\x89HDF", "a file of HDF5, as TensorFlow writes it", "save the model from PyTorch"),
    (b"\x93NUMPY", "an array of numpy", "save the model with save_pretrained"),
    (b"<!doctype", WEB, LOAD_AGAIN),
    (b"<html", WEB, LOAD_AGAIN),
    (b"<?xml", WEB, LOAD_AGAIN),
    (b'{"error', WEB, LOAD_AGAIN),
    (b"\x1f\x8b", PACKED, "unpack it: gunzip"),
    (b"\x28\xb5\x2f\xfd", PACKED, "unpack it: unzstd"),
    (b"\xfd7zXZ", PACKED, "unpack it: unxz"),
)
FORMATS = {"tf": "TensorFlow", "flax": "Flax", "jax": "Flax"}  # of metadata in safetensors
LONGEST = 32  # bytes that are looked at
ZIP = b"PK\x03\x04"  # of torch.save
PICKLE = b"\x80\x02"  # of torch.save before 1.6
FORMS = (  # the first that lies there is named
    Form(
        r"(bf16_|fp16_)?zero_pp_rank_.+\.pt|mp_rank_\d+_model_states\.pt|zero_to_fp32\.py|"
        r"global_step\d+|latest",
        "shards of DeepSpeed",
        "put them together: python zero_to_fp32.py CHECKPOINT OUTPUT (DeepSpeed writes the script "
        "beside them)",
    ),
    Form(
        r"model_world_size_\d+_rank_\d+\.pt",
        "shards of verl",
        "put them together: python -m verl.model_merger merge --backend fsdp --local_dir "
        "CHECKPOINT --target_dir OUTPUT",
    ),
    Form(
        r".+\.distcp|\.metadata|pytorch_model_fsdp_\d+",
        "shards of torch.distributed.checkpoint (FSDP)",
        "put them together: accelerate merge-weights CHECKPOINT OUTPUT",
    ),
    Form(
        r"iter_\d{7}|model_optim_rng\.pt|latest_checkpointed_iteration\.txt|mp_rank_\d+(_\d+)?",
        "shards of Megatron-LM",
        "let the trainer write Hugging Face's form (save_pretrained)",
    ),
    Form(r".+\.(gguf|ggml|llamafile)", "a model for llama.cpp (GGUF)", FLOAT),
    Form(r"(weights|model)[\w.-]*\.npz", "weights of MLX", ORIGIN),
    Form(
        r"tf_model.*\.h5|.+\.h5|saved_model\.pb",
        "weights of TensorFlow",
        "load them with transformers 4, from_pretrained(CHECKPOINT, from_tf=True), and "
        "save_pretrained",
    ),
    Form(
        r".+\.msgpack",
        "weights of Flax",
        "load them with transformers 4, from_pretrained(CHECKPOINT, from_flax=True), and "
        "save_pretrained",
    ),
    Form(
        r".+\.(onnx|engine|plan|trt|mlpackage|mlmodel|mlmodelc|tflite|pte|mnn|param)|"
        r"openvino_model\.(xml|bin)",
        "graphs that were exported for another runtime",
        ORIGIN,
    ),
    Form(
        r"consolidated[\w.-]*\.(pth|pt|safetensors)",
        "consolidated weights, whose names are not those of transformers",
        "convert them with transformers, and save_pretrained",
    ),
    Form(
        r"(model|pytorch_model)[\w.]*-\d+-of-\d+\.(safetensors|bin)",
        "shards without their index",
        "copy the index beside them: model.safetensors.index.json or pytorch_model.bin.index.json",
    ),
    Form(
        r"(model|pytorch_model)\.\w+\.(safetensors|bin)",
        "weights of a variant",
        "rename the file to model.safetensors or pytorch_model.bin, or save_pretrained without a "
        "variant",
    ),
    Form(
        r".+\.ckpt",
        "a checkpoint of PyTorch Lightning, or of another trainer",
        "take the weights out: torch.save(torch.load(FILE)['state_dict'], 'pytorch_model.bin')",
    ),
    Form(
        r"(?!training_args|optimizer|scheduler|rng_state|random_states|scaler).+\.(pth|pt|bin)",
        "a file of torch of another name",
        "save the model with save_pretrained, or its state_dict as pytorch_model.bin",
    ),
    Form(
        r".+\.safetensors",
        "safetensors of another name",
        "save the model with save_pretrained, or its state_dict as model.safetensors",
    ),
    Form(
        r"checkpoint-\d+",
        "the checkpoints of a trainer",
        "export one of them: vpt-export FOLDER/checkpoint-… -o BUNDLE",
    ),
    Form(
        r"snapshots",
        "a repository as the Hub's cache has it",
        "export what lies in it: vpt-export FOLDER/snapshots/… -o BUNDLE",
    ),
    Form(
        r".+\.(incomplete|part|crdownload|aria2)",
        "a download that is not finished",
        "finish the download",
    ),
    Form(r".+\.(zip|tar|tgz|tar\.\w+|7z|rar)", "an archive", "unpack it"),
)


def check_form(folder: Path) -> None:
    """Raise CheckpointError where ``folder`` holds weights of another form, and none that can be
    read.
    """
    expected = [folder / f"{name}{ending}" for name in WEIGHTS for ending in ENDINGS]
    if any(file.exists() for file in expected):
        return
    for file in expected:
        if file.is_symlink():
            raise CheckpointError(
                f"{file} is a link to a file that is missing",
                "fetch it: dvc pull, git annex get, or download the checkpoint again",
            )
    try:
        names = [file.name for file in folder.iterdir()]
    except OSError as error:
        raise CheckpointError(f"{folder} cannot be read ({error.strerror})") from error
    check_listing(names, str(folder))


def check_listing(names: Collection[str], place: str) -> None:
    """As ``check_form``, of the ``names`` of files and folders that lie at ``place``."""
    if any(f"{name}{ending}" in names for name in WEIGHTS for ending in ENDINGS):
        return
    for form in FORMS:
        others = [name for name in names if re.fullmatch(form.pattern, name, re.ASCII)]
        if others:
            raise CheckpointError(f"{place} holds {form.title}: found {labels(others)}", form.fix)


def check_beginning(file: Path) -> None:
    """Raise CheckpointError where ``file`` begins as what often lies in the place of weights."""
    with file.open("rb") as opened:
        beginning = opened.read(LONGEST)
    for magic, title, fix in BEGINNINGS:
        if beginning.lower().startswith(magic.lower()):
            raise CheckpointError(f"{file} is {title}", fix)
    is_safetensors = beginning[8:9] == b"{" and _length(beginning) < file.stat().st_size
    if file.suffix == ".bin" and is_safetensors:
        raise CheckpointError(f"{file} holds safetensors", "rename it to model.safetensors")
    if file.suffix == ".bin" and beginning.startswith(PICKLE):
        raise CheckpointError(
            f"{file} was saved as torch did before 1.6, which cannot be mapped",
            "load it where it is trusted, and save it again with torch.save",
        )
    if file.suffix == ".safetensors" and beginning.startswith((ZIP, PICKLE)):
        raise CheckpointError(
            f"{file} was written by torch.save", "rename it to pytorch_model.bin, with its index"
        )


def check_format(metadata: Mapping[str, str], file: Path) -> None:
    """Raise CheckpointError where ``metadata`` of safetensors say that another library has them
    in its own order, as transformers does.
    """
    library = FORMATS.get(metadata.get("format", ""))
    if library is not None:
        raise CheckpointError(
            f"{file} holds weights of {library}, which have another order",
            "load them with transformers 4 (from_tf or from_flax), and save_pretrained",
        )


def _length(beginning: bytes) -> int:
    """Bytes of the header, which files of safetensors begin with."""
    return int.from_bytes(beginning[:8], "little")
