"""The loop: one request, in which the model looks again where it asks to."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from vpt_edge.runtime.bundle import Bundle, open_model
from vpt_edge.runtime.chat import Chat
from vpt_edge.runtime.decoder import Decoder
from vpt_edge.runtime.errors import VptError
from vpt_edge.runtime.hint import give_hint
from vpt_edge.runtime.image import hint_at_range, open_picture
from vpt_edge.runtime.options import Options
from vpt_edge.runtime.perception import open_perception
from vpt_edge.runtime.queue import EventStream, RequestQueue
from vpt_edge.runtime.request import Request
from vpt_edge.runtime.result import Answer, Event, Finished, Text
from vpt_edge.runtime.sampler import Sampler
from vpt_edge.runtime.sessions import open_session
from vpt_edge.runtime.stop import StopText
from vpt_edge.runtime.vision import PictureFeatures, Vision

if TYPE_CHECKING:
    from PIL import Image
    from typing_extensions import Unpack

    from vpt_edge.runtime.bundle import Model
    from vpt_edge.runtime.image import Picture
    from vpt_edge.runtime.options import AskOptions
    from vpt_edge.runtime.sessions import Session, SessionOpener


class EncodedPicture:
    """A picture for several questions: encoded with the first, each computes its own tokens alone.

        with pipeline.encode("street.jpg") as picture:
            sign = picture.ask("What does the sign say?")
            car = picture.ask("Which colour is the car?")

    The answers are those of ``Pipeline.ask``. Questions about other pictures in between cost the
    keys and values, which the pipeline keeps for one picture, but not the encoded pixels, which are
    kept until ``close``.
    """

    def __init__(self, pipeline: Pipeline, picture: Image.Image, vision: Vision) -> None:
        self.features = PictureFeatures(picture, vision)
        self.closed = False
        self._pipeline = pipeline

    @property
    def picture(self) -> Image.Image:
        """The picture as it was given."""
        return self.features.picture

    def __enter__(self) -> EncodedPicture:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the encoded pixels go; the picture takes no more questions."""
        self.features.forget()
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

    def check(self, pipeline: Pipeline) -> None:
        """Raise VptError for a closed picture, or one of another pipeline."""
        fix = "encode another: pipeline.encode(image)"
        if self.closed:
            raise VptError("the encoded picture is closed", fix)
        if self._pipeline is not pipeline:
            raise VptError("the encoded picture belongs to another pipeline", fix)


