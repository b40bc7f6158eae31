"""The options of a question: what is taken, what is refused, and that both lists are one."""

from __future__ import annotations

import dataclasses
import typing
from collections import deque
from typing import Any

import pytest

from vpt_edge.runtime.errors import PromptError
from vpt_edge.runtime.options import AskOptions, Exchange, Options
from vpt_edge.runtime.perception.actions import Mode


def test_the_typed_keywords_are_the_options() -> None:
    keywords = typing.get_type_hints(AskOptions, localns={"Mode": Mode})
    assert keywords == typing.get_type_hints(Options, localns={"Mode": Mode})
    assert list(keywords) == [field.name for field in dataclasses.fields(Options)]


def test_the_defaults_are_the_authors_settings() -> None:
    assert dataclasses.asdict(Options()) == {
        "perception": "free",
        "assistant_prefix": "",
        "max_new_tokens": 1024,
        "max_looks": None,
        "temperature": 0.0,
        "top_k": None,
        "top_p": None,
        "seed": None,
        "presence_penalty": 0.0,
        "min_pixels": None,
        "max_pixels": None,
        "first_max_pixels": None,
        "look_max_pixels": None,
        "first_token_share": None,
        "still_pixels": None,
        "still_features": None,
        "draft_tokens": None,
        "keep_logits": False,
        "history": (),
        "system": None,
        "stop": (),
    }


@pytest.mark.parametrize(
    ("options", "rounds"),
    [
        ({}, 5),
        ({"max_looks": None}, 5),
        ({"max_looks": 3}, 3),
        ({"max_looks": 0}, 0),
        ({"perception": "region", "max_looks": 2}, 2),
        ({"perception": "reencode"}, 5),
        ({"perception": "off"}, 0),
        ({"perception": "off", "max_looks": 3}, 0),
    ],
)
def test_the_rounds_are_the_options_else_the_models(options: Any, rounds: int) -> None:
    assert Options(**options).rounds(5) == rounds


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens 0, max_looks None"),
        ({"max_new_tokens": -5}, "max_new_tokens -5"),
        ({"max_looks": -1}, "max_new_tokens 1024, max_looks -1"),
        ({"perception": "off", "max_looks": -1}, "max_looks -1"),
    ],
)
def test_numbers_out_of_range_are_refused(options: Any, found: str) -> None:
    with pytest.raises(PromptError, match=f"found .*{found}.*; expected at least 1 and 0"):
        Options(**options)


def test_the_least_numbers_are_taken() -> None:
    options = Options(max_new_tokens=1, max_looks=0)
    assert (options.max_new_tokens, options.max_looks) == (1, 0)


def test_an_unknown_option_is_an_error() -> None:
    unknown: Any = {"max_tokens": 3}
    with pytest.raises(TypeError, match="max_tokens"):
        Options(**unknown)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        *[("max_new_tokens", value, "a whole number") for value in ("a", None, 1.5, True)],
        *[("max_looks", value, "a whole number or None") for value in ("a", True, 0.5)],
        *[("presence_penalty", value, "a number") for value in ("x", None, True)],
        *[("min_pixels", value, "a whole number or None") for value in ("a", 3136.0)],
        *[("max_pixels", value, "a whole number or None") for value in ("a", 3136.0)],
        *[("first_max_pixels", value, "a whole number or None") for value in ("a", 1.5, True)],
        *[("look_max_pixels", value, "a whole number or None") for value in ("a", 1.5, True)],
        *[("temperature", value, "a number") for value in ("x", None, False)],
        *[("top_k", value, "a whole number or None") for value in (1.5, "a")],
        *[("seed", value, "a whole number or None") for value in (1.5, "a")],
        ("top_p", "a", "a number or None"),
        ("perception", [], "a text"),
        ("assistant_prefix", None, "a text"),
        ("keep_logits", 1, "True or False"),
        *[("history", value, "a sequence of questions") for value in (None, "", "ab", 3, b"")],
        *[("system", value, "a text or None") for value in (3, b"Be brief.", ["Be brief."])],
        *[("stop", value, "a text or a sequence of texts") for value in (None, 3, b"a", {"a"})],
        ("history", {"Which?": "That."}, "a sequence of questions"),
    ],
)
def test_a_value_of_another_type_is_refused(name: str, value: Any, expected: str) -> None:
    with pytest.raises(PromptError, match=f"{name} is .*, expected {expected}"):
        Options(**{name: value})


@pytest.mark.parametrize(
    "history",
    [
        [Exchange("Which?", "That."), Exchange("Why?", "")],
        (("Which?", "That."), ("Why?", "")),
        deque([["Which?", "That."], ["Why?", ""]]),  # as JSON has it
    ],
)
def test_a_history_is_a_tuple_of_exchanges(history: Any) -> None:
    options = Options(history=history)
    assert options.history == (Exchange("Which?", "That."), Exchange("Why?", ""))
    assert [type(exchange) for exchange in options.history] == [Exchange, Exchange]
    assert isinstance(options.history, tuple)
    assert Options(history=options.history) == options


@pytest.mark.parametrize(
    "pair", ["ab", ["ab"], ("a", "b", "c"), ("a", None), (b"a", "b"), None, {"a": 1, "b": 2}]
)
def test_another_exchange_is_refused_by_its_number(pair: Any) -> None:
    expected = "the exchange 2 of the history is .*, expected a question and its answer"
    with pytest.raises(PromptError, match=expected):
        Options(history=[("a", "b"), pair])


@pytest.mark.parametrize(
    ("stop", "texts"),
    [
        ("END", ("END",)),
        (["a", "b"], ("a", "b")),
        (deque(["\n"]), ("\n",)),
        ((), ()),
        (["a"] * 16, ("a",) * 16),
    ],
)
def test_stop_is_a_tuple_of_texts(stop: Any, texts: tuple[str, ...]) -> None:
    options = Options(stop=stop)
    assert (options.stop, type(options.stop)) == (texts, tuple)
    assert Options(stop=options.stop) == options


@pytest.mark.parametrize(
    ("stop", "found"),
    [
        ("", "stop holds '', expected texts that are not empty"),
        (["a", ""], "stop holds '', expected texts that are not empty"),
        (["a", None], "stop holds None, expected texts"),
        ([b"a"], "stop holds b'a', expected texts"),
        (["a"] * 17, "stop holds 17 texts, expected at most 16"),
    ],
)
def test_other_stop_texts_are_refused(stop: Any, found: str) -> None:
    with pytest.raises(PromptError, match=found):
        Options(stop=stop)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"still_pixels": -0.1}, "still_pixels is -0.1, expected 0 or more"),
        ({"still_pixels": float("nan")}, "still_pixels is nan"),
        ({"still_pixels": "0.1"}, "still_pixels is '0.1', expected a number or None"),
        ({"still_features": 1.5}, "still_features is 1.5, expected -1 to 1"),
        ({"still_pixels": 0.1, "still_features": 0.5}, "expected one of them"),
    ],
)
def test_frames_are_compared_in_one_way_within_its_range(
    options: dict[str, Any], problem: str
) -> None:
    with pytest.raises(PromptError, match=problem):
        Options(**options)
