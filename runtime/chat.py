"""Tokenizer and chat template: messages to a context, ids to text (PROTOCOL 2)."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

from vpt_edge.runtime.context import Context, Visual
from vpt_edge.runtime.errors import BundleError, PromptError
from vpt_edge.runtime.names import utf8_name
from vpt_edge.runtime.schema import EXPORT_AGAIN, brief

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from vpt_edge.runtime.context import Encoded
    from vpt_edge.runtime.manifest import Tokens

TEMPLATE = ("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>")
PLACEHOLDER = re.compile("<(image|detection_image|seg_image|clip_image|video)>")


@dataclass(frozen=True)
class Message:
    """What one side says; ``<image>`` and the like in ``text`` stand for pictures, in order.

    ``ids``: those that the assistant has generated, which take the place of ``text`` as they are.
    ``end``: what follows ``<|im_end|>`` behind an assistant's message.
    """

    role: Literal["system", "user", "assistant"]
    text: str
    ids: tuple[int, ...] | None = None
    end: str = "\n"


def check_text(text: str, name: str, reserved: tuple[str, ...]) -> None:
    """Raise PromptError unless ``text`` is one that can be encoded and holds nothing ``reserved``.

    ``name`` says in the error what it is.
    """
    if not isinstance(text, str):
        raise PromptError(f"the {name} is {type(text).__name__}, expected text")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        problem = f"{error.reason} at character {error.start}"
        raise PromptError(f"the {name} is not valid text: {problem}") from None
    refuse_literals(name, [token for token in reserved if token in text])


def refuse_literals(name: str, literals: Sequence[str]) -> None:
    """Raise PromptError if there are ``literals`` that the text called ``name`` must not hold."""
    if literals:
        raise PromptError(
            f"the {name} holds {', '.join(literals)}, which stands for a picture or an action",
            "remove it",
        )


@contextlib.contextmanager
def _guard(problem: str) -> Iterator[None]:
    """Raise BundleError where tokenizers fails: it raises bare exceptions, and its panics are none
    but of the kind that ends a program.
    """
    try:
        yield
    except BaseException as error:
        is_panic = type(error).__name__ == "PanicException"
        if not is_panic and not isinstance(error, Exception):
            raise
        raise BundleError(f"{problem}: {brief(str(error))}", EXPORT_AGAIN) from error


class Chat:
    """Turns messages into ids and ids into text.

    ``pads``: placeholder of a picture -> the token that stands for each of its visual tokens.
    """

    def __init__(self, tokenizer: Path, pads: Mapping[str, str]) -> None:
        with _guard(f"{tokenizer.name} is not a tokenizer"), utf8_name(tokenizer) as name:
            self._tokenizer = Tokenizer.from_file(name)
        # What a training left in the file: the authors' code ignores the first two, and with the
        # last no two prompts would be alike.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        if getattr(self._tokenizer.model, "dropout", None) is not None:
            self._tokenizer.model.dropout = None
        self._pads = pads

    def check(self, tokens: Tokens, words: Mapping[str, int]) -> None:
        """Raise BundleError unless the tokenizer keeps the words whole by which the loop works.

        Each of the template's is one id, that of ``tokens`` where they name it, and so are the
        ``words`` of the way of looking, which are decoded to themselves or to nothing.
        """
        expected = {"<|im_end|>": tokens.end[0], "<|image_pad|>": tokens.image_pad, **words}
        for word in dict.fromkeys((*TEMPLATE, *self._pads.values(), *words)):
            ids = self.encode(word)
            number = expected.get(word, "one id")
            if len(ids) != 1 or (word in expected and ids[0] != number):
                raise BundleError(
                    f"the tokenizer makes {brief(ids)} of {word}, expected {number}", EXPORT_AGAIN
                )
        said = self.decode([tokens.end[0]])
        if said:
            problem = f"the tokenizer decodes the end of a turn to {brief(said)}, expected nothing"
            raise BundleError(problem, EXPORT_AGAIN)
        triggers = [word for word in words if word not in self._pads.values()]
        for word in triggers:
            self._check_decoded(word, [words[word]])
        self._check_decoded("".join(triggers), [words[word] for word in triggers])

    def _check_decoded(self, text: str, ids: Sequence[int]) -> None:
        decoded = self.decode(ids)
        if decoded != text:
            raise BundleError(
                f"the tokenizer decodes {brief(text)} to {brief(decoded)}", EXPORT_AGAIN
            )

    def encode(self, text: str) -> list[int]:
        with _guard("the tokenizer cannot encode a text"):
            return self._tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text that the authors' code sees: special tokens are left out, triggers stay."""
        with _guard("the tokenizer cannot decode an answer"):
            return self._tokenizer.decode(list(ids), skip_special_tokens=True)

    def stream(self, hidden: Collection[int]) -> TextStream:
        """Decodes one id at a time, without the ids in ``hidden``."""
        return TextStream(self._tokenizer, hidden)

    def context(self, messages: Iterable[Message], shown: Iterable[Encoded]) -> Context:
        """The ids of ``messages`` up to where the assistant is to speak, and ``shown`` in them.

        Raises PromptError when placeholders and pictures do not match.
        """
        context = Context()
        remaining = iter(shown)
        for message in messages:
            if message.role == "system":
                context.ids += self.encode(f"<|im_start|>system\n{message.text}<|im_end|>\n")
            elif message.role == "user":
                turn = f"<|im_start|>user\n{message.text}<|im_end|>\n<|im_start|>assistant\n"
                self._append(turn, context, remaining)
            else:
                if message.ids is None:
                    self._append(message.text, context, remaining)
                else:
                    context.ids += message.ids
                context.ids += self.encode("<|im_end|>") + self.encode(message.end)
        if next(remaining, None) is not None:
            raise PromptError("the messages hold fewer placeholders than there are pictures")
        return context

    def _append(self, text: str, context: Context, remaining: Iterator[Encoded]) -> None:
        """Encode ``text`` behind ``context``, with visual tokens in the place of placeholders."""
        pieces = PLACEHOLDER.split(text)
        context.ids += self.encode(pieces[0])
        for name, piece in zip(pieces[1::2], pieces[2::2], strict=True):
            encoded = None
            if name in self._pads:
                encoded = next(remaining, None)
            if encoded is None or (encoded.grid is None) == (name in ("image", "video")):
                problem = f"the messages hold more <{name}> than there are pictures of that kind"
                raise PromptError(problem)
            context.ids += self.encode("<|vision_start|>")
            context.visuals.append(Visual(len(context.ids), encoded))
            context.ids += self.encode(self._pads[name]) * encoded.tokens
            context.ids += self.encode("<|vision_end|>") + self.encode(piece)


class TextStream:
    """Decodes one id at a time: a piece of text comes when its bytes are complete."""

    def __init__(self, tokenizer: Tokenizer, hidden: Collection[int]) -> None:
        self._tokenizer = tokenizer
        self._hidden = hidden
        self._stream = DecodeStream(skip_special_tokens=True)

    def step(self, token: int) -> str:
        """The piece that ``token`` completes; an empty one where it completes none."""
        if token in self._hidden:
            return ""
        with _guard("the tokenizer cannot decode a token"):
            piece = self._stream.step(self._tokenizer, token)
        return piece or ""
