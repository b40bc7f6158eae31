"""The tokenizer of a checkpoint of real size: the released vocabulary where it is at hand."""

from __future__ import annotations

import json
import os
from pathlib import Path

from tokenizers import AddedToken, Tokenizer

from vpt_edge.runtime.testing import tiny_bundle

TOOLS = ("<tool_call>", "</tool_call>")  # of the tokenizers from Qwen2.5 on


def write_tokenizer(kind: str, folder: Path) -> dict[str, int]:
    """The real vocabulary with the tokens of ``kind`` where it is at hand, else one of bytes; id by
    token.
    """
    shared = Path(os.environ.get("VPT_SHARED", Path(__file__).parents[2] / "shared"))
    real = shared / "tokenizer" / "qwen2_vpt_clip_tokenizer.json"
    file = folder / "tokenizer.json"
    if real.is_file():  # the same ids in each kind (PROTOCOL 1.3)
        text = real.read_text("utf-8")
        file.write_text(text.replace("<|clip_", f"<|{kind}_"), "utf-8")
    else:
        tiny = tiny_bundle(folder / "tiny", kind)
        tiny.file("tokenizer.json").rename(file)
        for left in tiny.path.iterdir():
            left.unlink()
        tiny.path.rmdir()
    vocabulary: dict[str, int] = Tokenizer.from_file(str(file)).get_vocab()
    return vocabulary


def write_plain_tokenizer(folder: Path) -> dict[str, int]:
    """As ``write_tokenizer``, with the tokens of tools in the place of those of Visual Perception
    Tokens.
    """
    write_tokenizer("clip", folder)
    file = folder / "tokenizer.json"
    data = json.loads(file.read_text("utf-8"))
    added = data["added_tokens"]
    first = min(token["id"] for token in added if token["content"] == "<|clip_image_pad|>")
    data["added_tokens"] = [token for token in added if token["id"] < first]
    file.write_text(json.dumps(data, ensure_ascii=False), "utf-8")
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in TOOLS])
    tokenizer.save(str(file))
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    return vocabulary
