"""Weights in every form in which checkpoints have them, and files that are broken."""

from __future__ import annotations

import json
import os
import struct
import sys
import zipfile
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import MODELS, NAMES, Copy, Tensors, refused
from golden import needs_golden
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from vpt_edge.export.checkpoint import Checkpoint
from vpt_edge.export.tensor_files import TensorFiles
from vpt_edge.runtime.errors import CheckpointError

pytestmark = needs_golden


@pytest.mark.parametrize("share", [0, 0.001, 0.5, 0.999])
def test_cut_off_safetensors_are_refused(share: float, copy: Copy) -> None:
    file = copy("clip") / "model.safetensors"
    data = file.read_bytes()
    file.write_bytes(data[: int(share * len(data))])
    assert "model.safetensors is damaged or cut off" in refused(file.parent)


def same(folder: Path, name: str) -> None:
    """``folder`` holds the tensors of the golden checkpoint ``name``."""
    checkpoint, tensors = (
        Checkpoint.open(str(folder)),
        load_file(MODELS / name / "model.safetensors"),
    )
    assert all(torch.equal(checkpoint.read(tensor), value) for tensor, value in tensors.items())


def shards(
    folder: Path, name: str, stem: str, suffix: str, save: Callable[[Tensors, Path], object]
) -> None:
    """Write the tensors in two files and their index."""
    tensors = load_file(MODELS / name / "model.safetensors")
    (folder / "model.safetensors").unlink()
    half, weight_map = len(tensors) // 2, dict[str, str]()
    for index, part in enumerate((list(tensors)[:half], list(tensors)[half:])):
        file = f"{stem}-{index + 1:05d}-of-00002.{suffix}"
        save({tensor: tensors[tensor] for tensor in part}, folder / file)
        weight_map |= dict.fromkeys(part, file)
    listing = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    (folder / f"{stem}.{suffix}.index.json").write_text(json.dumps(listing), "utf-8")


SHARDED = [("model", "safetensors", save_file), ("pytorch_model", "bin", torch.save)]


@pytest.mark.parametrize(("stem", "suffix", "save"), SHARDED)
@pytest.mark.parametrize("name", ["clip_untied", "seg"])
def test_shards_read_alike(name: str, stem: str, suffix: str, save: Any, copy: Copy) -> None:
    folder = copy(name)
    shards(folder, name, stem, suffix, save)
    same(folder, name)


@pytest.mark.parametrize(("stem", "suffix", "save"), SHARDED)
def test_a_missing_shard_is_named(stem: str, suffix: str, save: Any, copy: Copy) -> None:
    folder = copy("clip")
    shards(folder, "clip", stem, suffix, save)
    (folder / f"{stem}-00002-of-00002.{suffix}").unlink()
    assert f"{stem}-00002-of-00002.{suffix}" in refused(folder)


def test_an_index_without_files_is_refused(copy: Copy) -> None:
    folder = copy("clip")
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text("{}", "utf-8")
    assert "model.safetensors.index.json" in refused(folder)


def as_bin(folder: Path) -> Path:
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(tensors, folder / "pytorch_model.bin")
    return folder / "pytorch_model.bin"


@pytest.mark.parametrize("name", NAMES)
def test_pytorch_files_read_alike(name: str, copy: Copy) -> None:
    folder = copy(name)
    as_bin(folder)
    same(folder, name)


@pytest.mark.parametrize("share", [0, 0.001, 0.5, 0.999])
def test_cut_off_pytorch_files_are_refused(share: float, copy: Copy) -> None:
    file = as_bin(copy("clip"))
    data = file.read_bytes()
    file.write_bytes(data[: int(share * len(data))])
    assert "pytorch_model.bin is damaged or cut off" in refused(file.parent)


def small_file(save: Callable[[Tensors, Path], object]) -> bytes:
    """Two tensors, as a file."""
    with TemporaryDirectory() as folder:
        save({"model.norm.weight": torch.ones(8), "lm_head": torch.ones(4, 8)}, Path(folder) / "x")
        return (Path(folder) / "x").read_bytes()


