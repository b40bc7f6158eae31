"""What a runtime reads: bundles, pictures, questions, what a model says, and lists of samples."""

from __future__ import annotations

import io
import json
from functools import cache
from typing import TYPE_CHECKING

from golden import TAGS
from PIL import Image

from fuzz import mutations
from fuzz.target import Target, root
from vpt_edge.calibration.samples import read_samples
from vpt_edge.runtime.bundle import Bundle
from vpt_edge.runtime.chat import Chat
from vpt_edge.runtime.image import open_picture
from vpt_edge.runtime.manifest import MANIFEST
from vpt_edge.runtime.perception import vpt, vpt_question
from vpt_edge.runtime.perception.actions import Crop
from vpt_edge.runtime.testing import tiny_bundle

if TYPE_CHECKING:
    from hypothesis import strategies as st


@cache
def _bundle() -> Bundle:
    return tiny_bundle(root() / "bundle")


def _read_manifest(data: bytes) -> None:
    path = _bundle().path
    (path / MANIFEST).write_bytes(data)
    Bundle.read(path).embeddings()


def _manifests() -> st.SearchStrategy[bytes]:
    return mutations.documents([json.loads((_bundle().path / MANIFEST).read_text("utf-8"))])


def _read_tokenizer(data: bytes) -> None:
    path = root() / "tokenizer.json"
    path.write_bytes(data)
    chat = Chat(path, vpt.pads_of("clip"))
    ids = chat.encode("What is on the sign?<|im_end|> \N{SNOWMAN}")
    chat.decode([*ids, 0, 2**31])
    stream = chat.stream([])
    for token in [*ids, 0, 2**31]:
        stream.step(token)


def _tokenizers() -> st.SearchStrategy[bytes]:
    return mutations.documents([json.loads((TAGS / "tokenizer.json").read_text("utf-8"))])


def _read_region(data: bytes) -> None:
    text = data.decode("utf-8", "surrogatepass")
    width, height = 640, 480
    for kind in vpt.KINDS:
        decision = vpt.decide(text, (width, height), kind)
        for action in decision.actions:
            if isinstance(action, Crop):
                left, top, right, bottom = action.box
                assert 0 <= left < right <= width
                assert 0 <= top < bottom <= height
    vpt.without_triggers(text)


def _regions() -> st.SearchStrategy[bytes]:
    words = [*vpt.REGION_TOKENS]
    for kind in vpt.KINDS:
        words += vpt.action_tokens(kind)
    return mutations.texts(words)


def _read_question(data: bytes) -> None:
    text = data.decode("utf-8", "surrogatepass")
    for mode in vpt_question.SENTENCES:
        question = vpt_question.question_text(text, mode, "clip")
        assert question.count("<image>") == 1


def _questions() -> st.SearchStrategy[bytes]:
    words = ["<image>", "<video>", "<clip_image>", "<|im_end|>", "{{idx}}", "<|clip_action|>"]
    return mutations.texts([*words, *vpt_question.literal_pads("clip")])


def _read_picture(data: bytes) -> None:
    picture = open_picture(data)
    assert 0 not in picture.size


def _pictures() -> st.SearchStrategy[bytes]:
    seeds = []
    for form in ("PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP"):
        stream = io.BytesIO()
        Image.linear_gradient("L").resize((24, 16)).save(stream, form)
        seeds.append(stream.getvalue())
    return mutations.files(seeds)


def _read_samples(data: bytes, name: str) -> None:
    folder = root()
    picture = folder / "0.png"
    if not picture.exists():
        Image.new("RGB", (32, 32)).save(picture)
    file = folder / name
    file.write_bytes(data)
    for sample in read_samples(file).samples:
        sample.open()


def _read_lines(data: bytes) -> None:
    _read_samples(data, "data.jsonl")


def _lines() -> st.SearchStrategy[bytes]:
    line = {"image": "0.png", "question": "What?", "answer": "K", "perception": "region"}
    return mutations.documents([line])


def _read_dataset(data: bytes) -> None:
    _read_samples(data, "data.json")


def _datasets() -> st.SearchStrategy[bytes]:
    question = {"role": "user", "content": "<image>What?"}
    answer = {"role": "assistant", "content": "K"}
    entry = {"messages": [question, answer], "images": ["0.png", "0.png_1,2,20,30"]}
    return mutations.documents([[entry], [entry, {**entry, "images": ["0.png_1,2,20,30"]}]])


RUNTIME = {
    "manifest": Target(_read_manifest, _manifests),
    "tokenizer": Target(_read_tokenizer, _tokenizers),
    "region": Target(_read_region, _regions),
    "question": Target(_read_question, _questions),
    "picture": Target(_read_picture, _pictures),
    "lines": Target(_read_lines, _lines),
    "dataset": Target(_read_dataset, _datasets),
}
