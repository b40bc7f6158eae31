"""Requests of several threads: each gets its own events whole, in turn, and nobody waits for good.

What a thread does is told it by a pool of one thread; a wait that would not end fails after LONG.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any

import pytest
from scripted import CLIP, PICTURE, REGION, Tiny, join

from vpt_edge.runtime import Finished, Pipeline, VptError
from vpt_edge.runtime.errors import SessionError
from vpt_edge.runtime.testing import Script

if TYPE_CHECKING:
    from vpt_edge.runtime.queue import EventStream
    from vpt_edge.runtime.result import Event

LONG = 20


@pytest.fixture
def pools() -> Iterator[tuple[ThreadPoolExecutor, ThreadPoolExecutor]]:
    first = ThreadPoolExecutor(1)
    second = ThreadPoolExecutor(1)
    yield first, second
    first.shutdown(wait=False)
    second.shutdown(wait=False)


Pools = tuple[ThreadPoolExecutor, ThreadPoolExecutor]


def text_of(events: list[Event]) -> str:
    """Of a whole stream: what was streamed is what was answered."""
    last = events[-1]
    assert isinstance(last, Finished)
    assert join(events) == last.answer.raw
    return last.answer.raw


def test_threads_are_answered_one_after_the_other(tiny: Tiny) -> None:
    turns = sorted(letter * 50 for letter in "abcdefgh")
    texts = list[str]()
    with Pipeline(tiny(), opener=Script(*turns)) as pipeline:
        barrier = threading.Barrier(4)

        def ask() -> None:
            barrier.wait()
            texts.extend(text_of(list(pipeline.stream(PICTURE, "What?"))) for _ in range(2))

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LONG)
    assert sorted(texts) == turns


def test_a_stream_driven_by_a_thread_pool_waits_for_no_thread(tiny: Tiny, pools: Pools) -> None:
    """Its first event is taken on one thread, the others on another, as Starlette does it; a
    request that begins on the first in between waits for its turn and gets it.
    """
    one, other = pools
    with Pipeline(tiny(), opener=Script("Yes.", "No.")) as pipeline:
        stream = pipeline.stream(PICTURE, "What?")
        events = [one.submit(next, stream).result(LONG)]
        second = one.submit(pipeline.ask, PICTURE, "And now?")
        wait([second], timeout=0.1)  # until it waits, or has failed
        events += other.submit(list, stream).result(LONG)
        assert text_of(events) == "Yes."
        assert second.result(LONG).text == "No."


def test_two_streams_that_two_threads_interleave_both_end(tiny: Tiny, pools: Pools) -> None:
    with Pipeline(tiny(), opener=Script(f"a{REGION}b", "cdef", "ghij")) as pipeline:
        streams = [pipeline.stream(PICTURE, question) for question in ("What?", "Who?")]
        taken: list[list[Event]] = [[], []]
        running = [True, True]
        turn = 0
        while any(running):
            for index, stream in enumerate(streams):
                turn += 1
                event = pools[turn // 2 % 2].submit(next, stream, None).result(LONG)
                if event is None:
                    running[index] = False
                else:
                    taken[index].append(event)
    assert [text_of(events) for events in taken] == ["cdef", "ghij"]


def test_an_unfinished_stream_is_computed_first_and_keeps_its_events(tiny: Tiny) -> None:
    with Pipeline(tiny(), opener=Script(f"So {CLIP}", "Yes.", "No.")) as pipeline:
        stream = pipeline.stream(PICTURE, "What?")
        events = [next(stream)]
        assert pipeline.ask(PICTURE, "And now?").text == "No."
        events += stream
        assert text_of(events) == "Yes."
        assert next(stream, None) is None


@pytest.mark.parametrize("way", ["closed", "let go", "in a circle"])
def test_an_abandoned_stream_ends_and_computes_no_more(way: str, tiny: Tiny) -> None:
    script = Script("Yes, " * 50, "No.")
    with Pipeline(tiny(), opener=script) as pipeline:
        stream: Any = pipeline.stream(PICTURE, "What?")
        next(stream)
        runs = len(script.sessions["decoder"].calls)
        if way == "closed":
            stream.close()
            assert list(stream) == []
        elif way == "in a circle":
            circle = [stream]
            circle.append(circle)
            del circle
        del stream
        gc.collect()
        answer = pipeline.ask(PICTURE, "And now?")
        assert answer.text == "No."
        assert len(script.sessions["decoder"].calls) - runs == len(answer.turns[0].generated_ids)


def test_a_stream_that_nobody_reads_but_somebody_holds_blocks_nobody(
    tiny: Tiny, pools: Pools
) -> None:
    with Pipeline(tiny(), opener=Script("Yes.", "No.")) as pipeline:
        stream = pools[0].submit(pipeline.stream, PICTURE, "What?").result(LONG)
        pools[0].submit(next, stream).result(LONG)
        pools[0].shutdown()
        assert pools[1].submit(pipeline.ask, PICTURE, "And now?").result(LONG).text == "No."


def test_an_unread_stream_holds_nothing(tiny: Tiny) -> None:
    with Pipeline(tiny(), opener=Script("Yes.")) as pipeline:
        stream = pipeline.stream(PICTURE, "What?")
        assert pipeline.ask(PICTURE, "And now?").text == "Yes."
        del stream


def test_requests_begin_in_the_order_in_which_they_came(tiny: Tiny) -> None:
    script = Script("0", "1", "2", "3", "4")
    with Pipeline(tiny(), opener=script) as pipeline:
        streams = [pipeline.stream(PICTURE, "What?") for _ in range(5)]
        texts: list[str] = []
        inside = threading.Event()
        go_on = threading.Event()
        run = script.sessions["vision_encoder"].run

        def hold(inputs: Any, outputs: Any) -> None:
            run(inputs, outputs)
            inside.set()
            assert go_on.wait(LONG)

        script.sessions["vision_encoder"].run = hold  # type: ignore[method-assign]
        threads = []
        for index, stream in enumerate(streams):

            def read(stream: EventStream = stream, index: int = index) -> None:
                texts.append(f"{index}: {text_of(list(stream))}")

            threads.append(threading.Thread(target=read))
            threads[-1].start()
            assert inside.wait(LONG)
            waiting = threading.Event()
            while len(pipeline._queue._jobs) <= index:
                waiting.wait(0.001)
        go_on.set()
        for thread in threads:
            thread.join(LONG)
    assert sorted(texts) == [f"{index}: {index}" for index in range(5)]


def fail_once(script: Script, error: BaseException) -> None:
    """Let the decoder's third run raise ``error``."""
    session = script.sessions["decoder"]
    run = session.run
    left = [None, None, error]

    def failing(inputs: Any, outputs: Any) -> None:
        found = left.pop(0) if left else None
        if found is not None:
            raise found
        run(inputs, outputs)

    session.run = failing  # type: ignore[method-assign]


