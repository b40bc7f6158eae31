"""What is recorded of the cache holds wherever a token stands."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from vpt_edge.calibration.recorder import ActivationRecorder


@settings(deadline=None)
@given(st.floats(0, 6.3), st.integers(0, 2**32 - 1))
def test_a_keys_range_holds_at_every_position(angle: float, seed: int) -> None:
    """Turned by the rotary embedding, a key's halves stay below what was recorded of it at
    another position.
    """
    random = np.random.default_rng(seed)
    key = random.standard_normal((1, 3, 8)).astype(np.float32)  # three tokens, one head
    recorder = ActivationRecorder()
    recorder.record_run(
        "decoder",
        {"embeds": np.ones((1, 3, 8)), "cos": np.ones((3, 4))},
        {"present.0.key": key, "present.0.value": key},
    )
    first = key[..., :4]
    second = key[..., 4:]
    cos = np.cos(angle)
    sin = np.sin(angle)
    turned = np.concatenate((first * cos - second * sin, second * cos + first * sin), -1)
    assert (np.abs(turned[0]) <= recorder.largest["0.key"] + 1e-5).all()
    np.testing.assert_array_equal(recorder.largest["0.value"], np.abs(key[0]).max(0))
