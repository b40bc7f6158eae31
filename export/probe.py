"""A question with a picture to the modules in float16, whose numbers end at 65,504.

The comparison of the graphs with torch takes numbers at random, and ONNX Runtime computes them in
float32 on a CPU: what a picture's own features make of a neuron shows in neither.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from vpt_edge.export.verify import build_module, flatten, tensors
from vpt_edge.runtime.chat import Chat
from vpt_edge.runtime.context import Encoded
from vpt_edge.runtime.errors import ExportError
from vpt_edge.runtime.models import open_tower
from vpt_edge.runtime.perception import open_perception

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

    from vpt_edge.export.spec import Spec
    from vpt_edge.runtime.bundle import Bundle

    Build = Callable[[str], nn.Module]

QUESTION = "What does the sign say?"


def probe(
    bundle: Bundle,
    specs: Mapping[str, Spec],
    loader: Callable[[Spec], Callable[[str], torch.Tensor]],
) -> None:
    """Ask ``bundle`` a question, with the modules of ``specs`` in float16.

    Raises ExportError where the vision encoder or the decoder computes what is not finite.
    """

    def build(name: str) -> nn.Module:
        return build_module(specs[name], "float16", loader(specs[name]))

    with torch.inference_mode():
        encoded = _encode(bundle, build)
        _answer(bundle, build, encoded)


def _encode(bundle: Bundle, build: Build) -> Encoded:
    """A picture of every brightness as the vision encoder sees it."""
    tower = open_tower(bundle.manifest)
    picture = Image.linear_gradient("L").convert("RGB")
    patches = tower.preprocess(picture, bundle.manifest.image)
    results = flatten(build("vision_encoder")(*tensors(dict(tower.inputs(patches)))))
    for values in results:
        _check("vision_encoder", values)
    features = tower.restore(results[0][0].numpy(), patches.grid)
    deep = results[1].numpy() if tower.levels else None
    return Encoded(features, patches.grid, deep)


def _answer(bundle: Bundle, build: Build, encoded: Encoded) -> None:
    """What the decoder makes of the prompt."""
    tower = open_tower(bundle.manifest)
    way = open_perception(bundle.manifest)
    chat = Chat(bundle.tokenizer_file, way.pads)
    context = chat.context(way.opening(QUESTION, way.usual_mode), [encoded])
    embeds = bundle.embeddings().rows(context.ids)
    visual = context.visuals[0]
    embeds[visual.start : visual.start + encoded.tokens] = encoded.features
    positions = tower.positions(len(context.ids), context.visuals)
    cos, sin = tower.rotations(positions)
    inputs = {"embeds": embeds[None], "cos": cos, "sin": sin}
    if encoded.deep is not None:
        inputs["deep"] = np.zeros((tower.levels, *embeds.shape), np.float32)
        inputs["deep"][:, visual.start : visual.end] = encoded.deep
    logits, hidden, *_ = build("decoder")(*tensors(inputs), [])
    _check("decoder", logits)
    _check("decoder", hidden)


def _check(graph: str, values: torch.Tensor) -> None:
    if not torch.isfinite(values).all():
        raise ExportError(
            f"in float16, whose numbers end at 65,504, the {graph} computes what is not finite for "
            f"a picture and {QUESTION!r}. No bundle was written",
            "export with --precision fp32",
        )
