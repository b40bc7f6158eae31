"""The loop: one request, in which the model looks again where it asks to."""

from __future__ import annotations

import contextlib
import inspect
import os
import threading
import warnings
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vpt_edge.runtime.bundle import Bundle
from vpt_edge.runtime.chat import Prompt, check_prefix, question_text
from vpt_edge.runtime.decoder import Decoder, Sampler
from vpt_edge.runtime.errors import PromptError, VptError
from vpt_edge.runtime.image import open_picture
from vpt_edge.runtime.request import Request
from vpt_edge.runtime.result import Answer, Event, Finished, Text, Turn
from vpt_edge.runtime.sessions import open_session
from vpt_edge.runtime.view import PictureView
from vpt_edge.runtime.vision import Vision

if TYPE_CHECKING:
    from types import FrameType

    from vpt_edge.runtime.chat import Perception
    from vpt_edge.runtime.image import Picture
    from vpt_edge.runtime.sessions import Session, SessionOpener


@contextlib.contextmanager
def _checked(bundle: Bundle) -> Iterator[None]:
    """Hash the files while they are opened; where they are altered, that is the error, whatever
    else fails."""
    with ThreadPoolExecutor(1) as thread:
        whole = thread.submit(bundle.check)
        try:
            yield
        except Exception:
            whole.result()
            raise
        whole.result()


@dataclass(frozen=True)
class _Options:
    sampler: Sampler
    max_new_tokens: int
    max_looks: int
    keep_logits: bool


