"""A picture that questions are asked about: encoded once, whatever the number of questions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vpt_edge.runtime.errors import VptError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    from vpt_edge.runtime.pipeline import Pipeline
    from vpt_edge.runtime.result import Answer, Event

    Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Encoded:
    """The visual tokens (tokens, hidden) of a picture or crop, and its patches' ``grid`` (rows,
    columns)."""

    grid: tuple[int, int]
    features: Floats


class PictureView:
    """What ``Pipeline.view`` gives: a second question computes only its own tokens.

    with pipeline.view("street.jpg") as view:
        print(view.ask("What does the sign say?").text, view.ask("Which colour is the car?").text)

    The answers are those of ``Pipeline.ask``. Questions about other pictures in between cost the
    keys and values, which the pipeline keeps for one picture, but not the encoded pixels, which the
    view keeps until it is closed."""

    def __init__(self, pipeline: Pipeline, picture: Image.Image) -> None:
        self.picture = picture
        self.encoded: Encoded | None = None
        self.reencoded: Floats | None = None  # by DINOv2 or SAM, before any condition
        self.closed = False
        self._pipeline = pipeline

    def __enter__(self) -> PictureView:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the encoded pixels go; the view takes no more questions."""
        self.encoded = self.reencoded = None
        self.closed = True

    def ask(self, question: str, **options: Any) -> Answer:
        """The answer to ``question``; the options are those of ``Pipeline.stream``."""
        return self._pipeline.ask(self, question, **options)

    def stream(self, question: str, **options: Any) -> Iterator[Event]:
        """The events of ``Pipeline.stream``, with the same options."""
        return self._pipeline.stream(self, question, **options)

    def check(self, pipeline: Pipeline) -> None:
        """Raise VptError for a closed view, or one of another pipeline."""
        if self.closed:
            raise VptError("the view is closed; open another: pipeline.view(image)")
        if self._pipeline is not pipeline:
            raise VptError(
                "the view belongs to another pipeline; open one of this: pipeline.view(image)"
            )
