"""From a turn's text to what is looked at again."""

from __future__ import annotations

from typing import Any

import pytest
from golden import needs_golden
from hypothesis import example, given
from hypothesis import strategies as st
from tables import table

from vpt_edge.runtime.perception.actions import Crop, Decision, Reencode
from vpt_edge.runtime.perception.vpt import KINDS, crop_box, decide, without_triggers

SIZE = (640, 480)
GRAMMAR = table("region_grammar")
ENCODERS = {"clip": "clip", "dino": "detection", "sam": "seg"}

cell = st.integers(0, 7)
side = st.integers(1, 5000)
texts = st.lists(
    st.one_of(
        st.sampled_from(
            [
                "<|region_token_start|>",
                "<|region_token_end|>",
                "<|x_8|>",
                "<|",
                "|>",
                "x_3",
                " ",
                "\n",
                "٣",
            ]
        ),
        st.builds("<|{}_{}|>".format, st.sampled_from("xy"), cell),
        st.builds(
            "<|{}_action{}|>".format,
            st.sampled_from(KINDS),
            st.sampled_from(["", "_start", "_end"]),
        ),
        st.text(max_size=3),
    ),
    max_size=12,
).map("".join)


def region(*cells: str) -> str:
    tokens = "".join(f"<|{cell}|>" for cell in cells)
    return f"<|region_token_start|>{tokens}<|region_token_end|>"


def action(kind: str) -> str:
    return f"<|{kind}_action_start|><|{kind}_action|><|{kind}_action_end|>"


def own_kind(row: dict[str, Any]) -> str:
    """The kind of the checkpoint that could have said this."""
    for name, said in row["kinds"].items():
        if said and name in ENCODERS:
            return ENCODERS[name]
    return "clip"


@needs_golden
@pytest.mark.parametrize("row", GRAMMAR.get("cases", []), ids=lambda row: row["text"][:60])
def test_region_grammar_is_the_authors(row: dict[str, Any]) -> None:
    decision = decide(row["text"], tuple(GRAMMAR["image_size"]), own_kind(row))
    match row["outcome"].split(":"):
        case ["final"]:
            mixed = sum(row["kinds"].values()) > 1
            assert decision == Decision((), "mixed_triggers" if mixed else "answer")
        case ["dropped"]:
            assert decision == Decision((), "malformed_region")
        case [_, "region"]:
            regions = zip(row["cells"], row["crop_boxes"], strict=True)
            expected = [Crop((*first, *last), tuple(box)) for (first, last), box in regions]
            assert list(decision.actions) == expected
        case [_, encoder]:
            assert decision == Decision((Reencode(ENCODERS[encoder]),))


@needs_golden
@pytest.mark.parametrize(
    "row", table("crop_boxes"), ids=lambda row: f"{row['image_wh']}{row['x0y0x1y1']}"
)
def test_crop_boxes_are_the_authors(row: dict[str, Any]) -> None:
    width, height = row["image_wh"]
    x0, y0, x1, y1 = row["x0y0x1y1"]
    text = region(f"x_{x0}", f"y_{y0}", f"x_{x1}", f"y_{y1}")
    (crop,) = decide(text, (width, height), "clip").actions
    assert isinstance(crop, Crop)
    assert list(crop.box) == row["crop_box"]


@pytest.mark.parametrize(
    "text", ["", "Yes.", "<|x_1|><|y_1|>", "<|region_token_start|><|region_token_end|>"]
)
def test_plain_text_is_the_answer(text: str) -> None:
    assert decide(text, SIZE, "clip") == Decision(())


@pytest.mark.parametrize(
    "text",
    [
        region("x_1", "y_8"),
        region("x_1", "y_10"),
        region("x_1 ", "y_1"),
        region("x_1", "y_1").replace("><", "> <"),
        region("x_1", "y_1").replace("<|region_token_end|>", ""),
        region("x_1", "y_٣"),
        region("x_1", "y_1").upper(),
    ],
)
def test_what_the_grammar_does_not_know_is_text(text: str) -> None:
    assert decide(text, SIZE, "clip") == Decision(())


def test_one_region_gives_cells_and_box() -> None:
    assert decide(f"Look: {region('x_2', 'y_3')}!", SIZE, "clip").actions == (
        Crop((2, 3, 2, 3), (80, 120, 320, 300)),
    )


