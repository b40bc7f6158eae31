"""What signs say can be read without a doubt."""

from __future__ import annotations

from random import Random

from vpt_edge.live.signs.words import (
    CHARACTERS,
    LONGEST,
    SHORTEST,
    WORDS,
    draw_code,
    draw_price,
    draw_word,
    words_of,
)

LENGTHS = range(SHORTEST, LONGEST + 1)


def test_words_are_of_capitals_and_stand_in_the_list_once() -> None:
    assert len(set(WORDS)) == len(WORDS)
    for word in WORDS:
        assert word.isascii() and word.isalpha() and word.isupper(), word
        assert SHORTEST <= len(word) <= LONGEST, word


def test_there_are_many_of_each_length() -> None:
    counts = {length: len(words_of(length)) for length in LENGTHS}
    assert min(counts.values()) > 80
    assert sum(counts.values()) == len(WORDS)


def test_texts_have_their_length() -> None:
    rng = Random(1)
    for draw in (draw_word, draw_code, draw_price):
        for length in LENGTHS:
            text = draw(rng, length)
            assert len(text) == length and set(text) <= set(CHARACTERS)


def test_no_text_has_what_looks_like_something_else() -> None:
    """O is in words alone, 0 in prices alone; and so are I and 1."""
    rng = Random(2)
    for _ in range(2000):
        assert not set(draw_code(rng, 7)) & set("O0I1")
        price = draw_price(rng, 4)
        assert price.isdecimal() and price[0] != "0"
