"""The real openai package for Python, against a real server."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx
import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from PIL import Image
from scripted import CLIP, PICTURE_TOKENS, REGION
from serving import LONG, MODEL, Served, picture_part, question, text_part

from vpt_edge.runtime import Pipeline
from vpt_edge.runtime.testing import Script
from vpt_edge.server import Service, Settings, create_app

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletion, ChatCompletionChunk

    from vpt_edge.runtime import Bundle

Serve = Callable[..., Served]
LOOKING = (f"I look: {REGION}", "A dog.")
ENDLESS = "a" * 1000  # an answer that nobody waits for
OTHER = Image.new("RGB", (96, 64), "red")
JSON = {"type": "json_object"}
TOOL = {"type": "function", "function": {"name": "look"}}
TEXT_ALONE = {"role": "user", "content": "A title?"}


@pytest.fixture
def connect() -> Iterator[Callable[..., OpenAI]]:
    """Opens clients of a server, which ask once and no more unless the test says so."""
    with ExitStack() as stack:

        def open_client(served: Served, **options: Any) -> OpenAI:
            given = {"base_url": f"{served.url}/v1", "api_key": "none", "max_retries": 0}
            return stack.enter_context(OpenAI(**{**given, **options}))

        yield open_client


Connect = Callable[..., OpenAI]


def ask(client: OpenAI, text: str = "What?", **fields: Any) -> ChatCompletion:
    body = question(text)
    completion: ChatCompletion = client.chat.completions.create(
        model=MODEL, messages=body["messages"], **fields
    )
    return completion


def stream(client: OpenAI, text: str = "What?", **fields: Any) -> list[ChatCompletionChunk]:
    chunks: Any = ask(client, text, stream=True, **fields)
    return list(chunks)


def join(chunks: list[ChatCompletionChunk]) -> str:
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    return "".join(delta.content or "" for delta in deltas)


def test_a_completion_has_the_answer_and_its_look(serve: Serve, connect: Connect) -> None:
    completion = ask(connect(serve(*LOOKING)))
    (choice,) = completion.choices
    assert (choice.message.role, choice.message.content) == ("assistant", "A dog.")
    assert choice.finish_reason == "stop"
    assert completion.object == "chat.completion" and completion.model == MODEL
    assert completion.model_extra is not None
    (look,) = completion.model_extra["vpt"]["looks"]
    assert (look["kind"], look["cells"], look["box"]) == ("region", [1, 2, 3, 2], [0, 8, 60, 32])


def test_usage_counts_visual_tokens(serve: Serve, connect: Connect) -> None:
    usage = ask(connect(serve("A dog."))).usage
    assert usage is not None
    assert usage.prompt_tokens > PICTURE_TOKENS
    assert usage.completion_tokens == len("A dog.") + 1
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


def test_a_second_question_about_a_picture_is_computed_from_its_own_tokens_on(
    serve: Serve, connect: Connect
) -> None:
    client = connect(serve("A dog.", "A cat."))
    first = ask(client, "What is it?").usage
    second = ask(client, "And this?").usage
    assert first is not None and first.prompt_tokens_details is not None
    assert second is not None and second.prompt_tokens_details is not None
    assert first.prompt_tokens_details.cached_tokens == 0
    own = second.prompt_tokens - (second.prompt_tokens_details.cached_tokens or 0)
    assert own == len("And this?\nassistant\n") + 2  # and <|im_end|>, <|im_start|>


def test_a_request_has_an_id(serve: Serve, connect: Connect) -> None:
    client = connect(serve("A dog.", "A cat."))
    first = ask(client, "One?")
    second = ask(client, "Two?")
    assert first._request_id and first._request_id != second._request_id
    assert first.id != second.id


def test_length_is_said(serve: Serve, connect: Connect) -> None:
    completion = ask(connect(serve(ENDLESS)), max_tokens=5)
    assert completion.choices[0].finish_reason == "length"
    assert completion.choices[0].message.content == "aaaaa"


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_both_names_of_the_limit_are_read(name: str, serve: Serve, connect: Connect) -> None:
    limit: dict[str, Any] = {name: 3}
    completion = ask(connect(serve(ENDLESS)), **limit)
    assert completion.usage is not None and completion.usage.completion_tokens == 3


def test_a_stream_gives_the_answer_alone_to_who_knows_no_looks(
    serve: Serve, connect: Connect
) -> None:
    chunks = stream(connect(serve(*LOOKING)))
    assert join(chunks) == "A dog."
    assert len({chunk.id for chunk in chunks}) == 1
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert all(chunk.usage is None for chunk in chunks)


def test_a_stream_has_looks_pieces_and_the_whole_beside(serve: Serve, connect: Connect) -> None:
    chunks = stream(connect(serve(*LOOKING)))
    blocks = [chunk.model_extra["vpt"] for chunk in chunks if chunk.model_extra]
    pieces = "".join(block.get("piece", "") for block in blocks)
    (look,) = [block["look"] for block in blocks if "look" in block]
    assert pieces == "I look: A dog."
    assert look["box"] == [0, 8, 60, 32]
    assert blocks[-1]["looks"] == [look]


def test_a_stream_ends_with_usage_when_it_is_asked_for(serve: Serve, connect: Connect) -> None:
    chunks = stream(connect(serve("A dog.")), stream_options={"include_usage": True})
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == len("A dog.") + 1


def test_the_stream_helper_gathers_the_completion(serve: Serve, connect: Connect) -> None:
    client = connect(serve(*LOOKING))
    body: Any = question()
    with client.chat.completions.stream(
        model=MODEL, messages=body["messages"], stream_options={"include_usage": True}
    ) as events:
        deltas = [event.delta for event in events if event.type == "content.delta"]
        completion = events.get_final_completion()
    assert "".join(deltas) == "A dog."
    assert completion.choices[0].message.content == "A dog."
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage is not None and completion.usage.completion_tokens > 0


def test_the_extensions_go_into_extra_body(serve: Serve, connect: Connect) -> None:
    client = connect(serve("A cat.", f"{CLIP}", "A dog."))
    body = {"perception": "off", "top_k": 1, "max_looks": 0}
    off = ask(client, "Off?", temperature=0.5, extra_body=body)
    assert off.model_extra is not None and off.model_extra["vpt"]["looks"] == []
    forced = ask(client, "Forced?", extra_body={"assistant_prefix": "Let me see. "})
    assert forced.model_extra is not None
    assert [look["kind"] for look in forced.model_extra["vpt"]["looks"]] == ["clip"]


def test_several_turns_about_a_picture(serve: Serve, connect: Connect) -> None:
    client = connect(serve("A dog.", "Brown."))
    messages: Any = [
        {"role": "system", "content": "Be brief."},
        *question("What is it?")["messages"],
    ]
    first = client.chat.completions.create(model=MODEL, messages=messages)
    messages += [
        {"role": "assistant", "content": first.choices[0].message.content},
        {"role": "user", "content": "Which colour?"},
    ]
    second = client.chat.completions.create(model=MODEL, messages=messages)
    assert second.choices[0].message.content == "Brown."
    assert second.usage is not None and second.usage.prompt_tokens_details is not None
    assert second.model_extra is not None
    assert second.model_extra["vpt"]["passed_over"] == 0
    assert (second.usage.prompt_tokens_details.cached_tokens or 0) > PICTURE_TOKENS


def test_the_newest_picture_counts(serve: Serve, connect: Connect) -> None:
    client = connect(serve("Red."))
    messages: Any = [
        *question("What is it?")["messages"],
        {"role": "assistant", "content": "A dog."},
        *question("And this?", OTHER)["messages"],
    ]
    completion = client.chat.completions.create(model=MODEL, messages=messages)
    assert completion.model_extra is not None
    assert completion.model_extra["vpt"]["passed_over"] == 2


def test_several_pictures_at_once_are_refused_by_name(serve: Serve, connect: Connect) -> None:
    parts = [text_part("What?"), picture_part(), picture_part(OTHER)]
    messages: Any = [{"role": "user", "content": parts}]
    with pytest.raises(openai.BadRequestError, match=r"has 2.*one.*use_snapshot") as caught:
        connect(serve()).chat.completions.create(model=MODEL, messages=messages)
    assert (caught.value.code, caught.value.param) == ("too_many_images", "messages")


@pytest.mark.parametrize("suffix", ["/v1", ""])
def test_models_are_listed(suffix: str, serve: Serve, connect: Connect) -> None:
    served = serve()
    client = connect(served, base_url=f"{served.url}{suffix}")
    (model,) = client.models.list().data
    assert model.id == client.models.retrieve(MODEL).id == MODEL
    assert model.object == "model"


def test_a_base_url_without_v1_answers(serve: Serve, connect: Connect) -> None:
    served = serve("A dog.")
    completion = ask(connect(served, base_url=served.url))
    assert completion.choices[0].message.content == "A dog."


class Refusal(NamedTuple):
    """What a client is told of ``fields``."""

    fields: dict[str, Any]
    kind: type[openai.APIStatusError]
    code: str
    param: str


INVALID = openai.BadRequestError
REFUSALS = [
    Refusal({"model": "gpt-4o"}, openai.NotFoundError, "model_not_found", "model"),
    Refusal({"n": 2}, INVALID, "unsupported_parameter", "n"),
    Refusal({"logprobs": True}, INVALID, "unsupported_parameter", "logprobs"),
    Refusal({"response_format": JSON}, INVALID, "unsupported_parameter", "response_format"),
    Refusal({"tools": [TOOL]}, INVALID, "unsupported_parameter", "tools"),
    Refusal({"temperature": "hot"}, INVALID, "invalid_value", "temperature"),
    Refusal({"max_tokens": 0}, INVALID, "invalid_value", "max_tokens"),
    Refusal({"messages": [TEXT_ALONE]}, INVALID, "image_required", "messages"),
]


@pytest.fixture(scope="module")
def refusing(bundle: Bundle) -> Iterator[Served]:
    """A server that has nothing to say."""
    with Served(bundle) as served:
        yield served


@pytest.mark.parametrize("refusal", REFUSALS)
@pytest.mark.parametrize("streams", [False, True])
def test_what_is_refused_has_its_class_code_and_param(
    refusal: Refusal, streams: bool, refusing: Served, connect: Connect
) -> None:
    client = connect(refusing)
    given: dict[str, Any] = {"model": MODEL, **question(), "stream": streams, **refusal.fields}
    with pytest.raises(refusal.kind) as caught:
        client.chat.completions.create(**given)
    assert (caught.value.code, caught.value.param) == (refusal.code, refusal.param)
    assert caught.value.type == "invalid_request_error"
    assert refusal.param in str(caught.value) or refusal.code == "image_required"
    assert caught.value.request_id


def test_a_wrong_key_is_an_authentication_error(serve: Serve, connect: Connect) -> None:
    served = serve("A dog.", keys=("secret", "other"))
    with pytest.raises(openai.AuthenticationError) as caught:
        ask(connect(served, api_key="none"))
    assert caught.value.code == "invalid_api_key"
    assert ask(connect(served, api_key="other")).choices[0].message.content == "A dog."


def test_a_large_body_is_413(serve: Serve, connect: Connect) -> None:
    served = serve("A dog.", max_body=1 << 20)
    client = connect(served)
    with pytest.raises(openai.APIStatusError) as caught:
        ask(client, "?" * (8 << 20))
    assert (caught.value.status_code, caught.value.code) == (413, "body_too_large")
    assert ask(client).choices[0].message.content == "A dog."


class Background:
    """A question that is asked in a thread of its own."""

    def __init__(self, client: OpenAI, text: str, **fields: Any) -> None:
        self._answer: str | None = None
        self._thread = threading.Thread(target=self._ask, args=(client, text), kwargs=fields)
        self._thread.start()

    def _ask(self, client: OpenAI, text: str, **fields: Any) -> None:
        self._answer = ask(client, text, **fields).choices[0].message.content

    def join(self) -> str | None:
        self._thread.join(LONG)
        assert not self._thread.is_alive()
        return self._answer


def test_beyond_the_queue_it_is_429_with_the_seconds_to_wait(
    serve: Serve, connect: Connect
) -> None:
    served = serve("One.", "Two.", queue_size=1)
    client = connect(served)
    with served.hold():
        first = Background(client, "1?")
        served.wait_jobs(running=1, waiting=0)
        second = Background(client, "2?")
        served.wait_jobs(running=1, waiting=1)
        with pytest.raises(openai.RateLimitError, match="busy") as caught:
            ask(client, "3?")
    assert caught.value.code == "queue_full"
    assert int(caught.value.response.headers["Retry-After"]) >= 1
    assert (first.join(), second.join()) == ("One.", "Two.")


def test_the_clients_own_retry_comes_when_it_is_told_to(serve: Serve, connect: Connect) -> None:
    quick = [f"{number}." for number in range(10)]  # from which the server learns its pace
    served = serve(*quick, "One.", "Two.", "Three.", queue_size=1)
    client = connect(served)
    for text in quick:
        ask(client, text)
    statuses = list[int]()

    def note(response: httpx.Response) -> None:
        statuses.append(response.status_code)
        if response.status_code == 429:
            turned_away.set()

    turned_away = threading.Event()
    patient = connect(
        served,
        max_retries=2,
        http_client=httpx.Client(event_hooks={"response": [note]}, timeout=LONG),
    )
    with served.hold():
        first = Background(client, "1?")
        served.wait_jobs(running=1, waiting=0)
        second = Background(client, "2?")
        served.wait_jobs(running=1, waiting=1)
        third = Background(patient, "3?")
        assert turned_away.wait(LONG)
    assert (first.join(), second.join(), third.join()) == ("One.", "Two.", "Three.")
    assert statuses == [429, 200]


def test_a_server_that_ends_is_503(serve: Serve, connect: Connect) -> None:
    served = serve("A dog.")
    served.listener.service.stop()
    with pytest.raises(openai.InternalServerError, match="stopping") as caught:
        ask(connect(served))
    assert caught.value.status_code == 503
    assert "Retry-After" in caught.value.response.headers


def test_a_server_that_loads_is_503_until_it_answers(bundle: Bundle) -> None:
    """The client's retry, behind Retry-After, finds it ready."""
    service = Service(
        lambda: Pipeline(bundle, opener=Script("A dog.")),
        Settings(model=MODEL, perception="free"),
    )
    statuses = list[int]()

    async def note(response: httpx.Response) -> None:
        statuses.append(response.status_code)
        if response.status_code == 503:
            service.load()

    async def run() -> ChatCompletion:
        transport = httpx.ASGITransport(app=create_app(service))
        http: Any = httpx.AsyncClient(transport=transport, event_hooks={"response": [note]})
        async with AsyncOpenAI(
            base_url="http://localhost/v1", api_key="none", http_client=http
        ) as it:
            body: Any = question()
            return await it.chat.completions.create(model=MODEL, messages=body["messages"])

    assert asyncio.run(run()).choices[0].message.content == "A dog."
    assert statuses == [503, 200]
    service.close()


