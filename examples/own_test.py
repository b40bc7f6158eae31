"""How to test your own app without a model: the sessions speak from a script.

pytest examples/own_test.py
"""

from pathlib import Path

from PIL import Image

from vpt_edge import runtime
from vpt_edge.runtime.testing import Script, tiny_bundle

REGION = "<|region_token_start|><|x_3|><|y_4|><|region_token_end|>"


def read_sign(pipeline: runtime.Pipeline, picture: Image.Image) -> str:
    """The app: it trusts no answer that the model gave without a second look."""
    answer = pipeline.ask(picture, "What does the sign say?", perception="region")
    return answer.text if answer.looks else "unreadable"


def test_an_answer_with_a_look_is_trusted(tmp_path: Path) -> None:
    script = Script(REGION, "STOP")
    with runtime.Pipeline(tiny_bundle(tmp_path), opener=script) as pipeline:
        assert read_sign(pipeline, Image.new("RGB", (640, 480))) == "STOP"


def test_an_answer_without_a_look_is_not_trusted(tmp_path: Path) -> None:
    with runtime.Pipeline(tiny_bundle(tmp_path), opener=Script("STOP")) as pipeline:
        assert read_sign(pipeline, Image.new("RGB", (640, 480))) == "unreadable"
