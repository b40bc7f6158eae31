"""What lies in the place of weights gets the name of what it is, and of what mends it."""

from __future__ import annotations

from pathlib import Path

import pytest
from checkpoints import Copy, refused
from golden import needs_golden

from vpt_edge.export.checkpoint import Checkpoint

pytestmark = needs_golden

FORMS = [  # names, what they are, what mends it
    (["mp_rank_00_model_states.pt", "latest"], "shards of DeepSpeed", "zero_to_fp32.py"),
    (["bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt"], "shards of DeepSpeed", "zero_to_fp32.py"),
    (["global_step500/", "training_args.bin"], "shards of DeepSpeed", "zero_to_fp32.py"),
    (["__0_0.distcp", ".metadata"], "shards of torch.distributed.checkpoint", "merge-weights"),
    (["pytorch_model_fsdp_0/"], "shards of torch.distributed.checkpoint", "merge-weights"),
    (["model_world_size_8_rank_0.pt"], "shards of verl", "verl.model_merger"),
    (["iter_0001000/"], "shards of Megatron-LM", "save_pretrained"),
    (["model-Q4_K_M.gguf"], "GGUF", "export the float checkpoint that was quantized"),
    (["weights.00.npz"], "weights of MLX", "export the checkpoint that these were made of"),
    (["tf_model.h5"], "weights of TensorFlow", "from_tf=True"),
    (["flax_model.msgpack"], "weights of Flax", "from_flax=True"),
    (["openvino_model.bin", "openvino_model.xml"], "graphs that were exported", "made of"),
    (["decoder.onnx"], "graphs that were exported", "made of"),
    (["consolidated.00.pth"], "consolidated weights", "convert"),
    (["model-00001-of-00002.safetensors"], "shards without their index", "copy the index"),
    (["model.fp16.safetensors"], "weights of a variant", "rename"),
    (["last.ckpt"], "PyTorch Lightning", "['state_dict']"),
    (["model.pth"], "a file of torch of another name", "state_dict as pytorch_model.bin"),
    (["weights.bin", "training_args.bin"], "a file of torch of another name", "save_pretrained"),
    (["best.safetensors"], "safetensors of another name", "state_dict as model.safetensors"),
    (["checkpoint-500/", "training_args.bin"], "the checkpoints of a trainer", "export one of"),
    (["snapshots/", "refs/"], "as the Hub's cache has it", "snapshots/…"),
    (["model.safetensors.incomplete"], "a download that is not finished", "finish"),
    (["weights.tar.gz"], "an archive", "unpack it"),
]


@pytest.mark.parametrize("has_config", [True, False])
@pytest.mark.parametrize(("names", "title", "fix"), FORMS, ids=str)
def test_weights_of_another_form_are_named(
    names: list[str], title: str, fix: str, has_config: bool, copy: Copy, tmp_path: Path
) -> None:
    folder = copy("clip") if has_config else tmp_path
    (folder / "model.safetensors").unlink(missing_ok=True)
    for name in names:
        if name.endswith("/"):
            (folder / name).mkdir()
        else:
            (folder / name).touch()
    text = refused(folder)
    assert f"{folder} holds " in text
    assert title in text
    assert names[0].rstrip("/") in text.partition(": found ")[2]
    assert fix in text
    assert "download or copy" not in text


@pytest.mark.parametrize("name", ["global_step500", "checkpoint-1", "latest", "last.ckpt"])
def test_what_a_trainer_leaves_beside_whole_weights_is_nothing(name: str, copy: Copy) -> None:
    folder = copy("clip")
    (folder / name).mkdir()
    Checkpoint.open(str(folder))


def test_a_folder_without_weights_is_named(copy: Copy) -> None:
    folder = copy("clip")
    (folder / "model.safetensors").unlink()
    (folder / "training_args.bin").touch()
    (folder / "optimizer.pt").touch()
    assert "holds no weights: expected model.safetensors or pytorch_model.bin" in refused(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin.index.json"])
def test_a_link_to_weights_that_are_not_there_is_named(name: str, copy: Copy) -> None:
    folder = copy("clip")
    (folder / "model.safetensors").unlink()
    (folder / name).symlink_to(folder / "annex" / "objects")
    assert f"{name} is a link to a file that is missing; fetch it: dvc pull" in refused(folder)


BEGINNINGS = [  # of a file, its name, what it is
    (b"version https://git-lfs.github.com/spec/v1\n", "model.safetensors", "pointer of Git LFS"),
    (b"# xet version 0\n", "pytorch_model.bin", "a pointer of Xet"),
    (b"GGUF\3\0\0\0", "model.safetensors", "GGUF"),
    (b"\x89HDF\r\n", "pytorch_model.bin", "a file of HDF5"),
    (b"<!DOCTYPE html><html>", "model.safetensors", "a page of a website"),
    (b"<HTML>", "pytorch_model.bin", "a page of a website"),
    (b'{"error":"Repository not found"}', "model.safetensors", "a page of a website"),
    (b"\x1f\x8b\x08", "pytorch_model.bin", "packed; unpack it: gunzip"),
    (b"PK\3\4", "model.safetensors", "was written by torch.save; rename it to pytorch_model.bin"),
    (b"\x80\2", "model.safetensors", "was written by torch.save"),
    (b"\2\0\0\0\0\0\0\0{}   ", "pytorch_model.bin", "safetensors; rename it to model.safet"),
]


@pytest.mark.parametrize(("beginning", "name", "told"), BEGINNINGS, ids=str)
def test_what_lies_in_the_place_of_weights_is_named(
    beginning: bytes, name: str, told: str, copy: Copy
) -> None:
    folder = copy("clip")
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(beginning)
    text = refused(folder)
    assert f"{folder / name} " in text
    assert told in text


@pytest.mark.parametrize("name", ["model.pth", "weights.ckpt", "model-Q4_K_M.gguf"])
def test_weights_of_another_name_are_named(name: str, copy: Copy) -> None:
    folder = copy("clip")
    (folder / "model.safetensors").rename(folder / name)
    text = refused(folder)
    assert f"found {name}; " in text
    assert "download" not in text
