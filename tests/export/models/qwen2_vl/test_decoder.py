"""Where the decoder's weights come from."""

from __future__ import annotations

from checkpoints import MODELS, Copy, Tensors, change_tensors, refused
from golden import needs_golden

from vpt_edge.export.checkpoint import Checkpoint

pytestmark = needs_golden


def source(checkpoint: Checkpoint, parameter: str) -> str:
    """The tensor behind a parameter of the decoder."""
    return checkpoint.specs("onnxruntime", "float32", 64)["decoder"].tensor_name(parameter)


def test_a_separate_head_of_a_tied_checkpoint_is_the_table_too() -> None:
    checkpoint = Checkpoint.open(str(MODELS / "clip"))
    assert checkpoint.embeddings_tensor == "lm_head.weight"
    assert source(checkpoint, "lm_head.weight") == "lm_head.weight"


def test_a_tied_checkpoint_without_a_head_takes_the_table() -> None:
    checkpoint = Checkpoint.open(str(MODELS / "det"))
    assert checkpoint.embeddings_tensor == "model.embed_tokens.weight"
    assert source(checkpoint, "lm_head.weight") == "model.embed_tokens.weight"


def test_an_untied_checkpoint_has_both() -> None:
    checkpoint = Checkpoint.open(str(MODELS / "clip_untied"))
    assert checkpoint.embeddings_tensor == "model.embed_tokens.weight"
    assert source(checkpoint, "lm_head.weight") == "lm_head.weight"
    assert source(checkpoint, "norm.weight") == "model.norm.weight"


def test_an_untied_checkpoint_without_a_head_is_refused(copy: Copy) -> None:
    folder = copy("clip_untied")
    change_tensors(folder, lambda tensors: tensors.pop("lm_head.weight"))
    assert "missing lm_head.weight" in refused(folder)


def test_a_separate_head_of_other_numbers_is_told(copy: Copy) -> None:
    folder = copy("clip")
    assert Checkpoint.open(str(folder)).notes == ()
    change_tensors(folder, lambda tensors: tensors["lm_head.weight"].mul_(2))
    checkpoint = Checkpoint.open(str(folder))
    (note,) = checkpoint.notes
    assert note.startswith("the checkpoint holds lm_head.weight and model.embed_tokens.weight with")
    assert source(checkpoint, "lm_head.weight") == checkpoint.embeddings_tensor == "lm_head.weight"


def test_a_separate_head_of_the_same_numbers_in_another_dtype_is_not_told(copy: Copy) -> None:
    folder = copy("clip")

    def change(tensors: Tensors) -> None:
        tensors["lm_head.weight"] = tensors["lm_head.weight"].double()

    change_tensors(folder, change)
    assert Checkpoint.open(str(folder)).notes == ()
