"""The tokenizer of the model that reads signs: characters of texts are tokens of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vocabulary import SUFFIXES, SYSTEM, build

from vpt_edge.live.scenes import COLOURS
from vpt_edge.live.signs.questions import COLOUR, FORMS, PLACE, READ, there_question
from vpt_edge.live.signs.sign import KINDS

if TYPE_CHECKING:
    from tokenizers import Tokenizer

QUARTERS = ("top left", "top right", "bottom left", "bottom right")


def build_tokenizer() -> Tokenizer:
    """Each word of a question is one token."""
    return build(corpus())


def corpus() -> list[str]:
    """Everything that is said in the demo but the texts of signs."""
    texts = [SYSTEM, "system\nuser\nassistant\n", *SUFFIXES.values(), *QUARTERS, "yes", "no"]
    for colour in COLOURS:
        texts.append(colour)
        for kind in KINDS:
            for form in range(FORMS):
                texts.append(READ[form].format(colour, kind))
                texts.append(PLACE[form].format(colour, kind))
                texts.append(COLOUR[form].format(kind))
                texts.append(there_question(colour, kind, form))
    return texts