SMALL = {"model.safetensors": small_file(save_file), "pytorch_model.bin": small_file(torch.save)}


class Stranger:
    """What runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return Path.touch, (Path("touched"),)  # type: ignore[return-value]


def test_pytorch_files_run_no_code(copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = copy("clip")
    monkeypatch.chdir(folder)
    torch.save({"model.norm.weight": Stranger()}, as_bin(folder))
    text = refused(folder)
    assert "pytorch_model.bin is not a dictionary of tensors: it holds getattr, which would" in text
    assert text.isprintable()
    assert not (folder / "touched").exists()


@pytest.mark.parametrize(
    ("call", "name"), [(os.system, f"{os.system.__module__}.system"), (eval, "eval")]
)
def test_what_torch_would_have_the_reader_run_is_not_advised(
    call: Any, name: str, copy: Copy
) -> None:
    class Caller:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return call, ("exit 1",)

    folder = copy("clip")
    torch.save({"model.norm.weight": Caller()}, as_bin(folder))
    text = refused(folder)
    assert f"it holds {name}, which would run code" in text
    assert "weights_only" not in text


def test_an_operand_that_torch_refuses_is_not_advised(copy: Copy) -> None:
    file = as_bin(copy("clip"))
    with zipfile.ZipFile(file) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in parts.items():
            is_pickle = name.endswith("data.pkl")
            archive.writestr(name, b"\x80\x02(ios\nsystem\n." if is_pickle else data)
    text = refused(file.parent)
    assert "it holds what would run code" in text
    assert "weights_only" not in text


def test_objects_beside_the_weights_are_named(copy: Copy) -> None:
    folder = copy("clip")
    state = {"model": {"model.norm.weight": torch.zeros(64)}, "args": Namespace(epochs=3)}
    torch.save(state, as_bin(folder))
    assert "it holds argparse.Namespace, which would run code; save the model's" in refused(folder)


@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_a_file_with_other_bytes_is_read_or_refused(data: st.DataObject, tmp_path: Path) -> None:
    """In the parts that say what a file holds, and anywhere."""
    name = data.draw(st.sampled_from(["model.safetensors", "pytorch_model.bin"]))
    file = tmp_path / name
    content = bytearray(SMALL[name])
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, 700) | st.integers(0, len(content) - 1))
        content[place : place + data.draw(st.integers(0, 20))] = data.draw(st.binary(max_size=20))
    file.write_bytes(content)
    try:
        tensors = TensorFiles(tmp_path)
        for tensor in tensors.shapes:
            assert tuple(tensors.read(tensor).shape) == tensors.shapes[tensor]
    except CheckpointError:
        pass
    finally:
        file.unlink()


@pytest.mark.parametrize("content", [[torch.zeros(1)], {"model.norm.weight": 3}])
def test_pytorch_files_hold_tensors_by_name(content: Any, copy: Copy) -> None:
    folder = copy("clip")
    torch.save(content, as_bin(folder))
    assert "not a dictionary of tensors" in refused(folder)


def test_safetensors_go_before_pytorch_files(copy: Copy) -> None:
    folder = copy("clip")
    (folder / "pytorch_model.bin").write_bytes(b"damaged")
    same(folder, "clip")


@pytest.mark.parametrize("save", [save_file, torch.save])
@pytest.mark.parametrize(
    "dtype",
    [torch.int8, torch.uint8, torch.int32, torch.int64, torch.float8_e4m3fn, torch.float8_e5m2],
)
def test_weights_that_are_not_numbers_are_named(dtype: torch.dtype, save: Any, copy: Copy) -> None:
    folder = copy("clip")
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    tensors["model.norm.weight"] = tensors["model.norm.weight"].to(dtype)
    name = "model.safetensors" if save is save_file else "pytorch_model.bin"
    save(tensors, folder / name)
    text = refused(folder)
    assert f"model.norm.weight is {str(dtype).removeprefix('torch.')}, expected" in text
    assert "export the float checkpoint that was quantized" in text


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_every_float_are_taken(dtype: torch.dtype, copy: Copy) -> None:
    folder = copy("clip")
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    save_file(
        {name: tensor.to(dtype) for name, tensor in tensors.items()}, folder / "model.safetensors"
    )
    assert Checkpoint.open(str(folder)).read("model.norm.weight").dtype == dtype


@pytest.mark.parametrize(
    "name",
    [
        "../model.safetensors",
        "/etc/passwd",
        "/tmp/model.safetensors",
        "folder/model.safetensors",
        "..\\model.safetensors",
        "C:model.safetensors",
        "model.bin",
        f"{300 * 'x'}.safetensors",
        "",
        "\x1b[2J.safetensors",
        None,
        3,
        ["model.safetensors"],
    ],
)
def test_an_index_names_plain_files_alone(name: Any, copy: Copy) -> None:
    folder = copy("clip")
    (folder / "folder").mkdir()
    for place in (folder.parent, folder / "folder"):
        (place / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    (folder / "model.safetensors").unlink()
    listing = {"weight_map": {"model.norm.weight": name}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(listing), "utf-8")
    assert "weight_map is " in refused(folder)


@pytest.mark.parametrize("places", [None, [], {}, "model.safetensors", 3])
def test_an_index_of_something_else_is_refused(places: Any, copy: Copy) -> None:
    folder = copy("clip")
    (folder / "model.safetensors").unlink()
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": places}), "utf-8")
    assert f"{index} names no files" in refused(folder)


def test_of_many_missing_shards_some_are_named(copy: Copy) -> None:
    folder = copy("clip")
    (folder / "model.safetensors").unlink()
    places = {str(number): f"{number}.safetensors" for number in range(10_000)}
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": places}), "utf-8")
    assert "and 9995 more" in refused(folder)


def test_a_tensor_in_two_shards_is_named(copy: Copy) -> None:
    folder = copy("clip")
    shards(folder, "clip", "model", "safetensors", save_file)
    extra = {"model.norm.weight": torch.zeros(64)}
    for part in (1, 2):
        file = folder / f"model-{part:05d}-of-00002.safetensors"
        save_file({**load_file(file), **extra}, file)
    assert "two files hold model.norm.weight" in refused(folder)


def repack(file: Path, change: Callable[[zipfile.ZipInfo, bytes], tuple[int, bytes]]) -> None:
    """Write the parts of an archive again, each with a compression."""
    with zipfile.ZipFile(file) as archive:
        parts = [(part, archive.read(part)) for part in archive.infolist()]
    with zipfile.ZipFile(file, "w") as archive:
        for part, data in parts:
            compression, changed = change(part, data)
            archive.writestr(part.filename, changed, compression)


def test_a_file_that_unpacks_to_more_than_it_holds_is_refused_unread(copy: Copy) -> None:
    folder = copy("clip")
    file = as_bin(folder)
    bomb = b"\x80\x02" + b"0" * (1 << 25)

    def change(part: zipfile.ZipInfo, data: bytes) -> tuple[int, bytes]:
        if part.filename.endswith("data.pkl"):
            return zipfile.ZIP_DEFLATED, bomb
        return zipfile.ZIP_STORED, data

    repack(file, change)
    assert file.stat().st_size < 4 << 20
    assert f"{file} unpacks to " in refused(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_pointer_of_git_lfs_is_named(name: str, copy: Copy) -> None:
    folder = copy("clip")
    (folder / "model.safetensors").unlink()
    (folder / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    assert f"{name} is a pointer of Git LFS, not the weights; git lfs pull" in refused(folder)


def test_a_file_of_an_old_torch_is_named(copy: Copy) -> None:
    folder = copy("clip")
    tensors = load_file(folder / "model.safetensors")
    torch.save(tensors, as_bin(folder), _use_new_zipfile_serialization=False)
    assert "was saved as torch did before 1.6" in refused(folder)


def test_a_file_that_is_packed_is_refused(copy: Copy) -> None:
    file = as_bin(copy("clip"))
    repack(file, lambda part, data: (zipfile.ZIP_DEFLATED, data))
    assert "torch.save packs nothing" in refused(file.parent)


def test_a_tensor_that_repeats_a_number_is_refused(copy: Copy) -> None:
    folder = copy("clip")
    tensors = load_file(folder / "model.safetensors")
    tensors["model.embed_tokens.weight"] = torch.ones(1, 1).expand(1024, 64)
    torch.save(tensors, as_bin(folder))
    assert "model.embed_tokens.weight takes 262,144 bytes, but the file holds 4 of" in refused(
        folder
    )


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(64).to_sparse(),
        torch.zeros(64, device="meta"),
    ],
)
def test_tensors_without_their_numbers_are_refused(tensor: torch.Tensor, copy: Copy) -> None:
    folder = copy("clip")
    torch.save({"model.norm.weight": tensor}, as_bin(folder))
    assert "pytorch_model.bin is not a dictionary of tensors: model.norm.weight is" in refused(
        folder
    )


def transposed(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.t().contiguous().t()


def negated(tensor: torch.Tensor) -> torch.Tensor:
    """A view whose numbers are negated when they are read."""
    view: torch.Tensor = torch._neg_view(-tensor)
    assert view.is_neg()
    return view


def rows_between(tensor: torch.Tensor) -> torch.Tensor:
    """A view of every other row of a larger tensor."""
    larger = torch.zeros(2 * len(tensor), *tensor.shape[1:])
    larger[::2] = tensor
    return larger[::2]


def rows_behind(tensor: torch.Tensor) -> torch.Tensor:
    return torch.cat((torch.zeros(5, *tensor.shape[1:]), tensor))[5:]


def imaginary(tensor: torch.Tensor) -> torch.Tensor:
    return torch.complex(tensor, -tensor).conj().imag


@pytest.mark.parametrize(
    "change", [transposed, negated, rows_between, rows_behind, imaginary, torch.nn.Buffer]
)
def test_views_are_the_numbers_that_they_show(
    change: Callable[[torch.Tensor], torch.Tensor], copy: Copy
) -> None:
    folder = copy("clip")
    tensors = load_file(MODELS / "clip" / "model.safetensors")
    name = "model.layers.0.self_attn.q_proj.weight"
    torch.save({**tensors, name: change(tensors[name])}, as_bin(folder))
    array = Checkpoint.open(str(folder)).read(name).numpy()
    assert np.array_equal(array, tensors[name].numpy())


def test_tensors_may_share_their_storage(copy: Copy) -> None:
    folder = copy("clip")
    tensors = load_file(MODELS / "clip" / "model.safetensors")
    storage = torch.cat([tensor.flatten() for tensor in tensors.values()])
    parts = storage.split([tensor.numel() for tensor in tensors.values()])
    pairs = zip(tensors.items(), parts, strict=True)
    torch.save({name: part.view(tensor.shape) for (name, tensor), part in pairs}, as_bin(folder))
    same(folder, "clip")


@pytest.mark.parametrize(
    ("metadata", "library"), [({"format": "tf"}, "TensorFlow"), ({"format": "flax"}, "Flax")]
)
def test_safetensors_of_another_library_are_named(
    metadata: dict[str, str], library: str, copy: Copy
) -> None:
    folder = copy("clip")
    tensors = load_file(MODELS / "clip" / "model.safetensors")
    (folder / "model.safetensors").unlink()
    save_file(tensors, folder / "model.safetensors", metadata=metadata)
    assert f"model.safetensors holds weights of {library}, which have" in refused(folder)


def test_parameters_are_tensors(copy: Copy) -> None:
    folder = copy("clip")
    file = as_bin(folder)
    tensors = load_file(MODELS / "clip" / "model.safetensors")
    torch.save({name: torch.nn.Parameter(tensor) for name, tensor in tensors.items()}, file)
    assert Checkpoint.open(str(folder)).read("model.norm.weight").numpy().shape == (64,)


def header(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the header of a safetensors file, not the data behind it."""
    data = file.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    entries = json.loads(data[8 : 8 + length])
    change(entries)
    text = json.dumps(entries).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])