def test_an_error_reaches_the_request_that_it_belongs_to(tiny: Tiny) -> None:
    """Whoever computes it: here the second request, which is answered."""
    script = Script("Yes.", "No.")
    with Pipeline(tiny(), opener=script) as pipeline:
        stream = pipeline.stream(PICTURE, "What?")
        fail_once(script, SessionError("out of memory"))
        events = [next(stream)]
        assert pipeline.ask(PICTURE, "And now?").text == "No."
        with pytest.raises(SessionError, match="out of memory"):
            events += stream
        assert next(stream, None) is None


def test_an_interrupt_is_the_threads_and_the_request_says_so(tiny: Tiny) -> None:
    script = Script("Yes.", "No.", "Maybe.")
    with Pipeline(tiny(), opener=script) as pipeline:
        stream = pipeline.stream(PICTURE, "What?")
        fail_once(script, KeyboardInterrupt())
        next(stream)
        with pytest.raises(KeyboardInterrupt):
            pipeline.ask(PICTURE, "And now?")
        with pytest.raises(VptError, match="the request was interrupted; ask again"):
            list(stream)
        assert pipeline.ask(PICTURE, "And now?").text == "No."


def test_a_request_from_within_a_request_is_an_error(tiny: Tiny) -> None:
    """It would wait for itself."""
    script = Script("Yes.", "No.")
    with Pipeline(tiny(), opener=script) as pipeline:
        run = script.sessions["decoder"].run

        def ask(inputs: Any, outputs: Any) -> None:
            script.sessions["decoder"].run = run  # type: ignore[method-assign]
            for wrong in (lambda: pipeline.ask(PICTURE, "Really?"), pipeline.forget):
                with pytest.raises(VptError, match="from within a request"):
                    wrong()
            run(inputs, outputs)

        script.sessions["decoder"].run = ask  # type: ignore[method-assign]
        assert pipeline.ask(PICTURE, "What?").text == "Yes."
        assert pipeline.ask(PICTURE, "And now?").text == "No."


def test_closing_waits_for_the_token_and_ends_every_request(tiny: Tiny, pools: Pools) -> None:
    script = Script("Yes.", "No.")
    pipeline = Pipeline(tiny(), opener=script)
    inside = threading.Event()
    closing = threading.Event()
    run = script.sessions["decoder"].run

    def slow(inputs: Any, outputs: Any) -> None:
        inside.set()
        closing.wait(0.2)
        assert not script.sessions["decoder"].closed
        run(inputs, outputs)

    script.sessions["decoder"].run = slow  # type: ignore[method-assign]
    running = pools[0].submit(pipeline.ask, PICTURE, "What?")
    assert inside.wait(LONG)
    waiting = pools[1].submit(pipeline.ask, PICTURE, "And now?")
    pipeline.close()
    assert script.sessions["decoder"].closed
    for request in (running, waiting):
        with pytest.raises(VptError, match="the pipeline is closed"):
            request.result(LONG)


def test_an_unfinished_stream_of_a_closed_pipeline_gives_what_it_has_and_says_so(
    tiny: Tiny,
) -> None:
    pipeline = Pipeline(tiny(), opener=Script("Yes."))
    stream = pipeline.stream(PICTURE, "What?")
    next(stream)
    pipeline.close()
    with pytest.raises(VptError, match="closed"):
        next(stream)


def test_forgetting_waits_for_the_requests_before_it(tiny: Tiny) -> None:
    script = Script("Yes.", "No.")
    with Pipeline(tiny(), opener=script) as pipeline, pipeline.encode(PICTURE) as encoded:
        stream = encoded.stream("What?")
        events = [next(stream)]
        pipeline.forget()
        events += stream
        assert text_of(events) == "Yes."
        assert encoded.ask("Who?").usage.reused_tokens == 0


def test_a_closed_picture_leaves_its_stream_whole(tiny: Tiny) -> None:
    with Pipeline(tiny(), opener=Script(REGION, "Yes.")) as pipeline:
        with pipeline.encode(PICTURE) as encoded:
            stream = encoded.stream("What?")
            events = [next(stream)]
        events += stream
        assert text_of(events) == "Yes."
