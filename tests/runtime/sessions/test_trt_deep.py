"""Deep features on the emulated device: a step moves nothing for them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest
from emulated import build_plans, emulated
from families import CONFIGS

from vpt_edge.runtime.context import Context
from vpt_edge.runtime.decoder import Decoder
from vpt_edge.runtime.perception import open_perception
from vpt_edge.runtime.sessions import open_session

if TYPE_CHECKING:
    from collections.abc import Callable

    from vpt_edge.runtime import Bundle


@pytest.mark.parametrize("integrated", [False, True])
@pytest.mark.parametrize("family", CONFIGS)
def test_a_step_moves_the_token_alone(
    family: str, integrated: bool, family_bundle: Callable[[str, str, str], Bundle]
) -> None:
    bundle = family_bundle(family, "fp32", "tensorrt")
    text = bundle.manifest.text
    with emulated("10.3.0", integrated=integrated) as driver:
        build_plans(bundle)
        session = open_session(bundle, "decoder", "tensorrt")
        way = open_perception(bundle.manifest)
        decoder = Decoder(bundle, way, session, lambda features, _: features)
        decoder.begin(greedy=True)
        decoder.prefill(Context([index % 50 for index in range(300)]))
        for _ in range(3):
            decoder.step(7)
        before = Counter(driver.copied)
        launches = driver.launches
        decoder.step(7)
        moved = Counter(driver.copied) - before
        assert driver.launches == launches + 1
        session.close()
    embeds = 4 * text.hidden_size
    angles = 2 * 4 * (text.head_dim // 2)
    assert moved["HtoD"] == (0 if integrated else embeds + angles + 4)
