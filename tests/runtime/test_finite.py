"""What is not a number becomes no answer: the error names the graph that computed it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from scripted import CLIP, PICTURE, Tiny, trigger

from vpt_edge.runtime import Pipeline
from vpt_edge.runtime.errors import SessionError
from vpt_edge.runtime.finite import check_finite
from vpt_edge.runtime.testing import Script

if TYPE_CHECKING:
    from vpt_edge.runtime.testing import ScriptedSession

NAN = float("nan")
INF = float("inf")


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("place", [0, 5, 11])
def test_one_among_many_is_found(value: float, place: int) -> None:
    values = np.full((3, 4), 3e38, np.float32)
    check_finite("decoder", values)
    values.flat[place] = value
    with pytest.raises(SessionError, match=r"the graph decoder computed .* not finite; export"):
        check_finite("decoder", values)


def spoil(session: ScriptedSession, output: str, value: float, after: int = 0) -> None:
    """Let the last number of an output be ``value``, from a run on."""
    run = session.run
    runs = 0

    def spoiled(inputs: Any, outputs: Any) -> None:
        nonlocal runs
        run(inputs, outputs)
        runs += 1
        if runs > after:
            outputs[output].flat[-1] = value

    session.run = spoiled  # type: ignore[method-assign]


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize(
    ("kind", "graph", "output"),
    [
        ("clip", "vision_encoder", "features"),
        ("clip", "decoder", "hidden"),
        ("clip", "reencoder_projector", "projected"),
        ("detection", "reencoder_features", "features"),
        ("detection", "reencoder_projector", "projected"),
    ],
)
def test_the_error_names_the_graph(
    kind: str, graph: str, output: str, value: float, tiny: Tiny
) -> None:
    script = Script(trigger(kind), "Red.")
    with Pipeline(tiny(kind), opener=script) as pipeline:
        spoil(script.sessions[graph], output, value)
        with pytest.raises(SessionError, match=f"the graph {graph} computed"):
            pipeline.ask(PICTURE, "What?")


@pytest.mark.parametrize(("output", "value"), [("logits", NAN), ("logits", INF), ("hidden", NAN)])
@pytest.mark.parametrize("after", [0, 1, 4])
@pytest.mark.parametrize("temperature", [0.0, 0.01])
def test_a_step_is_held_too(
    output: str, value: float, after: int, temperature: float, tiny: Tiny
) -> None:
    script = Script(CLIP, "Red.", "Yes.")
    with Pipeline(tiny(), opener=script) as pipeline:
        run = script.sessions["decoder"].run
        spoil(script.sessions["decoder"], output, value, after)
        with pytest.raises(SessionError, match="the graph decoder computed"):
            pipeline.ask(PICTURE, "What?", temperature=temperature)
        script.sessions["decoder"].run = run  # type: ignore[method-assign]
        assert pipeline.ask(PICTURE, "And now?").text in ("Red.", "Yes.")