def test_regions_keep_their_order_and_any_order_of_tokens_gives_the_same_cells() -> None:
    text = region("y_5", "x_4", "x_6", "y_2") + " and " + region("x_0", "y_0")
    actions = decide(text, SIZE, "seg").actions
    assert [action.cells for action in actions if isinstance(action, Crop)] == [
        (4, 2, 6, 5),
        (0, 0, 0, 0),
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_an_action_start_asks_for_a_reencode(kind: str) -> None:
    assert decide(action(kind), SIZE, kind) == Decision((Reencode(kind),))
    assert decide(f"Well <|{kind}_action_start|>", SIZE, kind) == Decision((Reencode(kind),))


@pytest.mark.parametrize("kind", KINDS)
def test_an_action_without_its_start_asks_for_nothing(kind: str) -> None:
    assert decide(f"<|{kind}_action|><|{kind}_action_end|>", SIZE, kind) == Decision(())


@pytest.mark.parametrize("other", KINDS)
@pytest.mark.parametrize("kind", KINDS)
def test_an_encoder_that_the_checkpoint_lacks_is_foreign(kind: str, other: str) -> None:
    expected = Decision((Reencode(kind),)) if kind == other else Decision((), "foreign_trigger")
    assert decide(action(other), SIZE, kind) == expected


@pytest.mark.parametrize(
    "text",
    [
        action("clip") + region("x_1", "y_1"),
        region("x_1", "y_1") + action("clip"),
        action("clip") + action("seg"),
        action("detection") + action("seg"),
        action("detection") + region("x_1", "y_1"),
        action("clip") + region("x_1"),
    ],
)
def test_more_than_one_kind_is_no_look(text: str) -> None:
    assert decide(text, SIZE, "clip") == Decision((), "mixed_triggers")


@pytest.mark.parametrize(
    "text", [region("x_1"), region("y_1", "y_2"), region("x_1", "y_1") + region("x_2")]
)
def test_a_region_without_x_or_y_spoils_the_turn(text: str) -> None:
    assert decide(text, SIZE, "clip") == Decision((), "malformed_region")


def test_text_for_people_has_no_triggers() -> None:
    text = f" A {region('x_1', 'y_7')}dog{action('seg')}{action('clip')}.<|x_8|> "
    assert without_triggers(text) == "A dog.<|x_8|>"


@given(text=texts, size=st.tuples(side, side), kind=st.sampled_from(KINDS))
@example(text=region("x_1", "y_1") * 100, size=(1, 1), kind="clip")
def test_any_text_is_decided(text: str, size: tuple[int, int], kind: str) -> None:
    decision = decide(text, size, kind)
    assert decision.reason in ("answer", "mixed_triggers", "malformed_region", "foreign_trigger")
    assert not decision.actions or decision.reason == "answer"
    assert len({type(action) for action in decision.actions}) <= 1
    assert all(action.kind == kind for action in decision.actions if isinstance(action, Reencode))


@given(xs=st.tuples(cell, cell), ys=st.tuples(cell, cell), size=st.tuples(side, side))
def test_a_box_lies_in_the_picture_and_holds_its_cells(
    xs: tuple[int, int], ys: tuple[int, int], size: tuple[int, int]
) -> None:
    (x0, x1) = sorted(xs)
    (y0, y1) = sorted(ys)
    box = crop_box((x0, y0, x1, y1), size)
    for low, high, first, last, length in (
        (box[0], box[2], x0, x1, size[0]),
        (box[1], box[3], y0, y1, size[1]),
    ):
        assert 0 <= low <= high <= length
        assert 8 * low <= first * length
        assert 8 * (high + 1) > (last + 1) * length  # truncation takes less than a pixel
        assert 8 * low <= max(first - 1, 0) * length  # the margin
        assert 8 * (high + 1) > min(last + 2, 8) * length


@given(xs=st.tuples(cell, cell), ys=st.tuples(cell, cell), size=st.tuples(side, side))
def test_more_cells_give_no_smaller_box(
    xs: tuple[int, int], ys: tuple[int, int], size: tuple[int, int]
) -> None:
    (x0, x1) = sorted(xs)
    (y0, y1) = sorted(ys)
    inner = crop_box((x0, y0, x1, y1), size)
    outer = crop_box((max(x0 - 1, 0), max(y0 - 1, 0), min(x1 + 1, 7), min(y1 + 1, 7)), size)
    assert outer[0] <= inner[0]
    assert outer[1] <= inner[1]
    assert outer[2] >= inner[2]
    assert outer[3] >= inner[3]
    assert crop_box((0, 0, 7, 7), size) == (0, 0, *size)
