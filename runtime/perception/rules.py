"""The description of a perception that speaks in text: every rule of it as data.

``docs/perceptions.md`` says what each key means, with an example of each value.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Annotated, Any, TypeAlias

from vpt_edge.runtime.perception.thoughts import Tag, Thoughts
from vpt_edge.runtime.schema import Choice, Pattern, Range

# No half of a character: it could not be encoded.
Words: TypeAlias = Annotated[
    str, Pattern("a text of at most 65,536 characters", r"[^\ud800-\udfff]{0,65536}")
]
Key: TypeAlias = Annotated[str, Pattern("a name of 1 to 64 characters", r"[^\ud800-\udfff]{1,64}")]
Pair: TypeAlias = tuple[Tag, Tag]  # opening and closing
MaybeTag: TypeAlias = Annotated[
    str, Pattern("a text of at most 64 characters", r"[^\ud800-\udfff]{0,64}")
]
CropPixels: TypeAlias = Annotated[int, Range(1, 1 << 25)]
Coordinates: TypeAlias = Annotated[
    str,
    Choice(
        (
            "pixels_shown",
            "pixels_original",
            "unit",
            "thousand",
            "unit_or_pixels_shown",
            "unit_or_pixels_original",
        )
    ),
]
ResamplingName: TypeAlias = Annotated[str, Choice(("nearest", "bilinear", "bicubic", "lanczos"))]


@dataclass(frozen=True)
class Opening:
    """What the model is told, and what a question becomes.

    ``system`` has the fields ``{system}``, what the application says or ``plain``, and ``{tools}``;
    ``user`` has ``{pictures}`` and ``{question}``. ``plain``: the system message of the family's
    template; None where it has none.
    """

    system: Words | None
    plain: Words | None
    user: Words


@dataclass(frozen=True)
class CallRule:
    """Where a call stands in a turn's text, and how it is written.

    ``form``: "function", a JSON object with the function's ``name`` and its ``arguments``;
    "arguments", the JSON object of the arguments alone; "box", four numbers in brackets.
    ``opening`` and ``closing`` are plain texts; both are empty for a bare box. ``which``: of
    several calls. ``place`` "end": only where nothing follows it.
    """

    opening: MaybeTag
    closing: MaybeTag
    form: Annotated[str, Choice(("function", "arguments", "box"))]
    name: Key | None
    which: Annotated[str, Choice(("first", "last", "all"))]
    place: Annotated[str, Choice(("anywhere", "end"))]


@dataclass(frozen=True)
class PictureRule:
    """Which view a box is of.

    ``by``: "first" the request's picture, "last" what was shown last, "index" the number in
    ``argument``, counted from ``base`` over everything shown, "name" the text in ``argument``:
    ``original``, or ``crop`` and a number, which counts crops from ``base``. ``missing``: the view
    that a call without the argument means.
    """

    by: Annotated[str, Choice(("first", "last", "index", "name"))]
    argument: Key | None
    base: Annotated[int, Range(0, 1)]
    original: Key | None
    crop: Key | None
    missing: Annotated[str, Choice(("refuse", "first", "last"))]


@dataclass(frozen=True)
class Padding:
    """What a box gets on each side: a share of the box or of the whole picture, or pixels."""

    of: Annotated[str, Choice(("box", "picture", "pixels"))]
    amount: Annotated[float, Range(0, 1 << 16)]


@dataclass(frozen=True)
class SmallRule:
    """What becomes of a box with a side of fewer than ``side`` pixels of the original."""

    side: Annotated[int, Range(1, 1 << 16)]
    action: Annotated[str, Choice(("enlarge", "refuse"))]


@dataclass(frozen=True)
class BoxRule:
    """From four numbers to a box in pixels.

    ``argument``: the call's, None for the form "box". ``outside``: what becomes of a box that
    reaches beyond the picture. ``rounding``: of its sides, to whole pixels.
    """

    argument: Key | None
    coordinates: Coordinates
    outside: Annotated[str, Choice(("clamp", "refuse"))]
    rounding: Annotated[str, Choice(("down", "nearest"))]
    padding: Padding | None
    small: SmallRule | None
    largest_aspect: Annotated[float, Range(1, 200)]


@dataclass(frozen=True)
class ResizeRule:
    """What a crop is brought to before the tower's own resize.

    ``scale``: times the pixels in which the tower showed it. ``pixels``: the least and the most,
    the aspect kept; the tower's own resize of this look has these limits too. ``multiple``: of
    which each side is one.
    """

    scale: Annotated[float, Range(0.1, 4)] | None
    pixels: tuple[CropPixels, CropPixels] | None
    multiple: Annotated[int, Range(1, 1024)] | None
    resampling: ResamplingName


@dataclass(frozen=True)
class Look:
    """What a call shows: a part of a view, or with ``box`` of None the original picture itself."""

    picture: PictureRule | None
    box: BoxRule | None
    resize: ResizeRule | None


@dataclass(frozen=True)
class FirstView:
    """How a picture is made smaller before it is first shown: ``scale`` times each side."""

    scale: Annotated[float, Range(0.01, 1)]
    least_side: Annotated[int, Range(1, 1 << 16)]
    resampling: ResamplingName


@dataclass(frozen=True)
class HandBack:
    """The user's turn that answers a call.

    ``text``: of a look, with the fields ``{picture}``, ``{index}``, ``{number}``, ``{view}``,
    ``{width}`` and ``{height}``. ``error``: of a bad call, with ``{reason}``, ``{name}`` and
    ``{pictures}``. ``role`` "tool": each is wrapped as the family's template wraps a tool's
    answer. ``bad_call``: whether it is answered in words, or with the whole picture. ``last``: what
    the turn ends with when no more looks are taken.
    """

    role: Annotated[str, Choice(("user", "tool"))]
    text: Words
    bad_call: Annotated[str, Choice(("error", "whole"))]
    error: Words
    last: Words


@dataclass(frozen=True)
class TurnRule:
    """How the assistant's turn stands in what follows.

    ``ids``: as "generated", or "rendered" from its text. ``newline``: whether one follows its end.
    ``answer``: the tags around an answer, which a person need not read. ``stop``: texts behind
    which it ends.
    """

    ids: Annotated[str, Choice(("generated", "rendered"))]
    newline: bool
    thoughts: Thoughts | None
    answer: Pair | None
    stop: tuple[Tag, ...]


@dataclass(frozen=True)
class Sampling:
    """What the model's makers recommend, told by a hint."""

    temperature: Annotated[float, Range(0, 100)]
    top_k: Annotated[int, Range(1, 1 << 24)] | None
    top_p: Annotated[float, Range(0, 1)] | None
    presence_penalty: Annotated[float, Range(-100, 100)]


@dataclass(frozen=True)
class Rules:
    """A perception that speaks in text.

    ``tools``: the schema of each function, a JSON object, or as text where its spaces matter.
    ``rounds``: of looking again. ``sampling`` of None: greedy.
    """

    opening: Opening
    tools: tuple[Any, ...]
    call: CallRule
    look: Look
    first_view: FirstView | None
    hand_back: HandBack
    turn: TurnRule
    rounds: Annotated[int, Range(1, 64)]
    sampling: Sampling | None


@dataclass(frozen=True)
class RulesConfig:
    """The manifest's block ``perception``. ``rules``: the description."""

    rules: Rules


def block(rules: Rules) -> dict[str, Any]:
    """``rules`` as the manifest has them, in JSON types."""
    return {"name": "text", "rules": json.loads(json.dumps(asdict(rules)))}
