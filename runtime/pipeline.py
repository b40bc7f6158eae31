"""The loop: one request, in which the model looks again where it asks to."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from vpt_edge.runtime.album import Album
from vpt_edge.runtime.bundle import Bundle, open_model
from vpt_edge.runtime.chat import Chat
from vpt_edge.runtime.decoder import Decoder
from vpt_edge.runtime.draft import Draft, check_draft
from vpt_edge.runtime.encoded_picture import EncodedPicture
from vpt_edge.runtime.errors import PromptError, VptError
from vpt_edge.runtime.frame_album import FrameAlbum, read_still
from vpt_edge.runtime.frame_features import open_frames
from vpt_edge.runtime.frames import Frames
from vpt_edge.runtime.hint import give_hint, hint_at_sampling
from vpt_edge.runtime.image import hint_at_range, open_picture
from vpt_edge.runtime.options import Options
from vpt_edge.runtime.perception import open_perception
from vpt_edge.runtime.queue import EventStream, RequestQueue
from vpt_edge.runtime.request import Request
from vpt_edge.runtime.result import Answer, Event, Finished
from vpt_edge.runtime.sampler import Sampler
from vpt_edge.runtime.sessions import open_session
from vpt_edge.runtime.view_limits import ViewLimits, check_budget
from vpt_edge.runtime.vision import PictureFeatures, Vision

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from vpt_edge.runtime.bundle import Model
    from vpt_edge.runtime.image import Picture, Size
    from vpt_edge.runtime.options import AskOptions
    from vpt_edge.runtime.sessions import Session, SessionOpener


Pictures: TypeAlias = "Picture | EncodedPicture | Frames | Sequence[Picture | EncodedPicture]"


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
        check_budget(model.manifest, self._vision.token_pixels)
        decoder = self._sessions["decoder"]
        self._decoder = Decoder(model, self._perception, decoder, self._vision.project)
        tokens = model.manifest.tokens
        pads = [self._chat.encode(pad)[0] for pad in self._perception.pads.values()]
        barred = {*tokens.end, *pads, self._perception.action}
        self._draft = Draft(self._decoder, model.manifest.budget.draft_tokens or 0, barred)

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
        self._queue.run(self._draft.forget)

    def encode(self, image: Pictures) -> EncodedPicture:
        """``image`` for several questions: it is encoded once, with the first of them.

        A list or a tuple of pictures, encoded ones among them, are shown together. Raises
        PromptError for more than the model takes, and for frames where it takes none.
        """
        if isinstance(image, Frames):
            frames = open_frames(image, self._perception, self._vision, self._check_size)
            return EncodedPicture(self, frames.pictures, frames)
        images: Sequence[Any] = image if isinstance(image, list | tuple) else [image]
        most = self._perception.most_pictures
        if not 0 < len(images) <= most:
            expected = "one" if most == 1 else f"1 to {most}"
            problem = f"found {len(images)} pictures, this model takes {expected}"
            raise PromptError(problem, "ask about so many at a time")
        features = list[PictureFeatures]()
        for each in images:
            if isinstance(each, EncodedPicture):
                each.check(self)
                features += each.features
            else:
                picture = open_picture(each, self._check_size)
                self._hint(hint_at_range(picture))
                features.append(PictureFeatures(picture, self._vision))
        return EncodedPicture(self, features)

    def _check_size(self, size: Size) -> None:
        """Raise ImageError for a picture of ``size`` that cannot be shown."""
        self._vision.outline(self._perception.first_size(size) or size)

    def ask(self, image: Pictures, question: str, **options: Unpack[AskOptions]) -> Answer:
        """The answer to ``question`` about ``image``; the options are ``Options``.

        A list or a tuple holds several pictures, ``Frames`` those of one scene.
        """
        with contextlib.closing(self.stream(image, question, **options)) as events:
            *_, last = events
        assert isinstance(last, Finished)
        return last.answer

    def stream(self, image: Pictures, question: str, **options: Unpack[AskOptions]) -> EventStream:
        """Yield ``Text``, ``Thought``, ``Looked`` and ``Refused`` as they happen, at last
        ``Finished`` with the answer.

        ``image``: a path, bytes, a binary file, a PIL image, an RGB array (height, width, 3) uint8,
        what ``encode`` gave, a list or a tuple of such, or ``Frames`` of a scene. The options are
        ``Options``. Any thread may take the next event; ``close`` ends the request between two
        tokens, and so does letting go of the stream.

        Raises ImageError and PromptError for what cannot be shown or asked.
        """
        asked = Options(**options)
        self._queue.check_open()
        sampler = Sampler(
            asked.temperature, asked.top_k, asked.top_p, asked.seed, asked.presence_penalty
        )
        check_draft(self.bundle.manifest, asked.draft_tokens)
        limits = ViewLimits(asked, self.bundle.manifest, self._vision)
        encoded = image if isinstance(image, EncodedPicture) else self.encode(image)
        encoded.check(self)
        budget = self.bundle.manifest.budget
        share = asked.first_token_share or budget.first_token_share or 1.0
        still = read_still(asked, encoded.frames)
        album = Album(encoded.features, self._vision, self._perception, limits, share)
        if encoded.frames is not None:
            album = FrameAlbum(encoded.frames, self._vision, self._perception, limits, still)
        request = Request(album, question, asked, self._perception, self._chat)
        self._hint(self._perception.hint(asked.perception))
        self._hint(hint_at_sampling(self._perception.sampling, options))
        return EventStream(self._queue, self._answer(request, sampler))

    async def aask(self, image: Pictures, question: str, **options: Unpack[AskOptions]) -> Answer:
        """``ask`` for an event loop, which goes on meanwhile."""
        async with contextlib.aclosing(self.astream(image, question, **options)) as events:
            async for event in events:
                last = event
        assert isinstance(last, Finished)
        return last.answer

    async def astream(
        self, image: Pictures, question: str, **options: Unpack[AskOptions]
    ) -> AsyncGenerator[Event, None]:
        """``stream`` for an event loop, which goes on meanwhile.

        A cancelled task, and ``aclose``, end the request between two tokens.
        """
        self._hint(self._perception.hint(Options(**options).perception))
        self._hint(hint_at_sampling(self._perception.sampling, options))
        if not isinstance(image, EncodedPicture):
            image = await asyncio.to_thread(self.encode, image)
        stream = self.stream(image, question, **options)
        async with contextlib.aclosing(self._queue.follow(stream)) as events:
            async for event in events:
                yield event

    def _answer(self, request: Request, sampler: Sampler) -> Generator[Event, None, None]:
        """A turn of text and, as long as it asks for it, a look and another turn on its cache.

        So it goes on where a bad call is answered in words.
        """
        self._decoder.check(request.outline())
        request.begin()
        needs_logits = sampler.needs_logits or request.options.keep_logits
        self._decoder.begin(greedy=not needs_logits)
        while True:
            complete = yield from self._turn(request, sampler)
            decision = request.decide(complete, self._decoder.capacity)
            if not decision.goes_on:
                break
            yield from request.go_on(decision)
        yield Finished(request.answer(decision.reason, self._decoder))

    def _turn(self, request: Request, sampler: Sampler) -> Generator[Event, None, bool]:
        """Prefill what is new in the context, then generate, an event a token.

        Returns whether an end token or a stop text came.
        """
        context = request.context()
        prompt_ids = tuple(context.ids)
        self._draft.begin(prompt_ids, request.options.draft_tokens)
        text = request.begin_text()
        for token in request.prefix_ids:
            yield from text.take(token)
        with request.stopwatch.stage("prefill"):
            scores = self._decoder.prefill(context)
        generated = list[int]()
        logits = []
        while True:
            token = sampler.choose(scores, generated)
            request.stopwatch.token_arrived(len(request.turns))
            if request.options.keep_logits:
                logits.append(np.array(scores))
            is_end = token in self.bundle.manifest.tokens.end
            needed = request.options.max_new_tokens - len(generated) - 2  # steps behind this one
            is_full = needed < 0 or not self._decoder.remaining
            forced = self._perception.forced((generated or prompt_ids)[-1])
            if forced is not None and not is_end and not is_full:
                token = forced  # whatever was sampled
            generated.append(token)
            yield from text.take(token)
            if is_end or is_full or text.is_over:
                break
            with request.stopwatch.stage("decode"):
                scores = self._draft.step(token, needed)
        self._draft.end(generated)
        yield from text.finish()
        request.add_turn(prompt_ids, generated, logits, has_end=is_end)
        return is_end or text.is_over

    def _hint(self, text: str | None) -> None:
        """Give a hint, once."""
        if text is not None and text not in self._hints:
            self._hints.add(text)
            give_hint(text)
