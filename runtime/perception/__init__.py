"""The ways of looking again: how a model asks, how the look is cut and handed back.

The manifest's ``perception`` names one; each is a file of its own. The loop in ``pipeline`` knows
none of them: it asks what is said here.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Protocol, cast

from vpt_edge.runtime.errors import BundleError
from vpt_edge.runtime.schema import EXPORT_AGAIN

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vpt_edge.runtime.chat import Message
    from vpt_edge.runtime.image import Size
    from vpt_edge.runtime.manifest import Manifest
    from vpt_edge.runtime.perception.actions import Decision, Mode, Resampling
    from vpt_edge.runtime.perception.views import View

WAYS = {
    "none": ("vpt_edge.runtime.perception.none", "NoLook"),
    "text": ("vpt_edge.runtime.perception.text", "TextPerception"),
    "vpt": ("vpt_edge.runtime.perception.vpt", "Vpt"),
}


class Perception(Protocol):
    """A way of looking again, for the checkpoint of one bundle."""

    @property
    def can_look(self) -> bool:
        """Whether this checkpoint ever asks for a look: an alignment checkpoint does not."""

    @property
    def modes(self) -> tuple[Mode, ...]:
        """The modes in which it may be asked."""

    @property
    def usual_mode(self) -> Mode:
        """The mode in which a question makes this checkpoint look."""

    @property
    def pads(self) -> Mapping[str, str]:
        """Placeholder of a picture in a message -> the token that stands for each visual token."""

    @property
    def hidden_ids(self) -> frozenset[int]:
        """Ids that the streamed text leaves out."""

    @property
    def token_ids(self) -> Mapping[str, int]:
        """The words by which it works, each with the one id that the manifest gives it."""

    @property
    def action(self) -> int | None:
        """The id whose embedding is the state in front of it (PROTOCOL 5.1); None: no such id."""

    @property
    def encoder(self) -> str | None:
        """The second encoder of a re-encode (``models.ENCODERS``); None: the tower's features."""

    @property
    def longest_side(self) -> int:
        """Of a picture for the second encoder."""

    @property
    def most_pictures(self) -> int:
        """How many pictures may be shown with a question."""

    @property
    def keeps_ids(self) -> bool:
        """Whether the ids of a turn stay as they were generated; else its text is encoded again."""

    @property
    def most_looks(self) -> int:
        """Rounds of looking again, unless the question says how many."""

    @property
    def stop(self) -> tuple[str, ...]:
        """Texts behind which a turn ends; they stay in it."""

    @property
    def turn_prefix(self) -> str:
        """What each turn of the assistant begins with: ``<think>``, where the prompt opens it."""

    @property
    def thoughts(self) -> tuple[str, str] | None:
        """The tags around what the model thinks, which is not its answer; None: it has none."""

    @property
    def hidden_spans(self) -> tuple[tuple[str, str], ...]:
        """Tags, opening and closing, around what the answer's text leaves out: calls."""

    @property
    def hidden_words(self) -> tuple[str, ...]:
        """Words that the answer's text leaves out, wherever they stand: tags of an answer."""

    @property
    def sampling(self) -> Mapping[str, float]:
        """Options that the model's makers recommend: told by a hint, never set in silence."""

    def first_size(self, size: Size) -> Size | None:
        """The pixels to which a picture of ``size`` is brought before it is first shown.

        None: it is shown as it is.
        """

    @property
    def first_resampling(self) -> Resampling:
        """How a picture is brought to its ``first_size``."""

    def opening(
        self,
        question: str,
        mode: Mode,
        history: Sequence[tuple[str, str]] = (),
        system: str | None = None,
        pictures: int = 1,
    ) -> list[Message]:
        """The first messages: the questions and answers of ``history``, and then the question.

        ``system`` takes the place of the way's own system message. ``pictures`` are shown with the
        first question, ``most_pictures`` at most. Raises PromptError for a text that cannot be put.
        """

    def check_prefix(self, prefix: str) -> None:
        """Raise PromptError for text that the assistant's turn must not begin with."""

    def hint(self, mode: Mode) -> str | None:
        """What an application should know that asks in ``mode``."""

    def forced(self, previous: int) -> int | None:
        """The id that follows ``previous`` whatever was sampled."""

    def read(self, text: str, views: Sequence[View], left: int) -> Decision:
        """What a turn's text asks for: ``turn_prefix``, thoughts and all.

        ``views``: what was shown so far. ``left``: how many rounds remain once this one is taken:
        none behind the last, and below 0 where it is not taken.
        """

    def follow_up(
        self, text: str, decision: Decision, views: Sequence[View], left: int
    ) -> list[Message]:
        """The assistant's turn, and what hands back the looks for which it asks, or the reply.

        ``views`` and ``left`` as in ``read``. Where ``keeps_ids``, the ids take the place of the
        first message's text.
        """

    def example_look(self, view: View) -> str:
        """What the assistant might say to look at the middle of the picture that is shown as
        ``view``; empty where this checkpoint cannot look.
        """

    def answer(self, text: str) -> str:
        """``text`` as a person wants to read it: neither calls nor thoughts."""

    def thoughts_of(self, text: str) -> str | None:
        """What the model thinks in ``text``; None where it does not think."""


def open_perception(manifest: Manifest) -> Perception:
    """The way that ``manifest`` names. Raises BundleError for one that this version lacks."""
    name = manifest.perception.get("name")
    if not isinstance(name, str) or name not in WAYS:
        known = ", ".join(WAYS)
        raise BundleError(f"perception {name!r} is unknown, expected one of: {known}", EXPORT_AGAIN)
    module, way = WAYS[name]
    constructor: Any = getattr(importlib.import_module(module), way)
    return cast("Perception", constructor(manifest))
