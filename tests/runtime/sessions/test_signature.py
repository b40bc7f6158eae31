"""A graph's inputs and outputs are those that the manifest promises, by name, dtype and size."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from emulated import build_plans, emulated
from emulated.graphs import DOUBLE, WIDTH, small_bundle

from vpt_edge.runtime import Bundle
from vpt_edge.runtime.errors import SessionError
from vpt_edge.runtime.manifest import Graph, Tensor
from vpt_edge.runtime.sessions import open_session
from vpt_edge.runtime.sessions.signature import Signature, check_signatures

GRAPH = Graph(
    "decoder.onnx",
    (Tensor("past", "float16", (1, 2, "capacity", 8)), Tensor("filled", "int32", ())),
    (Tensor("logits", "float32", (1, 320)),),
    {"capacity": (1, 512, 512)},
)
PAST = Signature("float16", (1, 2, "capacity", 8))
FILLED = Signature("int32", ())
LOGITS = Signature("float32", (1, 320))


def check(past: Signature = PAST, filled: Signature = FILLED, logits: Signature = LOGITS) -> None:
    check_signatures(GRAPH, {"past": past, "filled": filled}, {"logits": logits})


@pytest.mark.parametrize("side", ["capacity", "another_name", None])
def test_a_dynamic_side_fits_any_size(side: str | None) -> None:
    check(past=Signature("float16", (1, 2, side, 8)))
    check(past=Signature("float16", (side, side, side, side)), logits=LOGITS)


def test_a_fixed_side_fits_where_the_manifest_knows_no_other_size() -> None:
    one = dataclasses.replace(GRAPH, bounds={"capacity": (512, 512, 512)})
    signatures = {"past": Signature("float16", (1, 2, 512, 8)), "filled": FILLED}
    check_signatures(one, signatures, {"logits": LOGITS})
    with pytest.raises(SessionError, match="the input past: found float16"):
        check_signatures(GRAPH, signatures, {"logits": LOGITS})


@pytest.mark.parametrize(
    ("past", "found"),
    [
        (Signature("float32", PAST.shape), "found float32 (1, 2, 'capacity', 8)"),
        (Signature("float16", (1, 4, "capacity", 8)), "found float16 (1, 4, 'capacity', 8)"),
        (Signature("float16", (1, 2, None, 16)), "found float16 (1, 2, None, 16)"),
        (Signature("float16", (1, 2, "capacity")), "found float16 (1, 2, 'capacity')"),
        (Signature("float16", ()), "found float16 ()"),
        (Signature("seq(tensor(float16))", PAST.shape), "found 'seq(tensor(float16))'"),
    ],
)
def test_another_dtype_or_size_is_named(past: Signature, found: str) -> None:
    with pytest.raises(SessionError) as caught:
        check(past=past)
    text = str(caught.value)
    assert text.startswith("decoder.onnx and manifest.json differ in the input past: found ")
    assert found in text
    assert text.endswith(
        "expected float16 (1, 2, 'capacity', 8); export the checkpoint again: "
        "vpt-export CHECKPOINT -o BUNDLE"
    )


def test_outputs_are_compared_too() -> None:
    with pytest.raises(SessionError, match=r"the output logits: found float32 \(1, 321\)"):
        check(logits=Signature("float32", (1, 321)))


def test_a_graph_cannot_make_the_error_long() -> None:
    with pytest.raises(SessionError) as caught:
        check(past=Signature("float16", ("x\n" * 10_000, *range(10_000))))
    assert len(str(caught.value)) < 500


WIDE = dataclasses.replace(DOUBLE, inputs=(Tensor("x", "float32", (1, "count", 2 * WIDTH)),))
DIFFERENCE = (
    rf"double\.onnx and manifest\.json differ in the input x: found float32 \(1, \S+, {WIDTH}\), "
    rf"expected float32 \(1, 'count', {2 * WIDTH}\)"
)


def open_wide(bundle: Bundle, device: str) -> None:
    """Open the graph double where the manifest has its input twice as wide."""
    graphs = {**bundle.manifest.graphs, "double": WIDE}
    wide = Bundle(bundle.path, dataclasses.replace(bundle.manifest, graphs=graphs))
    open_session(wide, "double", device)


def test_onnx_runtime_tells(tmp_path: Path) -> None:
    with pytest.raises(SessionError, match=DIFFERENCE):
        open_wide(small_bundle(tmp_path, "onnxruntime"), "cpu")


@pytest.mark.parametrize(
    ("library", "version"), [("tensorrt", "10.3.0"), ("tensorrt-rtx", "1.7.1")]
)
def test_an_engine_tells(library: str, version: str, tmp_path: Path) -> None:
    bundle = small_bundle(tmp_path)
    with emulated(version, library=library):
        build_plans(bundle, library)
        open_session(bundle, "double", library).close()
        with pytest.raises(SessionError, match=DIFFERENCE):
            open_wide(bundle, library)
