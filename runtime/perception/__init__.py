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
    from vpt_edge.runtime.manifest import Manifest
    from vpt_edge.runtime.perception.actions import Decision, Mode

WAYS = {"vpt": ("vpt_edge.runtime.perception.vpt", "Vpt")}


class Perception(Protocol):
    """A way of looking again, for the checkpoint of one bundle."""

    @property
    def can_look(self) -> bool:
        """Whether this checkpoint ever asks for a look: an alignment checkpoint does not."""

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

    def opening(
        self,
        question: str,
        mode: Mode,
        history: Sequence[tuple[str, str]] = (),
        system: str | None = None,
    ) -> list[Message]:
        """The first messages: the questions and answers of ``history``, and then the question.

        ``system`` takes the place of the way's own system message. Raises PromptError for a text
        that cannot be put.
        """

    def check_prefix(self, prefix: str) -> None:
        """Raise PromptError for text that the assistant's turn must not begin with."""

    def hint(self, mode: Mode) -> str | None:
        """What an application should know that asks in ``mode``."""

    def forced(self, previous: int) -> int | None:
        """The id that follows ``previous`` whatever was sampled."""

    def read(self, text: str, size: tuple[int, int]) -> Decision:
        """What a turn's text asks for, about a picture of ``size`` (width, height)."""

    def follow_up(self, text: str, decision: Decision) -> list[Message]:
        """The messages that hand back the look which ``text`` asked for."""

    def answer(self, text: str) -> str:
        """``text`` as a person wants to read it."""


def open_perception(manifest: Manifest) -> Perception:
    """The way that ``manifest`` names. Raises BundleError for one that this version lacks."""
    name = manifest.perception.get("name")
    if not isinstance(name, str) or name not in WAYS:
        known = ", ".join(WAYS)
        raise BundleError(f"perception {name!r} is unknown, expected one of: {known}", EXPORT_AGAIN)
    module, way = WAYS[name]
    constructor: Any = getattr(importlib.import_module(module), way)
    return cast("Perception", constructor(manifest))
