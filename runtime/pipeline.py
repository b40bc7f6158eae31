"""The loop: one request, in which the model looks again where it asks to."""

from __future__ import annotations

import inspect
import os
import threading
import warnings
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from vpt_edge.runtime.bundle import Bundle
from vpt_edge.runtime.chat import Chat
from vpt_edge.runtime.decoder import Decoder
from vpt_edge.runtime.errors import VptError
from vpt_edge.runtime.image import open_picture
from vpt_edge.runtime.options import Options
from vpt_edge.runtime.perception import open_perception
from vpt_edge.runtime.request import Request
from vpt_edge.runtime.result import Answer, Event, Finished, Text, Turn
from vpt_edge.runtime.sampler import Sampler
from vpt_edge.runtime.sessions import open_session
from vpt_edge.runtime.vision import PictureFeatures, Vision

if TYPE_CHECKING:
    from types import FrameType

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

    def stream(self, question: str, **options: Unpack[AskOptions]) -> Iterator[Event]:
        """The events of ``Pipeline.stream``, with the same options."""
        return self._pipeline.stream(self, question, **options)

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
    Requests from several threads are answered one after another; a thread that begins a request
    while its own stream is unfinished gets an error instead of a deadlock.
    """

    def __init__(
        self,
        bundle: str | os.PathLike[str] | Model,
        device: str = "cpu",
        *,
        opener: SessionOpener | None = None,
    ) -> None:
        self._sessions: dict[str, Session] = {}
        try:
            if isinstance(bundle, str | os.PathLike):
                unchecked = Bundle.read(bundle)
                self.bundle: Model = unchecked
                with unchecked.check_beside():
                    self._open(device, opener)
            else:
                self.bundle = bundle
                self._open(device, opener)
            self._vision = Vision(self.bundle.manifest, self._perception, self._sessions)
            decoder = self._sessions["decoder"]
            project = self._vision.project
            self._decoder = Decoder(self.bundle, self._perception, decoder, project)
        except BaseException:
            self.close()
            raise
        self._lock = threading.Lock()
        self._owner = 0
        self._hinted = False

    def _open(self, device: str, opener: SessionOpener | None) -> None:
        """Tokenizer and sessions, at once on a CPU.

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

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the sessions; the pipeline answers no more."""
        while self._sessions:
            _, session = self._sessions.popitem()
            session.close()

    def forget(self) -> None:
        """Let go of what earlier requests computed: the next one computes all of its tokens."""
        self._check_free()
        with self._lock:
            self._decoder.forget()

    def encode(self, image: Picture) -> EncodedPicture:
        """``image`` for several questions: it is encoded once, with the first of them."""
        return EncodedPicture(self, open_picture(image), self._vision)

    def ask(
        self, image: Picture | EncodedPicture, question: str, **options: Unpack[AskOptions]
    ) -> Answer:
        """The answer to ``question`` about ``image``; the options are ``Options``."""
        *_, last = self.stream(image, question, **options)
        assert isinstance(last, Finished)
        return last.answer

    def stream(
        self, image: Picture | EncodedPicture, question: str, **options: Unpack[AskOptions]
    ) -> Iterator[Event]:
        """Yield ``Text`` and ``Looked`` as they happen, and ``Finished`` with the answer.

        ``image``: a path, bytes, a PIL image, an RGB array (height, width, 3) uint8, or what
        ``encode`` gave. The options are ``Options``.

        Raises ImageError and PromptError for what cannot be shown or asked.
        """
        asked = Options(**options)
        self._check_open()
        sampler = Sampler(asked.temperature, asked.top_k, asked.top_p, asked.seed)
        encoded = image if isinstance(image, EncodedPicture) else self.encode(image)
        encoded.check(self)
        request = Request(encoded.features, question, asked, self._perception, self._chat)
        self._hint(asked)
        return self._one_at_a_time(self._answer(request, sampler))

    def _answer(self, request: Request, sampler: Sampler) -> Iterator[Event]:
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
        """Prefill what is new in the context, then generate; returns whether an end token came."""
        context = request.context()
        prompt_ids = tuple(context.ids)
        most = len(prompt_ids) + request.options.max_new_tokens
        pieces = self._chat.stream(self._perception.hidden_ids)
        for token in request.prefix_ids:
            yield from map(Text, pieces.step(token))
        with request.stopwatch.stage("prefill"):
            scores = self._decoder.prefill(context)
        kept = []
        while True:
            token = sampler.choose(scores)
            request.stopwatch.token_arrived(len(request.turns))
            if request.options.keep_logits:
                kept.append(np.array(scores))
            complete = token in self.bundle.manifest.tokens.end
            full = len(context.ids) + 1 == most or not self._decoder.remaining
            forced = self._perception.forced(context.ids[-1])
            if forced is not None and not complete and not full:
                token = forced  # whatever was sampled
            context.ids.append(token)
            yield from map(Text, pieces.step(token))
            if complete or full:
                break
            with request.stopwatch.stage("decode"):
                scores = self._decoder.step(token)
        spoken = context.ids[len(prompt_ids) - len(request.prefix_ids) :]
        request.turns.append(
            Turn(
                prompt_ids=prompt_ids,
                generated_ids=tuple(context.ids[len(prompt_ids) :]),
                text=self._chat.decode(spoken),
                logits=np.stack(kept) if kept else None,
            )
        )
        return complete

    def _one_at_a_time(self, events: Iterator[Event]) -> Iterator[Event]:
        self._check_free()
        with self._lock:
            self._owner = threading.get_ident()
            try:
                self._check_open()
                yield from events
            finally:
                self._owner = 0

    def _check_free(self) -> None:
        if self._owner == threading.get_ident():
            raise VptError(
                "this thread's earlier stream is unfinished",
                "exhaust it or close() it, then ask again",
            )

    def _check_open(self) -> None:
        if not self._sessions:
            raise VptError("the pipeline is closed", "open it again: Pipeline(bundle)")

    def _hint(self, options: Options) -> None:
        hint = self._perception.hint(options.perception)
        if hint is not None and not self._hinted:
            self._hinted = True
            warnings.warn(hint, stacklevel=_caller_level(inspect.currentframe()))


def _caller_level(frame: FrameType | None) -> int:
    """The level, from ``frame`` on, of the first frame that is the application's."""
    level = 1
    ours = __name__.partition(".")[0]
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == ours:
        level += 1
        frame = frame.f_back
    return level