def test_a_stream_that_is_left_ends_the_request(serve: Serve, connect: Connect) -> None:
    served = serve(ENDLESS, "A dog.")
    served.slow_down(0.005)
    client = connect(served)
    body: Any = question()
    chunks = client.chat.completions.create(
        model=MODEL, messages=body["messages"], stream=True, extra_body={"perception": "off"}
    )
    with chunks:
        for _, _chunk in zip(range(3), chunks, strict=False):
            pass
    served.wait_idle()
    assert served.steps < len(ENDLESS) / 2
    assert ask(client, "And?").choices[0].message.content == "A dog."


def test_a_timeout_ends_the_request_and_its_retries_do_not_pile_up(
    serve: Serve, connect: Connect
) -> None:
    served = serve(ENDLESS, ENDLESS, ENDLESS)
    served.slow_down(0.005)
    with pytest.raises(openai.APITimeoutError):
        ask(connect(served, timeout=0.3, max_retries=2))
    served.wait_idle()
    assert served.steps < len(ENDLESS) / 2  # of three tries


def test_an_error_in_the_midst_of_a_stream_is_an_api_error(serve: Serve, connect: Connect) -> None:
    served = serve(ENDLESS, time_limit=0.5)
    served.slow_down(0.01)
    with pytest.raises(openai.APIError, match=r"not complete after 0\.5 seconds") as caught:
        stream(connect(served), extra_body={"perception": "off"})
    assert caught.value.code == "time_limit"


