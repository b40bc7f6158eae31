"""The checkpoint of real shape: the released names and shapes, sharded files that open, outliers,
the same by seed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from golden import SHARED

from benchmarks import big_checkpoint
from benchmarks.plain_configs import CONFIGS
from vpt_edge.export.checkpoint import Checkpoint

KEYS = SHARED / "checkpoint_keys"
SMALL = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_attention_heads": 1,
    "num_key_value_heads": 1,
    "vocab_size": 151936,
}
DINOV2 = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}


def small(kind: str, tied: bool = True) -> dict[str, Any]:
    config = big_checkpoint.make_config(kind, "2b", layers=3, blocks=2)
    vision = {
        **config["vision_config"],
        "hidden_size": SMALL["hidden_size"],
        "embed_dim": 64,
        "num_heads": 2,
    }
    return {**config, **SMALL, "vision_config": vision, "tie_word_embeddings": tied}


@pytest.mark.skipif(
    not KEYS.is_dir(), reason=f"no names of the released checkpoints at {KEYS}; set VPT_SHARED"
)
@pytest.mark.parametrize(
    ("kind", "size"), [("clip", "2b"), ("detection", "2b"), ("seg", "2b"), ("clip", "7b")]
)
def test_names_and_shapes_are_those_of_the_released_models(
    kind: str, size: str, tmp_path: Path
) -> None:
    found = big_checkpoint.expected_shapes(big_checkpoint.make_config(kind, size), tmp_path)
    short = {"detection": "det"}.get(kind, kind)
    released = json.loads((KEYS / f"state_dict_{size}_{short}.json").read_text("utf-8"))
    assert {name: list(shape) for name, shape in found.items()} == released


@pytest.mark.parametrize("kind", ["clip", "detection"])
@pytest.mark.parametrize("shared", [True, False], ids=["real words", "bytes alone"])
def test_the_shards_open_as_a_checkpoint(
    kind: str, shared: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not shared:
        monkeypatch.setenv("VPT_SHARED", str(tmp_path / "nothing"))
    (tmp_path / "detection_model_config.json").write_text(json.dumps(DINOV2))
    big_checkpoint.write_checkpoint(small(kind), tmp_path, shard_bytes=50_000_000)
    checkpoint = Checkpoint.open(str(tmp_path))
    assert checkpoint.kind == kind
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    files = set(index["weight_map"].values())
    assert len(files) > 1 and all(
        file.endswith(f"-of-{len(files):05}.safetensors") for file in files
    )
    held = sum((tmp_path / file).stat().st_size for file in files)
    assert 0 <= held - index["metadata"]["total_size"] < 100_000  # headers
    for name, shape in checkpoint.model.tensors().items():
        tensor = checkpoint.read(name)
        assert tensor.dtype == torch.bfloat16 and tuple(tensor.shape) == shape
    assert torch.equal(
        checkpoint.read("lm_head.weight"), checkpoint.read("model.embed_tokens.weight")
    )


def test_some_norms_have_a_few_channels_that_are_much_larger(tmp_path: Path) -> None:
    big_checkpoint.write_checkpoint(small("clip"), tmp_path)
    checkpoint = Checkpoint.open(str(tmp_path))
    loud = dict[str, torch.Tensor]()
    for name, shape in checkpoint.model.tensors().items():
        weight = checkpoint.read(name).float()
        if "norm" in name and name.endswith("weight") and len(shape) == 1 and weight.max() > 10:
            loud[name] = (weight > 10).nonzero().flatten()
            assert len(loud[name]) == 6 and weight.max() < 100
    assert 2 < len(loud) < 14
    assert (
        len({tuple(found.tolist()) for name, found in loud.items() if name.startswith("model.")})
        == 1
    )


def test_the_same_seed_gives_the_same_tensors_whatever_the_number_of_layers(tmp_path: Path) -> None:
    for name, layers, seed in (("one", 3, 0), ("two", 1, 0), ("other", 1, 1)):
        config = {**small("clip", tied=False), "num_hidden_layers": layers}
        big_checkpoint.write_checkpoint(config, tmp_path / name, seed)
    one, two, other = (Checkpoint.open(str(tmp_path / name)) for name in ("one", "two", "other"))
    for name in two.model.tensors():
        assert torch.equal(one.read(name), two.read(name)), name
    assert not torch.equal(other.read("lm_head.weight"), two.read("lm_head.weight"))
    assert not torch.equal(two.read("lm_head.weight"), two.read("model.embed_tokens.weight"))


@pytest.mark.parametrize("name", [name for name in CONFIGS if name.startswith("qwen3-vl")])
def test_a_qwen3_vl_opens(name: str, tmp_path: Path) -> None:
    config = CONFIGS[name]
    depth = config["vision_config"]["depth"]
    width = config["vision_config"]["hidden_size"]
    shapes = big_checkpoint.expected_shapes(config, tmp_path)
    assert shapes[f"visual.blocks.{depth - 1}.attn.qkv.weight"] == (3 * width, width)
    hidden = SMALL["hidden_size"]
    text = {**config["text_config"], "hidden_size": hidden, "num_hidden_layers": 3}
    text |= {"intermediate_size": 64, "num_attention_heads": 8}
    vision = {**config["vision_config"], "depth": 3, "deepstack_visual_indexes": [0, 1]}
    vision |= {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_heads": 2,
        "out_hidden_size": hidden,
    }
    small = {**config, "text_config": text, "vision_config": vision}
    big_checkpoint.write_checkpoint(small, tmp_path)
    checkpoint = Checkpoint.open(str(tmp_path))
    assert checkpoint.perception.block["name"] == "none"
    assert checkpoint.tied is config["tie_word_embeddings"]
    assert checkpoint.image.max_pixels == 16777216
    norm = checkpoint.read("model.layers.0.self_attn.q_norm.weight")
    assert norm.shape == (128,)
    assert norm.max() < 2  # no outliers there: they would leave one key to each query


@pytest.mark.parametrize("name", [name for name in CONFIGS if name.startswith("qwen2.5-vl")])
def test_a_qwen2_5_vl_opens(name: str, tmp_path: Path) -> None:
    config = CONFIGS[name]
    shapes = big_checkpoint.expected_shapes(config, tmp_path)
    assert shapes["visual.blocks.31.attn.qkv.weight"] == (3840, 1280)
    text = {**SMALL, "vocab_size": config["vocab_size"], "num_hidden_layers": 1}
    vision = {
        **config["vision_config"],
        "depth": 2,
        "fullatt_block_indexes": [1],
        "hidden_size": 64,
        "intermediate_size": 92,
        "num_heads": 2,
        "out_hidden_size": SMALL["hidden_size"],
    }
    big_checkpoint.write_checkpoint({**config, **text, "vision_config": vision}, tmp_path)
    checkpoint = Checkpoint.open(str(tmp_path))
    assert checkpoint.perception.block["name"] == "none"
    assert checkpoint.tied is config["tie_word_embeddings"]
