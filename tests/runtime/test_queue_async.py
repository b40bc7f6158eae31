"""Requests of event loops: the loop goes on, tasks wait their turn, a cancelled one ends."""

from __future__ import annotations

import asyncio
import gc
import linecache
import threading
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import pytest
from scripted import PICTURE, REGION, Tiny, join, waiting

from vpt_edge.runtime import Finished, Looked, Pipeline, VptError
from vpt_edge.runtime.errors import ImageError, PromptError, SessionError
from vpt_edge.runtime.testing import Script

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from vpt_edge.runtime import Answer
    from vpt_edge.runtime.result import Event

LONG = 20


async def read(events: AsyncIterator[Event]) -> list[Event]:
    return [event async for event in events]


def answer_of(events: list[Event]) -> Answer:
    last = events[-1]
    assert isinstance(last, Finished)
    assert join(events) == last.answer.raw
    return last.answer


class Gate:
    """Lets the decoder run no further than a test wants."""

    def __init__(self, script: Script) -> None:
        self.reached = threading.Semaphore(0)
        self.opened = threading.Semaphore(0)
        session = script.sessions["decoder"]
        self._run = session.run
        session.run = self.run  # type: ignore[method-assign]

    def run(self, inputs: Any, outputs: Any) -> None:
        self.reached.release()
        assert self.opened.acquire(timeout=LONG)
        self._run(inputs, outputs)

    def open(self, count: int = 10000) -> None:
        self.opened.release(count)


def test_the_events_are_those_of_a_stream(tiny: Tiny) -> None:
    async def main() -> None:
        with Pipeline(tiny(), opener=Script(f"So {REGION}", "Yes.")) as pipeline:
            events = await read(pipeline.astream(PICTURE, "What?", perception="region"))
        with Pipeline(tiny(), opener=Script(f"So {REGION}", "Yes.")) as pipeline:
            expected = list(pipeline.stream(PICTURE, "What?", perception="region"))
        assert events[:-1] == expected[:-1]
        assert any(isinstance(event, Looked) for event in events)
        assert answer_of(events).turns == answer_of(expected).turns

    asyncio.run(main())


def test_an_encoded_picture_is_asked_alike(tiny: Tiny) -> None:
    async def main() -> None:
        with Pipeline(tiny(), opener=Script("Yes.", "No.")) as pipeline:
            encoded = pipeline.encode(PICTURE)
            assert answer_of(await read(encoded.astream("What?"))).text == "Yes."
            answer = await encoded.aask("Why?", max_new_tokens=2)
            assert (answer.text, answer.usage.vision_runs) == ("No", 0)

    asyncio.run(main())


def test_the_loop_goes_on_while_a_request_runs(tiny: Tiny) -> None:
    async def main() -> None:
        script = Script("Yes.")
        with Pipeline(tiny(), opener=script) as pipeline:
            gate = Gate(script)
            task = asyncio.create_task(pipeline.aask(PICTURE, "What?"))
            while not gate.reached.acquire(blocking=False):
                await asyncio.sleep(0.001)
            assert not task.done()
            gate.open()
            assert (await asyncio.wait_for(task, LONG)).text == "Yes."

    asyncio.run(main())


def test_tasks_wait_their_turn_and_lose_no_event(tiny: Tiny) -> None:
    async def main() -> None:
        turns = sorted(letter * 20 for letter in "abcdefgh")
        with Pipeline(tiny(), opener=Script(*turns)) as pipeline:
            streams = [pipeline.astream(PICTURE, "What?") for _ in turns]
            results = await asyncio.wait_for(asyncio.gather(*map(read, streams)), LONG)
        assert sorted(answer_of(events).text for events in results) == turns

    asyncio.run(main())


def test_waiting_tasks_have_one_thread_together(tiny: Tiny) -> None:
    async def main() -> None:
        script = Script(*["Yes."] * 20)
        with Pipeline(tiny(), opener=script) as pipeline:
            gate = Gate(script)
            encoded = pipeline.encode(PICTURE)
            before = threading.active_count()
            tasks = [asyncio.create_task(encoded.aask(f"What {n}?")) for n in range(20)]
            while not gate.reached.acquire(blocking=False):
                await asyncio.sleep(0.001)
            assert threading.active_count() == before + 1
            gate.open()
            await asyncio.wait_for(asyncio.gather(*tasks), LONG)

    asyncio.run(main())


def test_a_slow_reader_holds_up_nobody(tiny: Tiny) -> None:
    async def main() -> None:
        with Pipeline(tiny(), opener=Script("Yes.", "No.")) as pipeline:
            async with aclosing(pipeline.astream(PICTURE, "What?")) as stream:
                events = [await anext(stream)]
                second = await asyncio.wait_for(pipeline.aask(PICTURE, "And now?"), LONG)
                assert second.text == "No."
                events += await read(stream)
            assert answer_of(events).text == "Yes."

    asyncio.run(main())


