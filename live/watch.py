"""Questions about what sources show, asked again and again."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from vpt_edge.live.change import read_threshold
from vpt_edge.live.requests import Reply, Request, ignore
from vpt_edge.live.schedule import EVERY, Schedule
from vpt_edge.live.seen import Failure, Seen
from vpt_edge.live.source import check_live, check_source
from vpt_edge.live.subject import Subject
from vpt_edge.runtime.errors import ImageError, PromptError, SourceError, VptError
from vpt_edge.runtime.options import Options
from vpt_edge.runtime.result import Finished

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from vpt_edge.live.frame import Frame
    from vpt_edge.live.recent import Span
    from vpt_edge.live.seen import Event
    from vpt_edge.live.source import Source
    from vpt_edge.live.subject import Query, WatchCounts
    from vpt_edge.runtime.encoded_picture import EncodedPicture
    from vpt_edge.runtime.options import AskOptions
    from vpt_edge.runtime.pipeline import Pipeline
    from vpt_edge.runtime.queue import EventStream
    from vpt_edge.runtime.result import Answer

PULSE = 1.0  # seconds between two signs of life at most


def watch(  # noqa: PLR0913  # options by name, each documented
    pipeline: Pipeline,
    source: Source | Sequence[Source],
    *questions: str,
    every: float | None = EVERY,
    on_change: float | bool = False,
    longest_silence: float | None = None,
    span: Span | None = None,
    reuse: float | bool = False,
    **options: Unpack[AskOptions],
) -> Watch:
    """The answers to ``questions`` about frames of ``source``, or of several in turn.

        with runtime.Pipeline("bundle") as pipeline, live.open("rtsp://camera/stream") as source:
            for seen in live.watch(pipeline, source, "Is the gate open?", every=2.0):
                print(seen.frame.time, seen.answer.text)

    A frame is asked all questions, and encoded once for them. ``every``, ``on_change`` and
    ``longest_silence`` say which frames (``Schedule``), ``options`` how (``Options``). Between two
    answers of a live source its frames pass by: the next one asked about is its newest. With
    ``span`` a question is about the frames before that too, as those of one scene. With ``reuse`` a
    frame that differs by less, 0 to 1 (True for 0.06), from the one that was encoded last is not
    encoded: that one's picture is asked about, and ``Seen.same_as`` says so. With ``every=None`` it
    asks when somebody calls ``Watch.ask``, and else never. It ends when the sources have ended, or
    by ``close``.

    Raises PromptError and VptError for what cannot be asked like this; the iterator SourceError for
    a source that cannot be read, and what the pipeline raises. A broken frame is an event, counted.
    """
    Options(**options)
    if not questions:
        raise PromptError("there is no question", 'ask at least one: watch(pipeline, source, "…")')
    sources = source if isinstance(source, Sequence) else [source]
    threshold = read_threshold("reuse", reuse)
    subjects = list[Subject]()
    for each in sources:
        check_source(each)
        if every is None:
            check_live(each)
        schedule = Schedule(every, on_change, longest_silence)
        subjects.append(Subject(each, schedule, span, threshold))
    return Watch(pipeline, subjects, questions, options)


def awatch(  # noqa: PLR0913  # as watch
    pipeline: Pipeline,
    source: Source | Sequence[Source],
    *questions: str,
    every: float = EVERY,
    on_change: float | bool = False,
    longest_silence: float | None = None,
    span: Span | None = None,
    reuse: float | bool = False,
    **options: Unpack[AskOptions],
) -> AsyncGenerator[Seen, None]:
    """``watch`` for an event loop, which goes on meanwhile.

    A cancelled task, and ``aclose``, end it between two tokens.
    """
    return _follow(
        watch(
            pipeline,
            source,
            *questions,
            every=every,
            on_change=on_change,
            longest_silence=longest_silence,
            span=span,
            reuse=reuse,
            **options,
        )
    )


async def _follow(answers: Watch) -> AsyncGenerator[Seen, None]:
    loop = asyncio.get_running_loop()
    worker = ThreadPoolExecutor(1, "vpt-edge-watch")
    try:
        while True:
            seen = await loop.run_in_executor(worker, next, answers, None)
            if seen is None:
                return
            yield seen
    finally:
        answers.close()
        worker.shutdown(wait=False)


class Watch(Iterator[Seen]):
    """The answers, as ``watch`` gives them; one thread at a time takes the next.

    ``pulse`` is called by that thread as long as it does not hang: at least once a second while it
    waits for a frame, and at each piece of an answer. It is there for a watchdog.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        subjects: Sequence[Subject],
        questions: Sequence[str],
        options: AskOptions,
    ) -> None:
        if not subjects:
            raise VptError("there is no source", "give at least one: watch(pipeline, source, …)")
        self._pipeline = pipeline
        self._subjects = subjects
        self._questions = questions
        self._options = options
        self.pulse: Callable[[], object] = lambda: None
        self._closed = False
        self._finishing = False
        self._changed = threading.Event()
        self._stream: EventStream | None = None
        self._events = self._run()
        for subject in subjects:
            subject.source.listen(self._changed.set)

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End it, from any thread: an answer on its way ends between two tokens.

        The sources stay open.
        """
        self._closed = True
        stream = self._stream
        if stream is not None:
            stream.close()
        self._changed.set()

    def ask(self, question: str | None = None, reply: Reply = ignore) -> int:
        """Ask ``question``, once, or the questions of the watch, from any thread.

        It is answered among the others, for each source, about the first frame that is captured
        from now on and taken. Up to 16 requests wait while it is busy, or a source is away; more
        are dropped, and counted. Each has a frame of its own. Returns how many sources will answer:
        those that have not ended and have room.

        ``reply`` is called by the thread of the watch, with what becomes of it: for each source a
        ``Seen`` for each question, or a ``Failure``.

        Raises SourceError where a source is not live, and PromptError for what is not a question;
        one that the model cannot take is a ``Failure`` among the ``events``.
        """
        request = Request(question, reply=reply)
        for subject in self._subjects:
            check_live(subject.source)
        count = 0
        for subject in self._subjects:
            if subject.requests.put(request) and not subject.ended:
                count += 1
        self._changed.set()
        return count

    def finish(self) -> None:
        """End it, from any thread, when all requests of before are answered."""
        self._finishing = True
        self._changed.set()

    def __next__(self) -> Seen:
        for event in self._events:
            if isinstance(event, Seen):
                return event
        raise StopIteration

    def events(self) -> Iterator[Event]:
        """All that happens, in order: each ``Seen``, ``Failure`` and ``StateChange``."""
        return self._events

    @property
    def counts(self) -> tuple[WatchCounts, ...]:
        """What became of the frames, a source each; from any thread."""
        return tuple(subject.counts for subject in self._subjects)

    def _run(self) -> Iterator[Event]:
        """What happens until the end."""
        try:
            yield from self._follow_sources()
        finally:
            for subject in self._subjects:
                subject.last.forget()

    def _follow_sources(self) -> Iterator[Event]:
        """A frame of each source in turn, asked about where it is due."""
        while not self._closed:
            self._changed.clear()
            self.pulse()
            quiet = True
            for subject in self._subjects:
                yield from subject.state_changes()
                frame = subject.poll()
                if frame is not None:
                    quiet = False
                    yield from self._consider(subject, frame)
                if self._closed:
                    return
            if all(subject.ended for subject in self._subjects) or self._is_finished():
                break
            if quiet:
                self._changed.wait(PULSE)
        for subject in self._subjects:
            yield from subject.state_changes()

    def _is_finished(self) -> bool:
        return self._finishing and not any(subject.is_awaited for subject in self._subjects)

    def _consider(self, subject: Subject, frame: Frame) -> Iterator[Event]:
        """Ask about ``frame`` if it is due, or somebody wants to know."""
        request = subject.requests.take(frame)
        try:
            queries = subject.choose(frame, self._questions, request)
            if queries:
                yield from self._ask(subject, frame, queries)
        except (ImageError, SourceError) as error:
            subject.fail()
            subject.last.forget()
            failure = Failure(frame, error)
            if request is not None:
                request.reply(failure)
            yield failure

    def _ask(self, subject: Subject, frame: Frame, queries: Sequence[Query]) -> Iterator[Event]:
        """All ``queries`` about ``frame``, which is encoded with the first."""
        start = frame.age
        picture = subject.last.show(frame, lambda: self._pipeline.encode(subject.show(frame)))
        same_as = subject.last.same_as
        try:
            for query in queries:
                try:
                    answer = self._answer(picture, query.question)
                except PromptError as error:
                    if not query.once:
                        raise
                    subject.fail()
                    failure = Failure(frame, error)
                    query.reply(failure)
                    yield failure
                    continue
                if answer is None:
                    return
                seen = Seen(frame, query.question, answer, start, frame.age, query.once, same_as)
                query.reply(seen)
                yield seen
                start = frame.age
        finally:
            subject.last.release()

    def _answer(self, picture: EncodedPicture, question: str) -> Answer | None:
        """None where the watch was closed meanwhile."""
        self._stream = picture.stream(question, **self._options)
        if self._closed:  # perhaps before there was a stream to close
            self._stream.close()
        for event in self._stream:
            self.pulse()
            for subject in self._subjects:
                subject.let_pass()
            if isinstance(event, Finished):
                return event.answer
        return None
