"""A bundle that is served: the pipeline, what waits for it, and what is kept for the next one."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

from vpt_edge.runtime.errors import (
    ContextLengthError,
    ImageError,
    OptionError,
    PromptError,
    VptError,
)
from vpt_edge.runtime.perception import open_perception
from vpt_edge.server.access_log import open_access_log
from vpt_edge.server.errors import RequestError, as_request_error
from vpt_edge.server.history import History
from vpt_edge.server.metrics import Metrics
from vpt_edge.server.observation import Observation
from vpt_edge.server.picture_cache import PictureCache, encoded_bytes
from vpt_edge.server.picture_file import (
    PictureFiles,
    PictureTooLargeError,
    check_headers,
    open_upright,
)
from vpt_edge.server.pictures import PictureLoader
from vpt_edge.server.plain_answer import PlainEvents
from vpt_edge.server.request_record import current_record
from vpt_edge.server.source_metrics import SourceCollector
from vpt_edge.server.stopping import Stopping
from vpt_edge.server.watching import Watching
from vpt_edge.server.worker import Worker

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from typing_extensions import Unpack

    from vpt_edge.runtime.encoded_picture import EncodedPicture
    from vpt_edge.runtime.options import AskOptions
    from vpt_edge.runtime.pipeline import Pipeline
    from vpt_edge.runtime.queue import EventStream
    from vpt_edge.server.plain_answer import PlainEvent
    from vpt_edge.server.settings import Settings

State: TypeAlias = Literal["loading", "ready", "stopping"]
LAST_STEP = 30.0  # seconds at most until an answer that is abandoned has ended


class Askable(Protocol):
    """A picture about which can be asked: a client's file, or one that is encoded."""

    def stream(self, question: str, **options: Unpack[AskOptions]) -> EventStream: ...


class Service:
    """Questions in, events out.

    ``open_pipeline`` loads the model, which takes a while: until then ``state`` is "loading", and
    requests are refused. ``stopping`` is set when the server ends: what waits for long ends then.
    Raises SourceError for what cannot be watched.
    """

    def __init__(self, open_pipeline: Callable[[], Pipeline], settings: Settings) -> None:
        self.settings = settings
        self.state: State = "loading"
        self.stopping = Stopping()
        self.access_log = open_access_log(settings)
        self.pictures = PictureLoader(settings)
        self.history = History()
        self.watching = Watching(settings.watch)
        self.stopping.then(self.watching.stop)
        self.worker = Worker(settings.queue_size, settings.time_limit, settings.step_seconds)
        self._open_pipeline = open_pipeline
        self._pipeline: Pipeline | None = None
        self._lock = threading.Lock()
        self.cache = PictureCache(settings.cache_bytes, self._encode, self._measure)
        self.metrics = Metrics(self.worker, self.cache)
        self.metrics.register(SourceCollector(self.watching.statuses))

    @property
    def pipeline(self) -> Pipeline:
        """Raises RequestError while it is loading."""
        if self._pipeline is None or self.state != "ready":
            problem = f"the server is {self.state}"
            raise RequestError(503, self.state, problem, "ask again later", retry_after=2.0)
        return self._pipeline

    @property
    def problem(self) -> str | None:
        """Why it is ready and answers nothing; None where that is not so."""
        if self.state != "ready":
            return None
        return self.worker.problem

    def load(self) -> None:
        """Open the pipeline and answer from now on. Raises what the pipeline raises."""
        pipeline = self._open_pipeline()
        with self._lock:
            if self.state == "loading":
                self._begin(pipeline)
                return
        pipeline.close()  # the server has ended meanwhile

    def _begin(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        perception = open_perception(pipeline.bundle.manifest)
        mode = self.settings.perception
        if mode is not None and mode not in perception.modes:
            known = ", ".join(perception.modes)
            problem = f"perception {mode!r} is unknown to this model, expected one of: {known}"
            raise VptError(problem, "leave it out: vpt-serve --perception")
        self.settings = replace(
            self.settings,
            perception=mode or perception.usual_mode,
            most_pictures=perception.most_pictures,
            thinks=perception.thoughts is not None,
        )
        self.worker.start()
        self.state = "ready"

    def stop(self) -> None:
        """Take no more requests; the one that is computed ends whole."""
        with self._lock:
            self.state = "stopping"
        self.stopping.set()
        self.worker.stop()

    def close(self) -> None:
        """Let go of the pipeline, at last by force."""
        self.stop()
        self.watching.close()
        if self._pipeline is not None:
            self._close_pipeline(self._pipeline)
        if self.access_log is not None:
            self.access_log.close()

    def _close_pipeline(self, pipeline: Pipeline) -> None:
        if not self.worker.join(self.settings.grace_seconds):
            self.worker.abandon()
            self.worker.join(LAST_STEP)
        pipeline.close()
        self.cache.clear()

    async def open_pictures(self, files: Sequence[bytes]) -> PictureFiles:
        """The pictures in ``files``, to be decoded when it is their turn.

        Raises RequestError for what does not begin as a picture, and where they are too large.
        """
        try:
            await asyncio.to_thread(check_headers, files, self.settings.max_pixels)
        except ImageError as error:
            raise as_picture_error(error) from error
        return PictureFiles(files, self.cache, self.pipeline)

    def _encode(self, data: bytes) -> EncodedPicture:
        assert self._pipeline is not None
        return self._pipeline.encode(open_upright(data, self.settings.max_pixels))

    def _measure(self, picture: EncodedPicture) -> int:
        assert self._pipeline is not None
        return encoded_bytes(picture, self._pipeline.bundle.manifest)

    async def ask(
        self,
        client: str,
        picture: Askable,
        question: str,
        options: AskOptions,
        store: bool = False,
    ) -> AsyncGenerator[PlainEvent, None]:
        """The events of a question; the last has the picture if the answer is to be stored.

        Raises RequestError for what is not answered.
        """
        observation = Observation(self.metrics, current_record())

        def start() -> PlainEvents:
            observation.start()
            stream = picture.stream(question, **options)
            observation.open()
            return PlainEvents(stream, store)

        try:
            async for event in self.worker.events(client, start):
                observation.take(event)
                yield event
        except VptError as error:
            failure = as_answer_error(error)
            observation.fail(failure.code)
            raise failure from error
        except Exception as error:  # a fault of the server
            observation.fail(as_request_error(error).code)
            raise
        finally:
            observation.end()


def as_answer_error(error: VptError) -> RequestError:
    """What a client is told whose question was not answered."""
    if isinstance(error, ImageError):
        return as_picture_error(error)
    if isinstance(error, OptionError):
        return RequestError(400, "invalid_value", error.problem, error.fix, param=error.option)
    if isinstance(error, PromptError):
        code = "invalid_prompt"
        if isinstance(error, ContextLengthError):
            code = "context_length_exceeded"
        return RequestError(400, code, error.problem, error.fix, param="messages")
    return as_request_error(error)


def as_picture_error(error: ImageError) -> RequestError:
    """What a client is told whose picture is not one, or too large."""
    code = "invalid_image_format"
    if isinstance(error, PictureTooLargeError):
        code = "image_too_large"
    return RequestError(400, code, error.problem, error.fix, param="messages")
