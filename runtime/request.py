"""One request on its way: the conversation about pictures, turn by turn (PROTOCOL 3)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from vpt_edge.runtime.errors import ImageError, PromptError
from vpt_edge.runtime.options import LOOKS_A_TURN
from vpt_edge.runtime.perception.actions import Decision, Reencode
from vpt_edge.runtime.result import Answer, Looked, Refused, Turn, Usage
from vpt_edge.runtime.stopwatch import Stopwatch
from vpt_edge.runtime.turn_text import TurnText

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from vpt_edge.runtime.album import Album
    from vpt_edge.runtime.chat import Chat, Message
    from vpt_edge.runtime.context import Context, Encoded
    from vpt_edge.runtime.decoder import Decoder
    from vpt_edge.runtime.options import Options
    from vpt_edge.runtime.perception import Perception
    from vpt_edge.runtime.result import Event

    Floats = NDArray[np.float32]


class Request:
    """The messages so far, what was shown with them, and the turns that answered.

    Raises PromptError for a question or a prefix that cannot be put.
    """

    def __init__(
        self,
        album: Album,
        question: str,
        options: Options,
        perception: Perception,
        chat: Chat,
    ) -> None:
        perception.check_prefix(options.assistant_prefix)
        messages = perception.opening(
            question, options.perception, options.history, options.system, album.count
        )
        self.messages = album.place(messages)
        self.question = question
        self.options = options
        self.rounds = options.rounds(perception.most_looks)
        self.turns: list[Turn] = []
        self.looks: list[Looked] = []
        self.stopwatch = Stopwatch()
        self._album = album
        self._perception = perception
        self._chat = chat
        self._text = self.begin_text()  # of the last turn
        self._said_ids: tuple[int, ...] = ()  # the last turn's, from its beginning on

    @property
    def prefix_ids(self) -> list[int]:
        """What the next turn begins with: that of every turn, and of the first what was asked."""
        prefix = self._perception.turn_prefix
        if not self.turns:
            prefix += self.options.assistant_prefix
        return self._chat.encode(prefix)

    def outline(self) -> Context:
        """The first turn's context as it will be, with visual tokens that are not computed yet."""
        return self._lay_out(self.messages, self._album.outline())

    def begin(self) -> None:
        """Show the pictures, encoded unless an earlier question has done that."""
        self.stopwatch.begin()
        self._album.begin(self.stopwatch)

    def context(self) -> Context:
        """What the next turn is generated from; it ends with ``prefix_ids``."""
        return self._lay_out(self.messages, self._album.encoded)

    def _lay_out(self, messages: Sequence[Message], shown: Sequence[Encoded]) -> Context:
        """Raises PromptError where what stands for pictures is not what is ``shown``."""
        context = self._chat.context(messages, shown)
        context.ids += self.prefix_ids
        pads = {self._chat.encode(pad)[0] for pad in self._perception.pads.values()}
        places = sum(token in pads for token in context.ids)
        expected = sum(encoded.tokens for encoded in shown)
        if places != expected:
            raise PromptError(
                f"the prompt has {places} places for {expected} visual tokens",
                "remove what stands for a picture",
            )
        return context

    def begin_text(self) -> TurnText:
        """What the text of the next turn goes through."""
        pieces = self._chat.stream(self._perception.hidden_ids)
        self._text = TurnText(pieces, self._perception, self.options.stop)
        return self._text

    def add_turn(
        self,
        prompt_ids: tuple[int, ...],
        generated_ids: Sequence[int],
        logits: Sequence[Floats],
        has_end: bool,
    ) -> None:
        """Keep a turn that was generated.

        ``logits``: those of each token, or none. ``has_end``: whether the last id is an end token.
        """
        ids = [*self.prefix_ids, *generated_ids]
        text = self._chat.decode(ids)
        self._said_ids = tuple(ids[:-1] if has_end else ids)
        turn = Turn(
            prompt_ids=prompt_ids,
            generated_ids=tuple(generated_ids),
            text=text,
            logits=np.stack(logits) if logits else None,
        )
        self.turns.append(turn)

    def decide(self, complete: bool, capacity: int) -> Decision:
        """What follows the last turn, which came to its end by itself if it is ``complete``.

        Looks, a reply to a bad call, or neither and the reason why the request ends here. What
        follows is counted before any look is taken: a cache of ``capacity`` tokens must hold it.
        """
        asked = Decision(())
        if self.rounds:
            asked = self._perception.read(self.turns[-1].text, self._album.views, self._left)
        if not asked.goes_on and asked.reason != "answer":
            return asked
        if self._left >= 0 and (asked.actions or (asked.goes_on and complete)):
            return self._within_limits(asked, capacity)
        if not complete:
            return Decision((), "length")
        if asked.goes_on:
            return Decision((), "look_limit")
        return Decision((), "stop")

    def _within_limits(self, asked: Decision, capacity: int) -> Decision:
        """``asked``, or no look and the reason."""
        if len(asked.actions) > LOOKS_A_TURN:
            return Decision((), "look_limit")
        messages = [*self.messages, *self._follow_up(asked)]
        try:
            added = [self._album.outline_look(action) for action in asked.actions]
            context = self._lay_out(messages, [*self._album.encoded, *added])
        except (ImageError, PromptError):  # a crop too thin to be shown, or a picture spelled out
            return Decision((), "malformed_region")
        if len(context.ids) > capacity:
            return Decision((), "length")
        return asked

    @property
    def _left(self) -> int:
        """Rounds that remain once the one of the last turn is taken."""
        return self.rounds - len(self.turns)

    def _follow_up(self, decision: Decision) -> list[Message]:
        text = self.turns[-1].text
        views = self._album.views
        said, *rest = self._perception.follow_up(text, decision, views, self._left)
        if self._perception.keeps_ids:
            said = replace(said, ids=self._said_ids)
        return [said, *rest]

    def go_on(self, decision: Decision) -> Iterator[Event]:
        """Do what the last turn asks for, or refuse it, and say so in the messages."""
        self.messages += self._follow_up(decision)
        if not decision.actions and decision.reply is not None:
            yield Refused(decision.reply)
        for action in decision.actions:
            looked = self._album.look(action, self.stopwatch)
            self.looks.append(looked)
            yield looked

    def answer(self, finish_reason: str, decoder: Decoder) -> Answer:
        turn = self.turns[-1]
        text = turn.text if self._text.shown is None else self._text.shown
        image, *others = (picture.copy() for picture in self._album.pictures)
        return Answer(
            text=self._perception.answer(text),
            raw=turn.text,
            turns=tuple(self.turns),
            looks=tuple(self.looks),
            finish_reason=finish_reason,
            usage=self._usage(decoder),
            question=self.question,
            image=image,  # what is drawn into it is in no later crop
            stop_sequence=self._text.stop.sequence,
            thoughts=self._thoughts(),
            others=tuple(others),
        )

    def _thoughts(self) -> str | None:
        thoughts = []
        for turn in self.turns:
            thought = self._perception.thoughts_of(turn.text)
            if thought:
                thoughts.append(thought)
        return "\n\n".join(thoughts) or None

    def _usage(self, decoder: Decoder) -> Usage:
        seconds = self.stopwatch.seconds
        reencodes = [look for look in self.looks if isinstance(look.action, Reencode)]
        return Usage(
            prompt_tokens=len(self.turns[-1].prompt_ids),
            generated_tokens=sum(len(turn.generated_ids) for turn in self.turns),
            computed_tokens=decoder.computed_tokens,
            reused_tokens=decoder.reused_tokens,
            draft_tokens=decoder.draft_tokens,
            accepted_tokens=decoder.accepted_tokens,
            vision_runs=self.stopwatch.runs["vision"],
            reencoder_runs=len(reencodes),
            seconds={**seconds, "total": sum(seconds.values())},
            first_token_seconds=tuple(self.stopwatch.first_token_seconds),
            dropped_tokens=self._album.dropped_tokens,
        )
