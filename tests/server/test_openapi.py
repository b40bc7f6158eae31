from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from serving import Served
from starlette.routing import Route

from vpt_edge.server.app import routes
from vpt_edge.server.chat_request import READ as CHAT_READ
from vpt_edge.server.ollama_request import OPTIONS_READ, read_chat, read_generate
from vpt_edge.server.openapi import describe_api
from vpt_edge.server.openapi_schemas import SCHEMAS
from vpt_edge.server.settings import Settings

Serve = Callable[..., Served]


def methods_of(route: Route) -> set[str]:
    return {method.lower() for method in route.methods or ()} - {"head"}


def references(data: Any) -> set[str]:
    return set(re.findall(r"#/components/schemas/(\w+)", repr(data)))


def test_every_route_is_described_and_every_described_route_exists() -> None:
    described = describe_api(routes())["paths"]
    existing = {route.path_format: methods_of(route) for route in routes()}
    assert {path: set(operations) for path, operations in described.items()} == existing


def test_a_route_that_nobody_described_is_noticed() -> None:
    async def endpoint(request: Any) -> None: ...

    with pytest.raises(KeyError, match="new"):
        describe_api([Route("/new", endpoint)])


def test_each_operation_has_an_id_of_its_own_and_the_parameters_of_its_path() -> None:
    described = describe_api(routes())["paths"]
    ids = []
    for path, operations in described.items():
        for operation in operations.values():
            ids.append(operation["operationId"])
            names = {each["name"] for each in operation["parameters"] if each["in"] == "path"}
            assert names == set(re.findall(r"\{(\w+)\}", path))
    assert len(ids) == len(set(ids))


def test_each_shape_is_there_and_used() -> None:
    assert references(describe_api(routes())) == set(SCHEMAS)


def test_the_fields_of_a_request_are_those_that_are_read() -> None:
    assert set(SCHEMAS["ChatRequest"]["properties"]) == CHAT_READ
    options = SCHEMAS["OllamaChat"]["properties"]["options"]["properties"]
    assert set(options) == OPTIONS_READ | {"num_ctx"}


@pytest.mark.parametrize(
    ("read", "name"), [(read_chat, "OllamaChat"), (read_generate, "OllamaGenerate")]
)
def test_ollamas_fields_are_read(read: Any, name: str) -> None:
    fields = dict.fromkeys(SCHEMAS[name]["properties"])
    assert read(fields, Settings(model="tiny")).conversation is None


def test_it_is_served(serve: Serve) -> None:
    described = serve().client.get("/openapi.json").json()
    assert described["openapi"] == "3.1.0"
    assert described == describe_api(routes())