@pytest.mark.parametrize("way", ["aclose", "cancel", "let go"])
def test_a_request_that_nobody_wants_ends_between_two_tokens(way: str, tiny: Tiny) -> None:
    async def main() -> None:
        script = Script("Yes, " * 50, "No.")
        with Pipeline(tiny(), opener=script) as pipeline:
            gate = Gate(script)
            gate.open(3)
            stream = pipeline.astream(PICTURE, "What?")
            await anext(stream)
            if way == "aclose":
                await stream.aclose()
            elif way == "cancel":
                task = asyncio.create_task(read(stream))
                await asyncio.sleep(0)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            del stream
            gc.collect()
            await asyncio.sleep(0.01)  # the loop closes what was let go
            gate.open()
            answer = await asyncio.wait_for(pipeline.aask(PICTURE, "And now?"), LONG)
            assert answer.text == "No."
            runs = len(script.sessions["decoder"].calls)
            assert runs <= 4 + len(answer.turns[0].generated_ids)

    asyncio.run(main())


def test_a_cancelled_task_that_waits_is_never_computed(tiny: Tiny) -> None:
    async def main() -> None:
        script = Script("Yes.", "No.")
        with Pipeline(tiny(), opener=script) as pipeline:
            gate = Gate(script)
            first = asyncio.create_task(pipeline.aask(PICTURE, "What?"))
            while not gate.reached.acquire(blocking=False):
                await asyncio.sleep(0.001)
            second = asyncio.create_task(pipeline.aask(PICTURE, "Who?"))
            third = asyncio.create_task(pipeline.aask(PICTURE, "Why?"))
            await asyncio.sleep(0.05)
            second.cancel()
            with pytest.raises(asyncio.CancelledError):
                await second
            gate.open()
            assert (await asyncio.wait_for(first, LONG)).text == "Yes."
            assert (await asyncio.wait_for(third, LONG)).text == "No."

    asyncio.run(main())


def test_threads_and_loops_share_a_pipeline(tiny: Tiny) -> None:
    turns = sorted(letter * 9 for letter in "abcdefgh")
    texts: list[str] = []
    with Pipeline(tiny(), opener=Script(*turns)) as pipeline:

        async def ask_twice() -> None:
            answers = await asyncio.gather(*[pipeline.aask(PICTURE, "What?") for _ in range(2)])
            texts.extend(answer.text for answer in answers)

        def ask() -> None:
            texts.extend(pipeline.ask(PICTURE, "What?").text for _ in range(2))

        works: list[Callable[[], object]] = [lambda: asyncio.run(ask_twice()), ask] * 2
        threads = [threading.Thread(target=work) for work in works]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LONG)
    assert sorted(texts) == turns


def test_errors_are_those_of_a_stream(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        script = Script("Yes.")
        with Pipeline(tiny(), opener=script) as pipeline:
            with pytest.raises(PromptError):
                await pipeline.aask(PICTURE, "What?", max_new_tokens=0)
            with pytest.raises(ImageError):
                await pipeline.aask("missing.png", "What?")
            with pytest.raises(TypeError, match="max_tokens"):
                await pipeline.aask(PICTURE, "What?", max_tokens=3)  # type: ignore[call-arg]

            def fail(inputs: Any, outputs: Any) -> None:
                raise SessionError("out of memory")

            with monkeypatch.context() as patch:
                patch.setattr(script.sessions["decoder"], "run", fail)
                with pytest.raises(SessionError, match="out of memory"):
                    await pipeline.aask(PICTURE, "What?")
            assert (await pipeline.aask(PICTURE, "What?")).text == "Yes."
        with pytest.raises(VptError, match="closed"):
            await pipeline.aask(PICTURE, "What?")

    asyncio.run(main())


def test_closing_ends_every_task(tiny: Tiny) -> None:
    async def main() -> None:
        script = Script("Yes.", "No.")
        pipeline = Pipeline(tiny(), opener=script)
        gate = Gate(script)
        tasks = [asyncio.create_task(pipeline.aask(PICTURE, "What?")) for _ in range(3)]
        while not gate.reached.acquire(blocking=False):
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.05)
        closing = asyncio.create_task(asyncio.to_thread(pipeline.close))
        await asyncio.sleep(0.05)
        gate.open()
        await closing
        for task in tasks:
            with pytest.raises(VptError, match="closed"):
                await asyncio.wait_for(task, LONG)

    asyncio.run(main())


def test_the_thread_goes_with_the_pipeline(tiny: Tiny) -> None:
    before = threading.active_count()
    for _ in range(3):
        with Pipeline(tiny(), opener=Script("Yes.")) as pipeline:
            asyncio.run(pipeline.aask(pipeline.encode(PICTURE), "What?"))
    for thread in threading.enumerate():
        if thread.name.startswith("vpt-edge"):
            thread.join(LONG)
    assert threading.active_count() == before


@pytest.mark.parametrize("way", ["astream", "aask", "encoded.astream", "encoded.aask"])
def test_the_hint_points_at_the_awaiting_line(way: str, tiny: Tiny) -> None:
    async def main(pipeline: Pipeline) -> None:
        encoded = pipeline.encode(PICTURE)
        if way == "astream":
            await anext(pipeline.astream(PICTURE, "What?"))  # astream
        elif way == "aask":
            await pipeline.aask(PICTURE, "What?")  # aask
        elif way == "encoded.astream":
            await anext(encoded.astream("What?"))  # encoded.astream
        else:
            await encoded.aask("What?")  # encoded.aask

    with (
        Pipeline(waiting(tiny()), opener=Script("Yes.")) as pipeline,
        pytest.warns(UserWarning, match="look again") as caught,
    ):
        asyncio.run(main(pipeline))
    line = linecache.getline(__file__, caught[0].lineno)
    assert (caught[0].filename, line.rpartition("# ")[2].strip()) == (__file__, way)
