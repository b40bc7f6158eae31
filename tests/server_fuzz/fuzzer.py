"""Sends requests as schemathesis makes them, with pictures in some, and holds each reply against
the description.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis.checks import content_type_conformance, not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance
from serving import data_url, encode, picture_part, text_part

if TYPE_CHECKING:
    Operation: TypeAlias = schemathesis.APIOperation[Any, Any, Any, Any]
    Case: TypeAlias = schemathesis.Case[Any]

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
AS_DESCRIBED: Any = GenerationMode.POSITIVE
OTHERWISE: Any = GenerationMode.NEGATIVE
LONGEST = 30.0  # seconds, after which a request hangs
WEIGHT = 4  # of what has a body
ROUND = 6  # cases of one operation in a row
SHORT = {"max_tokens": 4, "num_predict": 4}


@dataclass
class Tally:
    """What came back: ``statuses`` by operation, and the ``slowest`` reply in seconds."""

    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    slowest: float = 0.0

    @property
    def count(self) -> int:
        return sum(self.statuses.values())

    def __str__(self) -> str:
        lines = [f"{self.count} requests, the slowest took {self.slowest:.2f} s"]
        for (label, status), count in sorted(self.statuses.items()):
            lines.append(f"{status} {count:6} {label}")
        return "\n".join(lines)


def fuzz(
    address: str, count: int, start: int = 0, notify: Callable[[int], object] = lambda done: None
) -> Tally:
    """Send at least ``count`` requests to the server at ``address``.

    Raises what a check raises: an error of the server, a reply that is not as described, or none.
    ``start``: of the random numbers.
    """
    schema = schemathesis.openapi.from_url(f"{address}/openapi.json")
    rounds: list[tuple[Operation, Any]] = []
    for result in schema.get_all_operations():
        assert isinstance(result, Ok)
        operation = result.ok()
        rounds.append((operation, AS_DESCRIBED))
        if operation.method.upper() == "POST":  # of the others there is nothing to get wrong
            rounds += [(operation, AS_DESCRIBED), (operation, OTHERWISE)] * WEIGHT
    tally = Tally()
    draw = random.Random(start)
    draw.shuffle(rounds)
    while tally.count < count:
        for operation, mode in rounds:
            send_round(operation, mode, draw.randrange(1 << 30), tally)
            notify(tally.count)
            if tally.count >= count:
                break
    return tally


def send_round(operation: Operation, mode: Any, start: int, tally: Tally) -> None:
    """Some requests of one operation, as it is described or not."""

    @seed(start)
    @settings(
        max_examples=ROUND,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def send(case: Case) -> None:
        for body in vary(case.body):
            case.body = body
            send_case(case, tally)

    send()


def send_case(case: Case, tally: Tally) -> None:
    label = case.operation.label
    begin = time.monotonic()
    try:
        response = case.call(timeout=LONGEST)
    except requests.Timeout as error:
        raise AssertionError(f"{label}: no reply in {LONGEST} s") from error
    tally.slowest = max(tally.slowest, time.monotonic() - begin)
    tally.statuses[label, response.status_code] += 1
    case.validate_response(response, checks=CHECKS)


def vary(body: Any) -> Iterator[Any]:
    """``body`` as it is; with pictures where they belong, and without a model's name; and with a
    question at the end of the messages or in their place, so that there is something to answer.
    """
    yield body
    if not isinstance(body, dict):
        return
    body = {name: replace(value, name) for name, value in body.items() if name != "model"}
    yield body
    messages = body.get("messages")
    if isinstance(messages, list):
        for ours in (
            {"role": "user", "content": [text_part("What?"), picture_part()]},
            {"role": "user", "content": "What?", "images": [encode()]},
        ):
            yield {**body, "messages": [*messages, ours]}
            yield {**body, "messages": [ours]}


def replace(value: Any, name: str = "") -> Any:
    """``value`` with a picture for each, and few tokens, so that it is quick."""
    if name == "url":
        return data_url()
    if name == "images" and isinstance(value, list) and value:
        return [encode()]
    if name in SHORT and isinstance(value, int):
        return SHORT[name]
    if isinstance(value, dict):
        return {key: replace(item, key) for key, item in value.items()}
    if isinstance(value, list):
        return [replace(item) for item in value]
    return value
