"""Plain attention against its definition, and its cache."""

from __future__ import annotations

import torch

from vpt_edge.export.attention import Heads, PlainAttention

SEQ, DIM = 7, 8
GENERATOR = torch.Generator().manual_seed(0)


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=GENERATOR)


def rope(seq: int) -> tuple[torch.Tensor, torch.Tensor]:
    angles = torch.arange(seq)[:, None] / torch.arange(1, DIM // 2 + 1)[None]
    return angles.cos(), angles.sin()


def test_everything_sees_everything() -> None:
    attention = PlainAttention(Heads(2, 2))
    q, k, v = random(3, 1, SEQ, 2 * DIM)
    heads = [t.view(1, SEQ, 2, DIM).transpose(1, 2) for t in (q, k, v)]
    expected = torch.nn.functional.scaled_dot_product_attention(*heads)
    torch.testing.assert_close(attention.full(q, k, v), expected.transpose(1, 2).flatten(2))


def test_a_position_sees_its_window_alone() -> None:
    """Three windows of up to four, of two, four and one."""
    attention = PlainAttention(Heads(2, 2))
    q, k, v = random(3, 1, SEQ, 2 * DIM)
    cos, sin = rope(SEQ)
    slots = torch.tensor([[0, 1, 6, 6], [2, 3, 4, 5], [6, 0, 0, 0]])
    places = torch.tensor([0, 1, 4, 5, 6, 7, 8])
    lengths = torch.tensor([2, 4, 1], dtype=torch.int32)
    found = attention.windowed(q, k, v, (cos, sin), (slots, places, lengths))
    for first, end in ((0, 2), (2, 6), (6, 7)):
        part = slice(first, end)
        expected = attention.full(q[:, part], k[:, part], v[:, part], (cos[part], sin[part]))
        torch.testing.assert_close(found[:, part], expected)


def test_rotated_queries_and_keys_know_their_distance_alone() -> None:
    attention = PlainAttention(Heads(2, 2))
    q, k, v = random(3, 1, SEQ, 2 * DIM)
    cos, sin = rope(SEQ + 5)
    here = attention.full(q, k, v, (cos[:SEQ], sin[:SEQ]))
    there = attention.full(q, k, v, (cos[5:], sin[5:]))
    torch.testing.assert_close(here, there)
    assert not torch.allclose(here, attention.full(q, k, v))


def test_a_pass_in_two_parts_is_the_same_pass() -> None:
    attention = PlainAttention(Heads(4, 2))
    q = random(1, SEQ, 4 * DIM)
    k, v = random(2, 1, SEQ, 2 * DIM)
    cos, sin = rope(SEQ)
    whole, _ = attention.causal(q, k, v, (cos, sin), None, attention.visibility(SEQ, None, ()))
    cut = 3
    _, past = attention.causal(
        q[:, :cut],
        k[:, :cut],
        v[:, :cut],
        (cos[:cut], sin[:cut]),
        None,
        attention.visibility(cut, None, ()),
    )
    rest, _ = attention.causal(
        q[:, cut:],
        k[:, cut:],
        v[:, cut:],
        (cos[cut:], sin[cut:]),
        past,
        attention.visibility(SEQ - cut, past, ()),
    )
    torch.testing.assert_close(rest, whole[:, cut:])


def test_empty_rows_of_the_past_are_not_seen() -> None:
    attention = PlainAttention(Heads(4, 2))
    q = random(1, 2, 4 * DIM)
    k, v = random(2, 1, 2, 2 * DIM)
    keys, values = random(2, 1, 6, 2 * DIM)
    filled = torch.tensor(4, dtype=torch.int32)
    outputs = []
    for past, lengths in (((keys, values), (filled,)), ((keys[:, :4], values[:, :4]), ())):
        visibility = attention.visibility(2, past, lengths)
        output, _ = attention.causal(q, k, v, rope(2), past, visibility)
        outputs.append(output)
    torch.testing.assert_close(*outputs)