def test_the_asynchronous_client_answers_streams_and_leaves(serve: Serve) -> None:
    served = serve("One.", "Two.", ENDLESS, "Four.")

    async def run() -> list[str | None]:
        async with AsyncOpenAI(
            base_url=f"{served.url}/v1", api_key="none", max_retries=0, timeout=LONG
        ) as client:
            answers = list[str | None]()

            async def create(text: str, **fields: Any) -> Any:
                body: Any = question(text)
                return await client.chat.completions.create(
                    model=MODEL, messages=body["messages"], **fields
                )

            answers.append((await create("1?")).choices[0].message.content)
            chunks = [chunk async for chunk in await create("2?", stream=True)]
            answers.append(join(chunks))
            served.slow_down(0.005)
            task = asyncio.ensure_future(create("3?"))
            while not served.listener.service.worker.running:
                await asyncio.sleep(0.005)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            answers.append((await create("4?")).choices[0].message.content)
            return answers

    assert asyncio.run(run()) == ["One.", "Two.", "Four."]
    assert served.steps < len(ENDLESS) / 2


def test_many_at_once_have_each_its_own_answer(serve: Serve) -> None:
    """The script's turns go to the questions in the order in which they are computed."""
    count = 12
    served = serve(*[f"{number}." for number in range(count)], queue_size=count)

    async def run() -> list[str | None]:
        async with AsyncOpenAI(base_url=f"{served.url}/v1", api_key="none") as client:
            bodies: list[Any] = [question(f"{number}?") for number in range(count)]
            asking = [
                client.chat.completions.create(model=MODEL, messages=body["messages"])
                for body in bodies
            ]
            return [each.choices[0].message.content for each in await asyncio.gather(*asking)]

    answers = asyncio.run(run())
    assert sorted(map(str, answers)) == sorted(f"{number}." for number in range(count))
