"""Pictures that are asked about more than once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from vpt_edge.runtime.errors import VptError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from PIL import Image
    from typing_extensions import Unpack

    from vpt_edge.runtime.frame_features import FrameFeatures
    from vpt_edge.runtime.options import AskOptions
    from vpt_edge.runtime.queue import EventStream
    from vpt_edge.runtime.result import Answer, Event
    from vpt_edge.runtime.vision import PictureFeatures


class Answerer(Protocol):
    """What answers questions about encoded pictures: the pipeline."""

    def ask(self, image: EncodedPicture, question: str, **options: Unpack[AskOptions]) -> Answer:
        """The answer."""

    def stream(
        self, image: EncodedPicture, question: str, **options: Unpack[AskOptions]
    ) -> EventStream:
        """The events, the answer at last."""

    async def aask(
        self, image: EncodedPicture, question: str, **options: Unpack[AskOptions]
    ) -> Answer:
        """``ask`` for an event loop."""

    def astream(
        self, image: EncodedPicture, question: str, **options: Unpack[AskOptions]
    ) -> AsyncGenerator[Event, None]:
        """``stream`` for an event loop."""


class EncodedPicture:
    """A picture for several questions: encoded with the first, each computes its own tokens alone.

        with pipeline.encode("street.jpg") as picture:
            sign = picture.ask("What does the sign say?")
            car = picture.ask("Which colour is the car?")

    The answers are those of ``Pipeline.ask``. Questions about other pictures in between cost the
    keys and values, which the pipeline keeps for one picture, but not the encoded pixels, which are
    kept until ``close``. It may be several pictures that are shown together, in their order, or the
    ``frames`` of a scene.
    """

    def __init__(
        self,
        pipeline: Answerer,
        features: Sequence[PictureFeatures],
        frames: FrameFeatures | None = None,
    ) -> None:
        self.features = tuple(features)
        self.frames = frames
        self.closed = False
        self._pipeline = pipeline

    @property
    def picture(self) -> Image.Image:
        """The picture as it was given, the first of several."""
        return self.features[0].picture

    @property
    def pictures(self) -> list[Image.Image]:
        """All of them, as they were given; of each pair of frames the later one."""
        return [each.picture for each in self.features]

    def __enter__(self) -> EncodedPicture:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the encoded pixels go; the picture takes no more questions."""
        for each in self.features:
            each.forget()
        if self.frames is not None:
            self.frames.forget()
        self.closed = True

    def ask(self, question: str, **options: Unpack[AskOptions]) -> Answer:
        """The answer to ``question``; the options are ``Options``."""
        return self._pipeline.ask(self, question, **options)

    def stream(self, question: str, **options: Unpack[AskOptions]) -> EventStream:
        """The events of ``Pipeline.stream``, with the same options."""
        return self._pipeline.stream(self, question, **options)

    async def aask(self, question: str, **options: Unpack[AskOptions]) -> Answer:
        """``ask`` for an event loop."""
        return await self._pipeline.aask(self, question, **options)

    def astream(self, question: str, **options: Unpack[AskOptions]) -> AsyncGenerator[Event, None]:
        """``stream`` for an event loop."""
        return self._pipeline.astream(self, question, **options)

    def check(self, pipeline: Answerer) -> None:
        """Raise VptError for a closed picture, or one of another pipeline."""
        fix = "encode another: pipeline.encode(image)"
        if self.closed:
            raise VptError("the encoded picture is closed", fix)
        if self._pipeline is not pipeline:
            raise VptError("the encoded picture belongs to another pipeline", fix)
