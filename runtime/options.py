"""The options of a question."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypedDict

from vpt_edge.runtime.errors import PromptError
from vpt_edge.runtime.schema import brief

if TYPE_CHECKING:
    from vpt_edge.runtime.perception.actions import Mode

# A turn that asks for more gets none. The authors' prompts end at 2048 tokens, which hold no more:
# a look takes at least 4 in the turn and 12 with its crop.
LOOKS_A_TURN = 128
STOP_TEXTS = 16  # of one question at most


class Exchange(NamedTuple):
    """An earlier question about the picture, and its answer."""

    question: str
    answer: str


class AskOptions(TypedDict, total=False):
    """What ``ask`` and ``stream`` take by keyword."""

    perception: Mode
    assistant_prefix: str
    max_new_tokens: int
    max_looks: int | None
    temperature: float
    top_k: int | None
    top_p: float | None
    seed: int | None
    presence_penalty: float
    min_pixels: int | None
    max_pixels: int | None
    first_max_pixels: int | None
    look_max_pixels: int | None
    first_token_share: float | None
    still_pixels: float | None
    still_features: float | None
    draft_tokens: int | None
    keep_logits: bool
    history: Sequence[tuple[str, str]]
    system: str | None
    stop: Sequence[str]


Kinds: TypeAlias = "type | tuple[type, ...]"
NOTHING = type(None)
TYPES: dict[str, tuple[Kinds, str]] = {
    "perception": (str, "a text"),
    "assistant_prefix": (str, "a text"),
    "max_new_tokens": (Integral, "a whole number"),
    "max_looks": ((Integral, NOTHING), "a whole number or None"),
    "temperature": (Real, "a number"),
    "top_k": ((Integral, NOTHING), "a whole number or None"),
    "top_p": ((Real, NOTHING), "a number or None"),
    "seed": ((Integral, NOTHING), "a whole number or None"),
    "presence_penalty": (Real, "a number"),
    "min_pixels": ((Integral, NOTHING), "a whole number or None"),
    "max_pixels": ((Integral, NOTHING), "a whole number or None"),
    "first_max_pixels": ((Integral, NOTHING), "a whole number or None"),
    "look_max_pixels": ((Integral, NOTHING), "a whole number or None"),
    "first_token_share": ((Real, NOTHING), "a number or None"),
    "still_pixels": ((Real, NOTHING), "a number or None"),
    "still_features": ((Real, NOTHING), "a number or None"),
    "draft_tokens": ((Integral, NOTHING), "a whole number or None"),
    "keep_logits": (bool, "True or False"),
    "history": (Sequence, "a sequence of questions with their answers"),
    "system": ((str, NOTHING), "a text or None"),
    "stop": (Sequence, "a text or a sequence of texts"),
}


@dataclass(frozen=True)
class Options:
    """The options of a question, with their defaults.

    ``perception``: "free" appends nothing to the question and honours the triggers; "region" and
    "reencode" append the authors' sentence; "off" appends nothing and takes triggers for text.
    ``assistant_prefix``: text that the assistant's first turn begins with. ``max_new_tokens``: for
    each turn. ``max_looks``: rounds of looking again, each of at most ``LOOKS_A_TURN`` regions;
    None: as many as the model's way of looking has, which of VPT is one. A call that is answered in
    words is a round.

    ``temperature``, ``top_k``, ``top_p``, ``seed``: sampling; at temperature 0 the likeliest token
    is taken. ``presence_penalty``: what the logits of the tokens lose that the turn has generated
    already, from -2 to 2.

    ``min_pixels``, ``max_pixels``: of each picture as the model is shown it, and of each look that
    has no limits of its own, within the bundle's, which they are where they are None.
    ``first_max_pixels``: the most of each picture as it is first shown; ``look_max_pixels``: of
    each look, of one with limits of its own too; None: the manifest's budget, else ``max_pixels``.
    They may be below the bundle's least. ``first_token_share``: of the visual tokens of each
    picture as it is first shown, the share that the language model is given, more than 0 and at
    most 1, but 64 of them at least; None: the manifest's budget, else all. A look is always given
    whole. ``draft_tokens``: the most that are looked up in what came before and verified in the
    pass that computes a token, 0 for none; None: the manifest's budget, else none.

    ``still_pixels``, ``still_features``, one of them at most: of ``Frames`` the visual tokens that
    did not change since the pair of frames before are not shown, those whose pixels, as the tower
    normalizes them, differ by less in the mean, or whose features are more alike than this cosine.

    ``keep_logits``: keep the logits of every generated token in the turns. ``history``: earlier
    questions about the picture and their answers, oldest first, each an ``Exchange`` or a pair of
    texts. The picture stands with the first of them, and the sentence with the new question alone;
    what was looked at in between is not shown again. The texts are taken as they are but for what
    stands for a picture or an action. ``system``: text in place of the system message with which
    the model was trained; None: that one. ``stop``: a text, or a sequence of up to 16: a turn ends
    when its text, as the events give it, contains one of them, and is given as far as that begins
    (``Answer.stop_sequence``). A look for which it has asked by then is taken.

    Raises PromptError for values of another type, and numbers out of range.
    """

    perception: Mode = "free"
    assistant_prefix: str = ""
    max_new_tokens: int = 1024
    max_looks: int | None = None
    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    seed: int | None = None
    presence_penalty: float = 0.0
    min_pixels: int | None = None
    max_pixels: int | None = None
    first_max_pixels: int | None = None
    look_max_pixels: int | None = None
    first_token_share: float | None = None
    still_pixels: float | None = None
    still_features: float | None = None
    draft_tokens: int | None = None
    keep_logits: bool = False
    history: Sequence[tuple[str, str]] = ()
    system: str | None = None
    stop: Sequence[str] = ()

    def __post_init__(self) -> None:
        if isinstance(self.stop, str):
            object.__setattr__(self, "stop", (self.stop,))
        for name, (kinds, expected) in TYPES.items():
            value = getattr(self, name)
            if not fits(value, kinds):
                raise PromptError(f"{name} is {brief(value)}, expected {expected}")
        if self.max_new_tokens < 1 or (self.max_looks or 0) < 0:
            raise PromptError(
                f"found max_new_tokens {self.max_new_tokens}, max_looks {self.max_looks}; "
                "expected at least 1 and 0"
            )
        share = self.first_token_share
        if share is not None and not 0 < share <= 1:
            problem = f"found first_token_share {share}"
            raise PromptError(f"{problem}; expected more than 0 and at most 1")
        _check_still(self.still_pixels, self.still_features)
        if self.draft_tokens is not None and self.draft_tokens < 0:
            raise PromptError(f"draft_tokens is {self.draft_tokens}, expected 0 or more")
        object.__setattr__(self, "history", read_history(self.history))
        object.__setattr__(self, "stop", read_stop(self.stop))

    def rounds(self, usual: int) -> int:
        """Rounds of looking again that are honoured, ``usual`` ones unless these say how many."""
        if self.perception == "off":
            return 0
        return usual if self.max_looks is None else self.max_looks


def _check_still(pixels: float | None, features: float | None) -> None:
    """Raise PromptError for both ways of comparing frames, and for numbers out of range."""
    if pixels is not None and features is not None:
        problem = "found still_pixels and still_features, expected one of them"
        raise PromptError(problem, "compare pixels, before the frames are encoded, or features")
    if pixels is not None and not 0 <= pixels < math.inf:
        raise PromptError(f"still_pixels is {pixels}, expected 0 or more")
    if features is not None and not -1 <= features <= 1:
        raise PromptError(f"still_features is {features}, expected -1 to 1")


def fits(value: Any, kinds: Kinds) -> bool:
    """Whether ``value`` is of ``kinds``: a bool is not a number, and a text not a sequence."""
    if isinstance(value, bool):
        return kinds is bool
    if isinstance(value, str | bytes) and kinds is Sequence:
        return False
    return isinstance(value, kinds)


def read_history(pairs: Sequence[Any]) -> tuple[Exchange, ...]:
    """The exchanges that are given as ``pairs``. Raises PromptError for anything else."""
    exchanges = []
    for number, pair in enumerate(pairs, 1):
        is_pair = isinstance(pair, tuple | list) and len(pair) == 2
        if not is_pair or not all(isinstance(text, str) for text in pair):
            problem = f"the exchange {number} of the history is {brief(pair)}"
            raise PromptError(f"{problem}, expected a question and its answer, two texts")
        exchanges.append(Exchange(*pair))
    return tuple(exchanges)


def read_stop(texts: Sequence[Any]) -> tuple[str, ...]:
    """The stop texts that are given as ``texts``. Raises PromptError for anything else."""
    for text in texts:
        if not isinstance(text, str) or not text:
            raise PromptError(f"stop holds {brief(text)}, expected texts that are not empty")
    if len(texts) > STOP_TEXTS:
        raise PromptError(f"stop holds {len(texts)} texts, expected at most {STOP_TEXTS}")
    return tuple(texts)
