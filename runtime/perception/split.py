"""What of a turn's text is thought, what is hidden, and what is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from vpt_edge.runtime.stop import count_undecided, find_first

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class Part(NamedTuple):
    """A piece of a turn's text that is shown, or one that is thought."""

    text: str
    is_thought: bool


class Markup(NamedTuple):
    """How a model marks its text.

    ``thoughts``: the tags around what it thinks. ``spans``: tags, opening and closing, around what
    is hidden. ``words`` are hidden wherever they stand.
    """

    thoughts: tuple[str, str] | None = None
    spans: tuple[tuple[str, str], ...] = ()
    words: tuple[str, ...] = ()


class TextSplitter:
    """Splits a text that comes in pieces; no tag is in any part, however the pieces are cut.

    What is not closed runs to the end. Thoughts have no white space around them, nor what is shown
    behind them any in front; those of several places stand in lines of their own.
    """

    def __init__(self, markup: Markup) -> None:
        self._openings = dict(markup.spans)
        self._thinking = ""  # the tag that opens thoughts
        if markup.thoughts is not None:
            self._thinking, closing = markup.thoughts
            self._openings[self._thinking] = closing
        self._marks = (*self._openings, *markup.words)
        self._held = ""
        self._opening: str | None = None  # that within which the text is
        self._has_thought = False
        self._space = ""  # which comes if more is thought
        self._is_leading = False  # white space that comes now is dropped

    def take(self, piece: str) -> list[Part]:
        """What is decided now that ``piece`` has come."""
        if not self._marks:
            return [Part(piece, is_thought=False)]
        self._held += piece
        parts = list[Part]()
        while (mark := find_first(self._awaited, self._held)) is not None:
            index = self._held.index(mark)
            parts += self._give(self._held[:index])
            self._held = self._held[index + len(mark) :]
            self._pass(mark)
        end = len(self._held) - count_undecided(self._awaited, self._held)
        parts += self._give(self._held[:end])
        self._held = self._held[end:]
        return parts

    def finish(self) -> list[Part]:
        """What was held back, now that the text is over."""
        rest = self._held
        self._held = ""
        return list(self._give(rest))

    @property
    def _awaited(self) -> Sequence[str]:
        if self._opening is None:
            return self._marks
        return (self._openings[self._opening],)

    def _pass(self, mark: str) -> None:
        """Go on behind ``mark``."""
        if self._opening is not None:
            self._is_leading = self._opening == self._thinking
            self._opening = None
        elif mark in self._openings:
            self._opening = mark
            self._is_leading = mark == self._thinking
            self._space = "\n" if self._has_thought else ""

    def _give(self, text: str) -> Iterator[Part]:
        """``text``, which holds no tag, as far as it is shown or thought."""
        is_thought = self._opening is not None and self._opening == self._thinking
        if self._opening is not None and not is_thought:
            return
        if self._is_leading:
            text = text.lstrip()
        if not text:
            return
        self._is_leading = False
        if not is_thought:
            yield Part(text, is_thought=False)
            return
        text = self._space + text
        thought = text.rstrip()
        self._space = text[len(thought) :]
        if thought:
            self._has_thought = True
            yield Part(thought, is_thought=True)


def split(text: str, markup: Markup) -> tuple[str | None, str]:
    """The thoughts in a turn's ``text``, None where there are none, and what is shown of it."""
    splitter = TextSplitter(markup)
    parts = [*splitter.take(text), *splitter.finish()]
    thoughts = "".join(part.text for part in parts if part.is_thought)
    shown = "".join(part.text for part in parts if not part.is_thought)
    return thoughts or None, shown


def without_thoughts(text: str, markup: Markup) -> str:
    """``text`` without its thoughts, calls and all; a tag of thoughts within a call is none."""
    if markup.thoughts is None:
        return text
    thinking, _ = markup.thoughts
    closings = dict([*markup.spans, markup.thoughts])
    said = ""
    while (opening := find_first(tuple(closings), text)) is not None:
        before, _, behind = text.partition(opening)
        inside, closing, text = behind.partition(closings[opening])
        said += before
        if opening != thinking:
            said += f"{opening}{inside}{closing}"
    return said + text