class Pipeline:
    """Answers questions about pictures with the model of one bundle.

        with runtime.Pipeline("bundle") as pipeline:
            print(pipeline.ask("street.png", "What does the sign say?", perception="region").text)

    ``bundle`` is a folder that vpt-export wrote, or an opened ``Bundle``; ``device`` is "cpu",
    "cuda", "tensorrt" or "tensorrt-rtx". ``opener`` replaces the inference library, for tests.
    Requests of several threads and event loops are answered one after another. A stream that is
    unfinished when the next request comes is computed to its end first, and keeps its events.
    """

    def __init__(
        self,
        bundle: str | os.PathLike[str] | Model,
        device: str = "cpu",
        *,
        opener: SessionOpener | None = None,
    ) -> None:
        self._sessions: dict[str, Session] = {}
        self._queue = RequestQueue()
        try:
            with open_model(bundle) as model:
                self.bundle = model
                self._open(device, opener)
        except BaseException:
            self.close()
            raise
        self._hints: set[str] = set()

    def _open(self, device: str, opener: SessionOpener | None) -> None:
        """Tokenizer and sessions, at once on a CPU, and what computes with them.

        A GPU's plan is in memory twice while it opens: one at a time.
        """
        model = self.bundle
        self._perception = open_perception(model.manifest)

        def open_one(name: str) -> None:
            if opener is not None:
                self._sessions[name] = opener(model, name)
            elif isinstance(model, Bundle):
                self._sessions[name] = open_session(model, name, device)
            else:
                raise VptError(f"{type(model).__name__} is not a bundle", "give its opener")

        graphs = model.manifest.graphs
        with ThreadPoolExecutor() as pool:
            chat = pool.submit(Chat, model.tokenizer_file, self._perception.pads)
            if device == "cpu" and opener is None:
                list(pool.map(open_one, graphs))
            else:
                for name in graphs:
                    open_one(name)
            self._chat = chat.result()
        self._chat.check(model.manifest.tokens, self._perception.token_ids)
        self._vision = Vision(model.manifest, self._perception, self._sessions)
        decoder = self._sessions["decoder"]
        self._decoder = Decoder(model, self._perception, decoder, self._vision.project)

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the sessions; the pipeline answers no more, and unfinished requests fail."""
        self._queue.close()
        while self._sessions:
            _, session = self._sessions.popitem()
            session.close()
        decoder = getattr(self, "_decoder", None)  # an opening that failed has none
        if decoder is not None:
            decoder.close()

    def forget(self) -> None:
        """Let go of what earlier requests computed: the next one computes all of its tokens."""
        self._queue.run(self._decoder.forget)

    def encode(self, image: Picture) -> EncodedPicture:
        """``image`` for several questions: it is encoded once, with the first of them."""
        picture = open_picture(image, self._vision.outline)
        self._hint(hint_at_range(picture))
        return EncodedPicture(self, picture, self._vision)

    def ask(
        self, image: Picture | EncodedPicture, question: str, **options: Unpack[AskOptions]
    ) -> Answer:
        """The answer to ``question`` about ``image``; the options are ``Options``."""
        with contextlib.closing(self.stream(image, question, **options)) as events:
            *_, last = events
        assert isinstance(last, Finished)
        return last.answer

    def stream(
        self, image: Picture | EncodedPicture, question: str, **options: Unpack[AskOptions]
    ) -> EventStream:
        """Yield ``Text`` and ``Looked`` as they happen, and ``Finished`` with the answer.

        ``image``: a path, bytes, a binary file, a PIL image, an RGB array (height, width, 3) uint8,
        or what ``encode`` gave. The options are ``Options``. Any thread may take the next event;
        ``close`` ends the request between two tokens, and so does letting go of the stream.

        Raises ImageError and PromptError for what cannot be shown or asked.
        """
        asked = Options(**options)
        self._queue.check_open()
        sampler = Sampler(asked.temperature, asked.top_k, asked.top_p, asked.seed)
        encoded = image if isinstance(image, EncodedPicture) else self.encode(image)
        encoded.check(self)
        request = Request(encoded.features, question, asked, self._perception, self._chat)
        self._hint(self._perception.hint(asked.perception))
        return EventStream(self._queue, self._answer(request, sampler))

    async def aask(
        self, image: Picture | EncodedPicture, question: str, **options: Unpack[AskOptions]
    ) -> Answer:
        """``ask`` for an event loop, which goes on meanwhile."""
        async with contextlib.aclosing(self.astream(image, question, **options)) as events:
            async for event in events:
                last = event
        assert isinstance(last, Finished)
        return last.answer

    async def astream(
        self, image: Picture | EncodedPicture, question: str, **options: Unpack[AskOptions]
    ) -> AsyncGenerator[Event, None]:
        """``stream`` for an event loop, which goes on meanwhile.

        A cancelled task, and ``aclose``, end the request between two tokens.
        """
        self._hint(self._perception.hint(Options(**options).perception))
        if not isinstance(image, EncodedPicture):
            image = await asyncio.to_thread(self.encode, image)
        stream = self.stream(image, question, **options)
        async with contextlib.aclosing(self._queue.follow(stream)) as events:
            async for event in events:
                yield event

    def _answer(self, request: Request, sampler: Sampler) -> Generator[Event, None, None]:
        """A turn of text and, as long as it asks for it, a look and another turn on its cache."""
        self._decoder.check(request.outline())
        request.begin()
        self._decoder.begin(greedy=sampler.greedy and not request.options.keep_logits)
        while True:
            complete = yield from self._turn(request, sampler)
            decision = request.decide(complete, self._decoder.capacity)
            if not decision.actions:
                break
            yield from request.look(decision)
        yield Finished(request.answer(decision.reason, self._decoder))

    def _turn(self, request: Request, sampler: Sampler) -> Generator[Event, None, bool]:
        """Prefill what is new in the context, then generate, an event a token.

        Returns whether an end token or a stop text came.
        """
        context = request.context()
        prompt_ids = tuple(context.ids)
        most = len(prompt_ids) + request.options.max_new_tokens
        pieces = self._chat.stream(self._perception.hidden_ids)
        stop = StopText(request.options.stop)
        for token in request.prefix_ids:
            yield Text(stop.take(pieces.step(token)))
        with request.stopwatch.stage("prefill"):
            scores = self._decoder.prefill(context)
        logits = []
        while True:
            token = sampler.choose(scores)
            request.stopwatch.token_arrived(len(request.turns))
            if request.options.keep_logits:
                logits.append(np.array(scores))
            complete = token in self.bundle.manifest.tokens.end
            full = len(context.ids) + 1 == most or not self._decoder.remaining
            forced = self._perception.forced(context.ids[-1])
            if forced is not None and not complete and not full:
                token = forced  # whatever was sampled
            context.ids.append(token)
            yield Text(stop.take(pieces.step(token)))
            complete = complete or stop.sequence is not None
            if complete or full:
                break
            with request.stopwatch.stage("decode"):
                scores = self._decoder.step(token)
        yield Text(stop.finish())
        generated_ids = context.ids[len(prompt_ids) :]
        request.add_turn(prompt_ids, generated_ids, logits, stop)
        return complete

    def _hint(self, text: str | None) -> None:
        """Give a hint, once."""
        if text is not None and text not in self._hints:
            self._hints.add(text)
            give_hint(text)
