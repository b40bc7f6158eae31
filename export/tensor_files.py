"""The files that hold a checkpoint's weights."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vpt_edge.export.config_fields import value_error
from vpt_edge.export.config_files import DOWNLOAD_AGAIN, read_json
from vpt_edge.export.foreign_files import check_beginning, check_format
from vpt_edge.runtime.errors import CheckpointError
from vpt_edge.runtime.names import utf8_name
from vpt_edge.runtime.schema import brief, labels

if TYPE_CHECKING:
    import torch

    from vpt_edge.export.spec import Shape

STEMS = {"model": "safetensors", "pytorch_model": "bin"}  # the first that is there is read
LONGEST_NAME = 255  # bytes that file systems take
STRANGER = re.compile(r"GLOBAL ([\w.]+) (?:was not an allowed|whose module)")  # in torch's errors
REFUSAL = "Weights only load failed"  # in torch's errors
INNERMOST = 3  # dictionaries, one in the other, in which a trainer's weights are looked for
FLOATS = ("float32", "float16", "bfloat16", "float64")  # dtypes of weights that are numbers
DTYPES = {  # what safetensors calls what torch calls otherwise
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}


class TensorFiles:
    """The weights: safetensors or pytorch_model*.bin, single or sharded; read through memory maps.

    ``shapes`` and ``dtypes``, in torch's words, are by name. Raises CheckpointError for files that
    are missing, cut off or not of tensors.
    """

    def __init__(self, path: Path) -> None:
        self.shapes: dict[str, Shape] = {}
        self.dtypes: dict[str, str] = {}
        self._files: dict[str, _OpenFile] = {}
        for file in _weight_files(path):
            opened = _open(file)
            for name, tensor in opened.tensors.items():
                if name in self.shapes:
                    raise CheckpointError(f"{path}: two files hold {name}", DOWNLOAD_AGAIN)
                self.shapes[name] = tensor.shape
                self.dtypes[name] = tensor.dtype
                self._files[name] = opened

    def read(self, name: str) -> torch.Tensor:
        """One tensor, mapped from disk."""
        return self._files[name].read(name)


@dataclass(frozen=True)
class _Stored:
    """What a file says of a tensor."""

    shape: Shape
    dtype: str


@dataclass(frozen=True)
class _OpenFile:
    tensors: dict[str, _Stored]
    read: Callable[[str], torch.Tensor]


def _weight_files(path: Path) -> list[Path]:
    """The file of weights in the folder ``path``, or its shards."""
    for stem, suffix in STEMS.items():
        single = path / f"{stem}.{suffix}"
        index = path / f"{stem}.{suffix}.index.json"
        if single.exists():
            return [single]
        if index.exists():
            return _shards(index, suffix)
    raise CheckpointError(
        f"{path} holds no weights: expected model.safetensors or pytorch_model.bin, or shards",
        DOWNLOAD_AGAIN,
    )


def _shards(index: Path, suffix: str) -> list[Path]:
    """The files that ``index`` names: of the folder in which it lies, and of no other."""
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise CheckpointError(f"{index} names no files", "download or copy it again")
    for place in places.values():
        if not _is_plain(place, suffix):
            raise value_error(f"{index}: weight_map", place, f"the name of a .{suffix} beside it")
    names = sorted(set(places.values()))
    absent = [name for name in names if not (index.parent / name).is_file()]
    if absent:
        raise CheckpointError(
            f"{index} names files that are missing: {labels(absent)}", "download them"
        )
    return [index.parent / name for name in names]


def _is_plain(name: Any, suffix: str) -> bool:
    """Whether ``name`` is that of a file in this folder: of none above, below or elsewhere."""
    if not isinstance(name, str) or not name.endswith(f".{suffix}") or not name.isprintable():
        return False
    if len(name.encode()) > LONGEST_NAME:
        return False
    return not any(separator in name for separator in ("/", "\\", ":"))


def _open(file: Path) -> _OpenFile:
    try:
        check_beginning(file)
        if file.suffix == ".safetensors":
            return _open_safetensors(file)
        return _open_bin(file)
    except CheckpointError:
        raise
    except Exception as error:  # an unpickler raises whatever a file makes it do
        line = next(iter(str(error).splitlines()), type(error).__name__)
        reason = "".join(filter(str.isprintable, line))  # torch colours its own
        raise CheckpointError(
            f"{file} is damaged or cut off ({reason})", "download or copy it again"
        ) from error


def _open_safetensors(file: Path) -> _OpenFile:
    from safetensors import safe_open

    stored = {}
    with utf8_name(file) as path, safe_open(path, framework="pt") as tensors:
        check_format(tensors.metadata() or {}, file)
        for name in tensors.keys():  # noqa: SIM118
            part = tensors.get_slice(name)
            dtype = part.get_dtype()
            stored[name] = _Stored(tuple(part.get_shape()), DTYPES.get(dtype, dtype))

    def read(name: str) -> torch.Tensor:
        # a map of its own: what was read goes when the tensor does
        with utf8_name(file) as path, safe_open(path, framework="pt") as tensors:
            return tensors.get_tensor(name)

    return _OpenFile(stored, read)


def _open_bin(file: Path) -> _OpenFile:
    import torch

    _check_archive(file)
    try:
        with utf8_name(file) as path:
            tensors = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except pickle.UnpicklingError as error:
        # torch's own text would have the reader run it
        strange = STRANGER.search(str(error))
        if strange is not None:
            raise _not_tensors(file, f"it holds {strange[1]}, which would run code") from error
        if REFUSAL in str(error):
            raise _not_tensors(file, "it holds what would run code") from error
        raise
    _check_tensors(tensors, file)
    stored = {}
    for name, tensor in tensors.items():
        stored[name] = _Stored(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))
    return _OpenFile(stored, lambda name: tensors[name].detach().resolve_neg())


def _check_archive(file: Path) -> None:
    """Raise CheckpointError for an archive that does not hold its bytes as they are: torch maps
    them, and unpacks what is compressed without asking how large it becomes.
    """
    with zipfile.ZipFile(file) as archive:
        parts = archive.infolist()
    unpacked = sum(part.file_size for part in parts)
    is_packed = any(part.compress_type != zipfile.ZIP_STORED for part in parts)
    if is_packed or unpacked > file.stat().st_size:
        raise CheckpointError(
            f"{file} unpacks to {unpacked:,} bytes of its {file.stat().st_size:,}; "
            "torch.save packs nothing",
            "load it where it is trusted, and save it again with torch.save",
        )


def _check_tensors(tensors: Any, file: Path) -> None:
    """Raise CheckpointError unless these are tensors by name, each with its own numbers."""
    import torch

    if not isinstance(tensors, dict):
        raise _not_tensors(file, f"it holds {brief(type(tensors).__name__)}")
    if any(isinstance(value, dict) and value for value in tensors.values()):
        raise _trainers(tensors, file)
    storages = dict[int, int]()
    for name, tensor in tensors.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            raise _not_tensors(file, f"{brief(name)} is {type(tensor).__name__}")
        if tensor.layout != torch.strided or tensor.device.type != "cpu":
            raise _not_tensors(file, f"{name} is {tensor.layout} on {tensor.device}")
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        if tensor.nbytes > storage.nbytes():
            raise CheckpointError(
                f"{file}: {name} takes {tensor.nbytes:,} bytes, but the file holds "
                f"{storage.nbytes():,} of it",
                "save it again with every tensor made contiguous",
            )
    if sum(storages.values()) > file.stat().st_size:
        raise ValueError("its tensors are larger than the file")


def _trainers(content: dict[Any, Any], file: Path) -> CheckpointError:
    fix = "save the model's state_dict with torch.save"
    path = _find_tensors(content, INNERMOST)
    if path is not None:
        place = "".join(f"[{brief(key)}]" for key in path)
        name = repr(str(file))
        fix = f"take its weights out: torch.save(torch.load({name}){place}, {name})"
    keys = labels(map(str, content))
    return CheckpointError(
        f"{file} is not a dictionary of tensors but what a trainer saved, with {keys}", fix
    )


def _find_tensors(content: dict[Any, Any], levels: int) -> list[Any] | None:
    """The keys that lead to a dictionary of tensors alone, the nearest first."""
    import torch

    inner = {key: value for key, value in content.items() if isinstance(value, dict) and value}
    for key, value in inner.items():
        if all(isinstance(item, torch.Tensor) for item in value.values()):
            return [key]
    for key, value in inner.items():
        path = _find_tensors(value, levels - 1) if levels else None
        if path is not None:
            return [key, *path]
    return None


def _not_tensors(file: Path, reason: str) -> CheckpointError:
    return CheckpointError(
        f"{file} is not a dictionary of tensors: {reason}",
        "save the model's state_dict with torch.save",
    )
