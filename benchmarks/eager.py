"""The same model in torch on the same GPU, eager and compiled, as the measure of what an engine is
worth.

Torch's own fused attention over a cache of fixed places, inputs that lie on the GPU, and shapes
that never change: the case that is best for torch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.shape import LOOK_PATCHES, LOOK_TOKENS, PATCHES, STEPS
from vpt_edge.export.attention import PlainAttention, split_heads
from vpt_edge.export.models.qwen2_vl.config import TextConfig, VisionConfig
from vpt_edge.export.models.qwen2_vl.decoder import Decoder
from vpt_edge.export.models.qwen2_vl.vision import VisionEncoder

if TYPE_CHECKING:
    from vpt_edge.export.attention import LayerCache, Rope

CAPACITY = 2304
TEXT = TextConfig(1536, 8960, 28, 12, 2, 151936, 1e-6, 1e6, (16, 24, 24), True)  # Qwen2-VL-2B
VISION = VisionConfig(1536)


class FusedAttention(PlainAttention):
    """``past`` is a cache of fixed places, of which ``start`` are filled: new rows are written
    behind them.
    """

    start = 0

    def visibility(
        self, seq: int, past: LayerCache | None, lengths: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        return ()

    def product(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v)

    def causal(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        rope: Rope,
        past: LayerCache | None,
        visibility: tuple[Tensor, ...],
    ) -> tuple[Tensor, LayerCache]:
        q = self.rotary(q, rope, self.heads.query)
        k = self.rotary(k, rope, self.heads.kv)
        assert past is not None
        start = self.start
        seq = q.shape[1]
        end = start + seq
        past[0][:, start:end] = k
        past[1][:, start:end] = v
        mask = None
        if start and seq > 1:
            mask = torch.ones(seq, end, dtype=torch.bool, device=q.device).tril(start)
        q = split_heads(q, self.heads.query)
        keys = split_heads(past[0][:, :end], self.heads.kv)
        values = split_heads(past[1][:, :end], self.heads.kv)
        causal = seq > 1 and not start
        out = F.scaled_dot_product_attention(
            q, keys, values, attn_mask=mask, is_causal=causal, enable_gqa=True
        )
        return out.transpose(1, 2).flatten(2), past


class TorchRunner:
    """``runs`` as those of ``shape.Runner``; with ``compiled`` through torch.compile and CUDA
    graphs.
    """

    def __init__(
        self,
        dtype: torch.dtype,
        compiled: bool,
        text: TextConfig = TEXT,
        vision: VisionConfig = VISION,
        device: str = "cuda",
    ) -> None:
        self._device = torch.device(device)
        before = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        try:
            with self._device:
                decoder = Decoder(text, FusedAttention, argmax=True).eval().requires_grad_(False)
                encoder = VisionEncoder(vision, FusedAttention).eval().requires_grad_(False)
        finally:
            torch.set_default_dtype(before)
        assert isinstance(decoder.attention, FusedAttention)
        self._attention = decoder.attention
        self._text = text
        self._vision = vision
        width = text.num_key_value_heads * text.head_dim
        slab = torch.zeros(
            text.num_hidden_layers, 2, 1, CAPACITY, width, dtype=dtype, device=self._device
        )
        self._past = [(keys.clone(), values.clone()) for keys, values in slab]
        self._decoder: Any = decoder
        self._encoder: Any = encoder
        if compiled:
            for keys, values in self._past:  # else CUDA graphs are refused: it is written in place
                torch._dynamo.mark_static_address(keys)
                torch._dynamo.mark_static_address(values)
            fixed: dict[str, Any] = {"mode": "reduce-overhead", "dynamic": False}
            self._decoder = torch.compile(decoder, **fixed)
            self._encoder = torch.compile(encoder, **fixed)
        self.runs = {name: self._decode(*size) for name, size in STEPS.items()}
        self.runs[f"vision of {PATCHES:,}"] = self._encode(PATCHES)
        encode = self._encode(LOOK_PATCHES)
        decode = self._decode(LOOK_TOKENS, 512)

        def look() -> None:
            encode()
            decode()

        self.runs["look"] = look

    def _decode(self, count: int, cached: int) -> Callable[[], None]:
        embeds = torch.randn(1, count, self._text.hidden_size, device=self._device)
        rope = torch.ones(count, self._text.head_dim // 2, device=self._device)

        @torch.no_grad()
        def run() -> None:
            self._attention.start = cached
            int(self._decoder(embeds, rope, rope, self._past)[2])  # the token is wanted on the host

        return run

    def _encode(self, patches: int) -> Callable[[], None]:
        pixels = torch.randn(1, patches, self._vision.patch_width, device=self._device)
        rope = torch.ones(patches, self._vision.head_dim // 2, device=self._device)

        @torch.no_grad()
        def run() -> None:
            self._encoder(pixels, rope, rope)
            if self._device.type == "cuda":
                torch.cuda.synchronize()

        return run

    def close(self) -> None:
        """Give the memory back."""
        self.runs.clear()
        self._past.clear()
        self._decoder = self._encoder = None
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
