"""A tokenizer that is broken, or not the bundle's, is an error of the bundle, in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from manifests import altered
from tokenizers import Tokenizer

from vpt_edge.runtime import Bundle, Pipeline
from vpt_edge.runtime.chat import Chat
from vpt_edge.runtime.errors import BundleError
from vpt_edge.runtime.files import sha256
from vpt_edge.runtime.perception.vpt import pads_of
from vpt_edge.runtime.testing import tiny_bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return tiny_bundle(tmp_path / "bundle")


@pytest.fixture
def chat(bundle: Bundle) -> Chat:
    return Chat(bundle.tokenizer_file, pads_of("clip"))


class Idle:
    """A session that nobody runs."""

    def close(self) -> None:
        pass


def never(*arguments: Any) -> Any:
    return Idle()


class PanicException(BaseException):
    """Stands in for that of the native library: it is not an Exception."""


@pytest.mark.parametrize("error", [PanicException, RuntimeError])
@pytest.mark.parametrize("call", ["from_file", "encode", "decode"])
def test_a_panic_of_the_tokenizer_is_a_broken_bundle(
    call: str, error: type[BaseException], bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any, **options: Any) -> Any:
        raise error("index out of bounds:\nthe len is 6")

    class Broken:
        def __init__(self, tokenizer: Tokenizer) -> None:
            self._tokenizer = tokenizer

        def __getattr__(self, name: str) -> Any:
            return getattr(self._tokenizer, name)

        @classmethod
        def from_file(cls, path: str) -> Broken:
            return cls(Tokenizer.from_file(path))

    setattr(Broken, call, fail)
    monkeypatch.setattr("vpt_edge.runtime.chat.Tokenizer", Broken)
    with pytest.raises(BundleError, match=r"tokenizer.*index out of bounds.*vpt-export CHECK") as e:
        Pipeline(bundle, opener=never)
    assert "\n" not in str(e.value)


def test_a_panic_of_a_stream_is_a_broken_bundle(
    chat: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Panicking:
        def step(self, *arguments: Any) -> None:
            raise PanicException("no decoder")

    stream = chat.stream(())
    monkeypatch.setattr(stream, "_stream", Panicking())
    with pytest.raises(BundleError, match="cannot decode a token: 'no decoder'"):
        stream.step(7)


def test_what_ends_a_program_is_no_panic(chat: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted:
        def step(self, *arguments: Any) -> None:
            raise KeyboardInterrupt

    stream = chat.stream(())
    monkeypatch.setattr(stream, "_stream", Interrupted())
    with pytest.raises(KeyboardInterrupt):
        stream.step(7)


def drop_pad(data: dict[str, Any]) -> None:
    data["added_tokens"] = [t for t in data["added_tokens"] if t["content"] != "<|image_pad|>"]


def swap_end(data: dict[str, Any]) -> None:
    for token in data["added_tokens"]:
        other = {"<|im_end|>": "<|im_start|>", "<|im_start|>": "<|im_end|>"}
        token["content"] = other.get(token["content"], token["content"])


def spell_end(data: dict[str, Any]) -> None:
    for token in data["added_tokens"]:
        token["special"] &= token["content"] != "<|im_end|>"


def hide_column(data: dict[str, Any]) -> None:
    for token in data["added_tokens"]:
        token["special"] |= token["content"] == "<|x_0|>"


def prepend(data: dict[str, Any]) -> None:
    data["normalizer"] = {"type": "Prepend", "prepend": "X"}


def spaces(data: dict[str, Any]) -> None:
    data["decoder"] = {"type": "Replace", "pattern": {"String": "_"}, "content": " "}


def deep(data: dict[str, Any]) -> None:
    for _ in range(100):
        data["normalizer"] = {"type": "Sequence", "normalizers": [data["normalizer"]]}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (drop_pad, r"makes .* of <\|image_pad\|>, expected"),
        (swap_end, r"makes \[\d+\] of <\|im_end\|>, expected"),
        (spell_end, "decodes the end of a turn to"),
        (hide_column, r"decodes '<\|x_0\|>' to ''"),
        (prepend, "decodes .* to"),
        (spaces, "decodes .* to"),
        (deep, "is not a tokenizer"),
    ],
)
def test_a_tokenizer_that_takes_the_loops_words_apart_is_refused(
    change: Callable[[dict[str, Any]], None], problem: str, bundle: Bundle
) -> None:
    file = bundle.tokenizer_file
    data = json.loads(file.read_text("utf-8"))
    change(data)
    file.write_text(json.dumps(data), "utf-8")
    digest = sha256(file)
    path = altered(bundle, lambda data: data["files"].update({"tokenizer.json": digest}))
    with pytest.raises(BundleError, match=problem):
        Pipeline(path, opener=never)
