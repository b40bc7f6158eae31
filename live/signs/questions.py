"""What is asked about a scene of signs, with the true answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Literal

from vpt_edge.live.scenes import COLOURS, GRID
from vpt_edge.live.signs.sign import KINDS

if TYPE_CHECKING:
    from vpt_edge.live.signs.sign import Kind, Scene, Sign

# Each question in two forms.
FORMS = 2
READ = ("What does the {} {} say?", "What is written on the {} {}?")
PLACE = ("Where is the {} {}?", "In which quarter is the {} {}?")
COLOUR = ("What colour is the {}?", "Which colour has the {}?")
THERE = ("Is there {} {} {}?", "Do you see {} {} {}?")
OTHER_KIND = 0.25  # share of the questions for what is not there that name a colour that is


@dataclass(frozen=True)
class Sample:
    """A question with its true answer; ``about`` is the sign that it names, if there is one."""

    question: str
    answer: str
    perception: Literal["region", "reencode", "free"]
    about: Sign | None


def read_question(sign: Sign, form: int) -> str:
    return READ[form].format(sign.card.colour, sign.card.kind)


def place_question(sign: Sign, form: int) -> str:
    return PLACE[form].format(sign.card.colour, sign.card.kind)


def there_question(colour: str, kind: Kind, form: int) -> str:
    article = "a"
    if colour[0] in "aeiou":
        article = "an"
    return THERE[form].format(article, colour, kind)


def quarter(sign: Sign) -> str:
    """In which quarter of the picture its middle lies."""
    x, y = sign.cell
    row = "bottom" if y >= GRID // 2 else "top"
    column = "right" if x >= GRID // 2 else "left"
    return f"{row} {column}"


def ask_read(scene: Scene, rng: Random, form: int) -> Sample:
    sign = rng.choice(scene.signs)
    return Sample(read_question(sign, form), sign.card.text, "region", sign)


def ask_place(scene: Scene, rng: Random, form: int) -> Sample:
    sign = rng.choice(scene.signs)
    return Sample(place_question(sign, form), quarter(sign), "reencode", sign)


def ask_colour(scene: Scene, rng: Random, form: int) -> Sample:
    """About something that there is one of."""
    sign = rng.choice(single_signs(scene))
    return Sample(COLOUR[form].format(sign.card.kind), sign.card.colour, "free", sign)


def single_signs(scene: Scene) -> list[Sign]:
    """Those whose kind there is once alone."""
    counts = Counter(sign.card.kind for sign in scene.signs)
    return [sign for sign in scene.signs if counts[sign.card.kind] == 1]


def ask_there(scene: Scene, rng: Random, form: int) -> Sample:
    """About something that is there or, as often, is not."""
    sign = rng.choice(scene.signs)
    if rng.random() < 0.5:
        return Sample(there_question(sign.card.colour, sign.card.kind, form), "yes", "free", sign)
    colours = [sign.card.colour for sign in scene.signs]
    colour = rng.choice([colour for colour in COLOURS if colour not in colours])
    kind = rng.choice(KINDS)
    if rng.random() < OTHER_KIND:
        colour = sign.card.colour
        kind = rng.choice([kind for kind in KINDS if kind != sign.card.kind])
    return Sample(there_question(colour, kind, form), "no", "free", None)


ASK: dict[str, Callable[[Scene, Random, int], Sample]] = {
    "read": ask_read,
    "place": ask_place,
    "colour": ask_colour,
    "there": ask_there,
}


def ask_each(scene: Scene, rng: Random) -> list[Sample]:
    """One question of each kind."""
    return [ask(scene, rng, rng.randrange(FORMS)) for ask in ASK.values()]


def answers(scene: Scene) -> dict[str, str]:
    """The true answers by their questions, in all forms."""
    there = {(sign.card.colour, sign.card.kind) for sign in scene.signs}
    true = dict[str, str]()
    for form in range(FORMS):
        for sign in scene.signs:
            true[read_question(sign, form)] = sign.card.text
            true[place_question(sign, form)] = quarter(sign)
        for sign in single_signs(scene):
            true[COLOUR[form].format(sign.card.kind)] = sign.card.colour
        for colour in COLOURS:
            for kind in KINDS:
                is_there = (colour, kind) in there
                true[there_question(colour, kind, form)] = "yes" if is_there else "no"
    return true