class Pipeline:
    """Answers questions about pictures with the model of one bundle.

        with runtime.Pipeline("bundle") as pipeline:
            print(pipeline.ask("street.png", "What does the sign say?", perception="region").text)

    ``bundle`` is a folder that vpt-export wrote, or an opened ``Bundle``; ``device`` is "cpu",
    "cuda", "tensorrt" or "tensorrt-rtx". ``opener`` replaces the inference library, for tests.
    Requests from several threads are answered one after another; a thread that begins a request
    while its own stream is unfinished gets an error instead of a deadlock."""

    def __init__(
        self,
        bundle: str | os.PathLike[str] | Bundle,
        device: str = "cpu",
        *,
        opener: SessionOpener | None = None,
    ) -> None:
        self.bundle = bundle if isinstance(bundle, Bundle) else Bundle.read(bundle)
        self._manifest = self.bundle.manifest
        self._sessions: dict[str, Session] = {}
        try:
            with contextlib.nullcontext() if self.bundle is bundle else _checked(self.bundle):
                self._open(device, opener)
            self._vision = Vision(self.bundle, self._sessions)
            self._decoder = Decoder(self.bundle, self._sessions["decoder"], self._vision.project)
        except BaseException:
            self.close()
            raise
        self._lock, self._owner = threading.Lock(), 0
        self._seen: PictureView | None = None  # whose keys and values the decoder holds
        self._hinted = False

    def _open(self, device: str, opener: SessionOpener | None) -> None:
        """Tokenizer and sessions, at once on a CPU.

        A GPU's plan is in memory twice while it opens: one at a time.
        """

        def session(name: str) -> None:
            self._sessions[name] = (
                opener(self.bundle, name) if opener else open_session(self.bundle, name, device)
            )

        with ThreadPoolExecutor() as pool:
            prompt = pool.submit(Prompt, self.bundle.file("tokenizer.json"))
            at_once = device == "cpu" and opener is None
            for _ in (pool.map if at_once else map)(session, self._manifest.graphs):
                pass
            self._prompt = prompt.result()

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the sessions; the pipeline answers no more."""
        while self._sessions:
            self._sessions.popitem()[1].close()

    def forget(self) -> None:
        """Let go of what earlier requests computed: the next one computes all of its tokens, as the
        first did."""
        self._check_free()
        with self._lock:
            self._decoder.forget()
            self._seen = None

    def view(self, image: Picture) -> PictureView:
        """``image`` for several questions: it is encoded once, and each question computes only its
        own tokens."""
        return PictureView(self, open_picture(image))

    def ask(self, image: Picture | PictureView, question: str, **options: Any) -> Answer:
        """The answer to ``question`` about ``image``; the options are those of ``stream``."""
        *_, last = self.stream(image, question, **options)
        assert isinstance(last, Finished)
        return last.answer

    def stream(
        self,
        image: Picture | PictureView,
        question: str,
        *,
        perception: Perception = "free",
        assistant_prefix: str = "",
        max_new_tokens: int = 1024,
        max_looks: int = 1,
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        keep_logits: bool = False,
    ) -> Iterator[Event]:
        """Yield ``Text`` and ``Looked`` as they happen, and ``Finished`` with the answer.

        image: a path, bytes, a PIL image, an RGB array (height, width, 3) uint8, or a ``view``.
        perception: "free" appends nothing to the question and honours the triggers; "region" and
        "reencode" append the
            authors' sentence; "off" appends nothing and takes triggers for text.
        assistant_prefix: text that the assistant's first turn begins with.
        max_new_tokens: for each turn. max_looks: rounds of looking again; the authors' code has
        one. temperature, top_k, top_p, seed: sampling; at temperature 0 the likeliest token is
        taken. keep_logits: keep the logits of every generated token in the turns.

        Raises ImageError and PromptError for what cannot be shown or asked.
        """
        if max_new_tokens < 1 or max_looks < 0:
            raise PromptError(
                f"found max_new_tokens {max_new_tokens}, max_looks {max_looks}; expected at least 1 and 0"
            )
        self._check_open()
        options = _Options(
            Sampler(temperature, top_k, top_p, seed),
            max_new_tokens,
            0 if perception == "off" else max_looks,
            keep_logits,
        )
        first_message = question_text(question, perception, self._manifest.kind)
        check_prefix(assistant_prefix, self._manifest.kind)
        if perception == "free":
            self._hint()
        view = image if isinstance(image, PictureView) else self.view(image)
        view.check(self)
        request = Request(view, question, first_message, assistant_prefix, self._manifest.kind)
        return self._one_at_a_time(self._answer(request, options))

    def _answer(self, request: Request, options: _Options) -> Iterator[Event]:
        """The loop: a turn of text and, as long as the turn asks for it, a look and another turn on
        the same cache."""
        request.begin(self._vision)
        greedy = options.sampler.greedy and not options.keep_logits
        self._decoder.reset(same_picture=self._seen is request.view, greedy=greedy)
        self._seen = request.view
        while True:
            complete = yield from self._turn(request, options)
            decision = request.decide()
            if not decision.actions or len(request.turns) > options.max_looks:
                break
            yield from request.look(decision, self._vision)
        asked_again = options.max_looks > 0 and decision.actions
        reason = decision.reason if options.max_looks else "answer"
        if reason == "answer":
            reason = "length" if not complete else "look_limit" if asked_again else "stop"
        yield Finished(request.answer(reason, self._decoder))

    def _turn(self, request: Request, options: _Options) -> Generator[Event, None, bool]:
        """Prefill what is new in the context, then generate; returns whether an end token came."""
        tokens, context = self._manifest.tokens, request.context(self._prompt)
        start, prompt_ids = len(context.ids) - len(request.prefix_ids), tuple(context.ids)
        pieces, kept = self._prompt.stream(tokens.triggers), []
        for token in request.prefix_ids:
            yield from map(Text, pieces.step(token))
        with request.timed("prefill"):
            logits = self._decoder.prefill(context)
        while True:
            token = options.sampler.choose(logits)
            request.heard()
            if options.keep_logits:
                kept.append(np.array(logits))
            complete = token in tokens.end
            full = (
                len(context.ids) + 1 - len(prompt_ids) == options.max_new_tokens
                or not self._decoder.room
            )
            if (
                context.ids[-1] == tokens.action_start
                and tokens.action is not None
                and not complete
                and not full
            ):
                token = tokens.action  # whatever was sampled (PROTOCOL 5.4)
            context.ids.append(token)
            yield from map(Text, pieces.step(token))
            if complete or full:
                break
            with request.timed("decode"):
                logits = self._decoder.step(token)
        request.turns.append(
            Turn(
                prompt_ids=prompt_ids,
                generated_ids=tuple(context.ids[len(prompt_ids) :]),
                text=self._prompt.decode(context.ids[start:]),
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
                "this thread's earlier stream is unfinished; exhaust it or close() it, then ask again"
            )

    def _check_open(self) -> None:
        if not self._sessions:
            raise VptError("the pipeline is closed; open it again: Pipeline(bundle)")

    def _hint(self) -> None:
        if self._manifest.prompt_triggered and not self._hinted:
            self._hinted = True
            warnings.warn(
                f"{self._manifest.source} was trained to look again when the question asks for it; "
                'perception="region" or "reencode" appends the sentence that it knows',
                stacklevel=_caller_level(inspect.currentframe()),
            )


def _caller_level(frame: FrameType | None) -> int:
    """The level, from ``frame`` on, of the first frame that is not of this package: the
    application's line."""
    level = 1
    ours = __name__.partition(".")[0]
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == ours:
        level += 1
        frame = frame.f_back
    return level
