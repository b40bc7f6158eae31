"""Template, tokenizer and incremental decoding."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from golden import GOLDEN, needs_golden
from hypothesis import example, given
from hypothesis import strategies as st
from pictures import patchify
from tables import TABLES, table
from tokenizers import Tokenizer
from tokenizers.models import BPE

from vpt_edge.runtime.chat import PLACEHOLDER, Chat, Message, check_text
from vpt_edge.runtime.context import Encoded
from vpt_edge.runtime.errors import BundleError, PromptError
from vpt_edge.runtime.image import open_picture
from vpt_edge.runtime.perception.vpt import KINDS, SYSTEM, pads_of
from vpt_edge.runtime.perception.vpt_question import number_turns
from vpt_edge.runtime.testing import tiny_bundle

if TYPE_CHECKING:
    from vpt_edge.runtime.bundle import Bundle

TOKENIZER = table("tokenizer")

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@pytest.fixture(scope="module")
def clip() -> Chat:
    return Chat(GOLDEN / "models" / "clip" / "tokenizer.json", pads_of("clip"))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def chat(bundle: Bundle) -> Chat:
    return Chat(bundle.tokenizer_file, pads_of("clip"))


def picture(tokens: int) -> Encoded:
    return Encoded(np.zeros((tokens, 4), np.float32), (1, 2, 2 * tokens))


def reencode(tokens: int) -> Encoded:
    return Encoded(np.zeros((tokens, 4), np.float32), None)


def golden_picture(name: str) -> Encoded:
    patches = patchify(open_picture(TABLES / "images" / name))
    return Encoded(np.zeros((len(patches.values) // 4, 4), np.float32), patches.grid)


def in_order(messages: list[Message], waiting: dict[str, list[Encoded]]) -> list[Encoded]:
    """The pictures of each kind by the order of the placeholders, then those that have none."""
    shown = []
    for message in messages:
        for name in PLACEHOLDER.findall(message.text):
            shown += waiting[name][:1]
            waiting[name] = waiting[name][1:]
    for rest in waiting.values():
        shown += rest
    return shown


@needs_golden
@pytest.mark.parametrize(
    "row", table("template").get("conversations", []), ids=lambda row: str(row["messages"])[:80]
)
def test_template_is_the_authors(row: dict[str, Any], clip: Chat) -> None:
    messages = [Message("system", SYSTEM)]
    messages += [Message(message["role"], message["content"]) for message in row["messages"]]
    messages = number_turns(messages)
    pictures = [golden_picture(name) for name in row["images"]]
    reencodes = [reencode(golden_picture(name).tokens) for name in row["clip_images"]]
    shown = in_order(messages, {"image": pictures, "clip_image": reencodes})
    if "error" in row:
        with pytest.raises(PromptError):
            clip.context(messages, shown)
        return
    context = clip.context(messages, shown)
    assert context.ids == row["prompt_ids"]
    assert [visual.encoded for visual in context.visuals] == shown
    for visual in context.visuals:
        name = "<|image_pad|>" if visual.encoded.grid else "<|clip_image_pad|>"
        (pad,) = clip.encode(name)
        before, *between, after = context.ids[visual.start - 1 : visual.end + 1]
        assert [before, after] == clip.encode("<|vision_start|><|vision_end|>")
        assert between == [pad] * visual.encoded.tokens


@needs_golden
@pytest.mark.parametrize("row", TOKENIZER.get("encode", []), ids=lambda row: repr(row["text"])[:60])
def test_encoding_is_the_authors(row: dict[str, Any], clip: Chat) -> None:
    assert clip.encode(row["text"]) == row["ids"]
    assert clip.decode(row["ids"]) == row["decoded_skip_special"]


@needs_golden
@pytest.mark.parametrize("row", TOKENIZER.get("decode", []), ids=lambda row: str(row["ids"])[:60])
def test_decoding_is_the_authors(row: dict[str, Any], clip: Chat) -> None:
    assert clip.decode(row["ids"]) == row["decoded_skip_special"]
    assert clip.encode(clip.decode(row["ids"])) == row["re_encoded"]


@needs_golden
@pytest.mark.parametrize("row", TOKENIZER.get("decode", []), ids=lambda row: str(row["ids"])[:60])
def test_pieces_join_to_the_authors_text(row: dict[str, Any], clip: Chat) -> None:
    stream = clip.stream(())
    text = row["decoded_skip_special"]
    pieces = "".join(map(stream.step, row["ids"]))
    assert text.startswith(pieces)
    assert set(text[len(pieces) :]) <= {"\ufffd"}  # bytes that never became a character


def test_truncation_and_padding_of_a_tokenizer_are_ignored(
    bundle: Bundle, chat: Chat, tmp_path: Path
) -> None:
    tokenizer = Tokenizer.from_file(str(bundle.tokenizer_file))
    tokenizer.enable_truncation(6)
    tokenizer.enable_padding(length=40)
    file = tmp_path / "tokenizer.json"
    tokenizer.save(str(file))
    padded = Chat(file, pads_of("clip"))
    text = "What does the white tag say?"
    assert padded.encode(text) == chat.encode(text)
    assert padded.encode("") == []


def test_dropout_of_a_tokenizer_is_ignored(tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    model = BPE({"a": 0, "b": 1, "ab": 2}, [("a", "b")], dropout=0.9)
    Tokenizer(model).save(str(file))
    assert Chat(file, {}).encode("ab" * 20) == [2] * 20


def test_the_template_is_chatml(chat: Chat) -> None:
    messages = [
        Message("system", "Be <image> brief."),
        Message("user", "a"),
        Message("assistant", "b"),
        Message("user", "c"),
    ]
    text = (
        "<|im_start|>system\nBe <image> brief.<|im_end|>\n"
        "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n"
        "<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\n"
    )
    context = chat.context(messages, [])
    assert context.ids == chat.encode(text)
    assert context.visuals == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_placeholder_becomes_pads_between_the_vision_tokens(kind: str, tmp_path: Path) -> None:
    chat = Chat(tiny_bundle(tmp_path, kind).tokenizer_file, pads_of(kind))
    shown = [picture(2), reencode(3)]
    context = chat.context([Message("user", f"a<image>b<{kind}_image>")], shown)
    first = "a<|vision_start|><|image_pad|><|image_pad|><|vision_end|>"
    second = f"b<|vision_start|>{f'<|{kind}_image_pad|>' * 3}<|vision_end|>"
    assert context.ids == chat.context([Message("user", first + second)], []).ids
    assert [visual.encoded for visual in context.visuals] == shown
    ids = chat.encode(f"<|image_pad|><|{kind}_image_pad|>")
    starts = [context.ids.index(pad) for pad in ids]
    assert [visual.start for visual in context.visuals] == starts


def test_an_assistants_placeholders_are_pictures_too(chat: Chat) -> None:
    shown = [picture(1), picture(2)]
    messages = [Message("user", "<image>"), Message("assistant", "b<image>"), Message("user", "c")]
    context = chat.context(messages, shown)
    (pad,) = chat.encode("<|image_pad|>")
    assert [visual.encoded for visual in context.visuals] == shown
    for visual in context.visuals:
        assert context.ids[visual.start : visual.end] == [pad] * visual.encoded.tokens
    assert context.ids.count(pad) == 3


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<image>", []),
        ("<image><image>", [picture(1)]),
        ("q", [picture(1)]),
        ("q", [reencode(1)]),
        ("<image>", [picture(1), picture(1)]),
        ("<image>", [picture(1), reencode(1)]),
        ("<image>", [reencode(1)]),
        ("<clip_image>", [picture(1)]),
        ("<clip_image><image>", [picture(1), reencode(1)]),
        ("<video>", []),
        ("<video>", [picture(1)]),
        ("<seg_image>", [reencode(1)]),
    ],
)
def test_placeholders_and_pictures_must_match(text: str, shown: list[Encoded], chat: Chat) -> None:
    with pytest.raises(PromptError, match=r"more <|fewer placeholders"):
        chat.context([Message("user", text)], shown)


def test_text_that_stands_for_something_is_refused_by_name() -> None:
    check_text("a b", "hint", ("c",))
    with pytest.raises(PromptError, match=r"the hint holds a, b, which stands for .*; remove it"):
        check_text("a b", "hint", ("a", "b", "c"))
    with pytest.raises(PromptError, match="the hint is int, expected text"):
        check_text(3, "hint", ())  # type: ignore[arg-type]
    with pytest.raises(PromptError, match=r"the hint is not valid text: .* at character 1"):
        check_text("a\ud800", "hint", ())


def test_a_broken_tokenizer_is_a_broken_bundle(tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    file.write_text('{"model"')
    with pytest.raises(BundleError, match=r"is not a tokenizer: .*; export the checkpoint again"):
        Chat(file, {})


@pytest.mark.parametrize("character", ["é", "한", "🐕"])
def test_a_character_comes_when_its_last_byte_does(character: str, chat: Chat) -> None:
    stream = chat.stream(())
    *first, last = chat.encode(character)
    assert [stream.step(token) for token in first] == [""] * len(first)
    assert stream.step(last) == character


def test_trigger_and_special_tokens_give_no_piece(bundle: Bundle, chat: Chat) -> None:
    stream = chat.stream(bundle.manifest.perception["triggers"])
    text = "a<|region_token_start|><|x_1|><|region_token_end|>b<|clip_action_start|>"
    ids = chat.encode(f"{text}<|im_end|>")
    pieces = [stream.step(token) for token in ids]
    assert [piece for piece in pieces if piece] == ["a", "b"]
    assert chat.decode(ids) == text


@given(text=words)
@example(text="é한🐕")
@example(text="e\u0301")
def test_pieces_join_to_the_text(text: str, chat: Chat) -> None:
    ids = chat.encode(text)
    stream = chat.stream(())
    pieces = "".join(map(stream.step, ids))
    # Of what ends so, no one knows whether more bytes follow.
    assert pieces == chat.decode(ids).rstrip("\ufffd")


@given(ids=st.lists(st.integers(0, 291), max_size=20))
def test_pieces_of_any_ids_are_the_beginning_of_their_text(ids: list[int], chat: Chat) -> None:
    stream = chat.stream(())
    pieces = "".join(map(stream.step, ids))
    text = chat.decode(ids)
    assert text.startswith(pieces)
    assert set(text[len(pieces) :]) <= {"\ufffd"}