LIES: dict[str, Callable[[dict[str, Any]], object]] = {
    "shape": lambda entries: entries["model.norm.weight"].update(shape=[1 << 40]),
    "dtype": lambda entries: entries["model.norm.weight"].update(dtype="F64"),
    "unknown dtype": lambda entries: entries["model.norm.weight"].update(dtype="F31"),
    "beyond": lambda entries: entries["model.norm.weight"].update(data_offsets=[0, 1 << 60]),
    "backwards": lambda entries: entries["model.norm.weight"].update(data_offsets=[256, 0]),
    "negative": lambda entries: entries["model.norm.weight"].update(data_offsets=[-256, 0]),
    "overlap": lambda entries: entries["model.norm.weight"].update(data_offsets=[0, 256]),
    "hole": lambda entries: entries.pop("model.norm.weight"),
    "text": lambda entries: entries.update({"model.norm.weight": "zeros"}),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_header_that_lies_is_refused(lie: str, copy: Copy) -> None:
    file = copy("clip") / "model.safetensors"
    header(file, LIES[lie])
    assert "model.safetensors is damaged or cut off" in refused(file.parent)


@pytest.mark.parametrize("length", [0, 1, 1 << 20, 1 << 40, (1 << 64) - 1])
def test_a_header_of_another_length_is_refused(length: int, copy: Copy) -> None:
    file = copy("clip") / "model.safetensors"
    data = file.read_bytes()
    file.write_bytes(struct.pack("<Q", length) + data[8:])
    assert "model.safetensors is damaged or cut off" in refused(file.parent)


@pytest.mark.skipif(sys.platform != "linux", reason="names of other systems are UTF-8")
@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_a_folder_whose_name_is_not_utf8_is_read(suffix: str, copy: Copy) -> None:
    folder = copy("clip")
    if suffix == "bin":
        torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
    same(folder.rename(folder.with_name(os.fsdecode(b"c\xe9"))), "clip")


@pytest.mark.parametrize("key", ["model", "state_dict", "module"])
def test_what_a_trainer_saved_is_named(key: str, copy: Copy) -> None:
    folder = copy("clip")
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save({"epoch": 3, key: tensors}, folder / "pytorch_model.bin")
    text = refused(folder)
    assert f"what a trainer saved, with epoch, {key}; take its weights out: " in text
    assert f")['{key}']" in text


@pytest.mark.parametrize(
    ("wrap", "place"),
    [
        (lambda sd: {"optimizer": {"state": {}, "param_groups": [1]}, "model": sd}, "['model']"),
        (lambda sd: {"state_dict": {"epoch": 3, "model": sd}}, "['state_dict']['model']"),
        (lambda sd: {"hyper_parameters": {"lr": 1.0}, "state_dict": sd}, "['state_dict']"),
        (lambda sd: {"args": {"lr": 1.0}, 0: {"a": {"b": sd}}}, "[0]['a']['b']"),
    ],
)
def test_the_weights_in_what_a_trainer_saved_are_found(wrap: Any, place: str, copy: Copy) -> None:
    folder = copy("clip")
    tensors = load_file(folder / "model.safetensors")
    torch.save(wrap(tensors), as_bin(folder))
    assert f"pytorch_model.bin'){place}, '" in refused(folder)


def test_what_a_trainer_saved_without_weights_is_named(copy: Copy) -> None:
    folder = copy("clip")
    state: dict[str, Any] = {"lr": 1.0}
    state["self"] = state
    torch.save({"optimizer": {"state": {}, "groups": [1]}, "args": state}, as_bin(folder))
    text = refused(folder)
    assert "what a trainer saved, with args, optimizer; save the model's state_dict" in text
