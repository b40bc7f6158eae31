"""Template, tokenizer, the question's form and incremental decoding."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from golden import GOLDEN, needs_golden
from hypothesis import example, given
from hypothesis import strategies as st
from tables import TABLES, table
from tokenizers import Tokenizer

from vpt_edge.runtime.chat import Chat, Message
from vpt_edge.runtime.errors import BundleError, PromptError
from vpt_edge.runtime.image import open_picture
from vpt_edge.runtime.models.qwen2_vl import preprocess as view
from vpt_edge.runtime.perception.vpt import KINDS, question_text
from vpt_edge.runtime.testing import tiny_bundle

if TYPE_CHECKING:
    from vpt_edge.runtime.bundle import Bundle

TOKENIZER = table("tokenizer")
REGION = "Identify the region that can help you answer the question, and then answer the question"
REENCODE = "Require additional perception features, and then answer the question"

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@pytest.fixture(scope="module")
def clip() -> Chat:
    return Chat(GOLDEN / "models" / "clip" / "tokenizer.json")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def prompt(bundle: Bundle) -> Chat:
    return Chat(bundle.file("tokenizer.json"))


def visual_tokens(name: str) -> int:
    return view(open_picture(TABLES / "images" / name), 512, 3136, 12845056).tokens


@needs_golden
@pytest.mark.parametrize(
    "row", table("template").get("conversations", []), ids=lambda row: str(row["messages"])[:80]
)
def test_template_is_the_authors(row: dict[str, Any], clip: Chat) -> None:
    messages = [Message(message["role"], message["content"]) for message in row["messages"]]
    visuals = {
        kind: [visual_tokens(name) for name in row[f"{kind}s"]] for kind in ("image", "clip_image")
    }
    if "error" in row:
        with pytest.raises(PromptError):
            clip.conversation(messages, visuals)
    else:
        assert clip.conversation(messages, visuals) == row["prompt_ids"]


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
    stream, text = clip.stream(()), row["decoded_skip_special"]
    pieces = "".join(piece for token in row["ids"] for piece in stream.step(token))
    assert text.startswith(pieces)
    assert set(text[len(pieces) :]) <= {"\ufffd"}  # bytes that never became a character


def test_truncation_and_padding_of_a_tokenizer_are_ignored(
    bundle: Bundle, prompt: Chat, tmp_path: Path
) -> None:
    tokenizer = Tokenizer.from_file(str(bundle.file("tokenizer.json")))
    tokenizer.enable_truncation(6)
    tokenizer.enable_padding(length=40)
    file = tmp_path / "tokenizer.json"
    tokenizer.save(str(file))
    text = "What does the white tag say?"
    assert Chat(file).encode(text) == prompt.encode(text)
    assert Chat(file).encode("") == []


def test_the_template_is_chatml_with_a_system_message(prompt: Chat) -> None:
    ids = prompt.conversation(
        [Message("user", "a"), Message("assistant", "b"), Message("user", "c")], {}
    )
    text = (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n"
        "<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\n"
    )
    assert ids == prompt.encode(text)


@pytest.mark.parametrize("kind", KINDS)
def test_a_placeholder_becomes_pads_between_the_vision_tokens(kind: str, tmp_path: Path) -> None:
    prompt = Chat(tiny_bundle(tmp_path, kind).file("tokenizer.json"))
    ids = prompt.conversation(
        [Message("user", f"a<image>b<{kind}_image>")], {"image": [2], f"{kind}_image": [3]}
    )
    pads = "<|vision_start|>{}<|vision_end|>"
    expected = (
        "a" + pads.format("<|image_pad|>" * 2) + "b" + pads.format(f"<|{kind}_image_pad|>" * 3)
    )
    assert ids == prompt.conversation([Message("user", expected)], {})


@pytest.mark.parametrize(
    ("text", "visuals"),
    [
        ("<image>", {}),
        ("<image>", {"image": []}),
        ("<image><image>", {"image": [1]}),
        ("q", {"image": [1]}),
        ("<image>", {"image": [1, 1]}),
        ("<image>", {"image": [1], "clip_image": [1]}),
        ("<video>", {"image": []}),
        ("<seg_image>", {"clip_image": [1]}),
    ],
)
def test_placeholders_and_pictures_must_match(
    text: str, visuals: dict[str, list[int]], prompt: Chat
) -> None:
    with pytest.raises(PromptError):
        prompt.conversation([Message("user", text)], visuals)


@pytest.mark.parametrize("perception", ["free", "off"])
def test_nothing_is_appended_unasked(perception: Any) -> None:
    assert question_text("What is it?", perception, "clip") == "<image>\nWhat is it?"


@pytest.mark.parametrize(("perception", "sentence"), [("region", REGION), ("reencode", REENCODE)])
def test_the_authors_sentence_is_appended_in_its_published_form(
    perception: Any, sentence: str
) -> None:
    assert question_text("What is it?", perception, "clip") == f"<image>\nWhat is it? \n{sentence}."
    assert question_text("Is <image> it?", perception, "clip") == f"Is <image> it? \n{sentence}."


def test_a_placed_image_stays_where_it_is() -> None:
    assert question_text("What is <image> of?", "free", "clip") == "What is <image> of?"
    assert question_text("", "free", "clip") == "<image>\n"


@pytest.mark.parametrize(
    "question",
    [
        "<image><image>",
        "a <image> b <image>",
        "<clip_image>",
        "<detection_image>",
        "<seg_image>",
        "<video>",
        "<image> and <video>",
        "<|image_pad|>",
        "<|video_pad|>",
        "q <|clip_image_pad|>",
        "q <|clip_action|>",
    ],
)
def test_tokens_that_stand_for_pictures_are_refused(question: str) -> None:
    with pytest.raises(PromptError, match="remove it") as error:
        question_text(question, "free", "clip")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", KINDS)
def test_pads_and_actions_are_refused_where_they_are_tokens(kind: str) -> None:
    for token in ("_image_pad", "_action"):
        for other in KINDS:
            question = f"q <|{other}{token}|>"
            if other == kind:
                with pytest.raises(PromptError, match="remove it"):
                    question_text(question, "free", kind)
            else:
                assert question_text(question, "free", kind) == f"<image>\n{question}"


@pytest.mark.parametrize(
    "question",
    ["<|im_end|>", "<Image>", "< image >", "<|region_token_start|>", "{{idx}}", "<|x_0|>"],
)
def test_other_tokens_are_let_through(question: str) -> None:
    assert question_text(question, "off", "clip") == f"<image>\n{question}"


@pytest.mark.parametrize("perception", ["Region", "", None, "reencoding", True])
def test_an_unknown_perception_is_refused(perception: Any) -> None:
    with pytest.raises(PromptError, match="expected one of: region, reencode, free, off"):
        question_text("q", perception, "clip")


@pytest.mark.parametrize("question", [None, b"q", 3, ["q"]])
def test_a_question_is_text(question: Any) -> None:
    with pytest.raises(PromptError, match="expected text"):
        question_text(question, "free", "clip")


@pytest.mark.parametrize("question", ["\ud800", "a\udfffb"])
def test_lone_surrogates_are_refused(question: str) -> None:
    with pytest.raises(PromptError, match="no valid text"):
        question_text(question, "free", "clip")


def test_a_broken_tokenizer_is_a_broken_bundle(tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    file.write_text('{"model"')
    with pytest.raises(BundleError, match="no tokenizer"):
        Chat(file)


@pytest.mark.parametrize("character", ["é", "한", "🐕"])
def test_a_character_comes_when_its_last_byte_does(character: str, prompt: Chat) -> None:
    stream = prompt.stream(())
    *first, last = prompt.encode(character)
    assert [stream.step(token) for token in first] == [[]] * len(first)
    assert stream.step(last) == [character]


def test_trigger_and_special_tokens_give_no_piece(bundle: Bundle, prompt: Chat) -> None:
    tokens = bundle.manifest.tokens
    stream = prompt.stream(tokens.triggers)
    ids = prompt.encode(
        "a<|region_token_start|><|x_1|><|region_token_end|>b<|clip_action_start|><|im_end|>"
    )
    pieces = [stream.step(token) for token in ids]
    assert [piece for piece in pieces if piece] == [["a"], ["b"]]
    assert (
        prompt.decode(ids)
        == "a<|region_token_start|><|x_1|><|region_token_end|>b<|clip_action_start|>"
    )


@given(text=words)
@example(text="é한🐕")
@example(text="e\u0301")
def test_pieces_join_to_the_text(text: str, prompt: Chat) -> None:
    ids, stream = prompt.encode(text), prompt.stream(())
    pieces = "".join(piece for token in ids for piece in stream.step(token))
    assert pieces == prompt.decode(ids).rstrip(
        "\ufffd"
    )  # of what ends so, no one knows whether more bytes follow


@given(ids=st.lists(st.integers(0, 291), max_size=20))
def test_pieces_of_any_ids_are_the_beginning_of_their_text(ids: list[int], prompt: Chat) -> None:
    stream = prompt.stream(())
    pieces, text = (
        "".join(piece for token in ids for piece in stream.step(token)),
        prompt.decode(ids),
    )
    assert text.startswith(pieces)
    assert set(text[len(pieces) :]) <= {"\ufffd"}
