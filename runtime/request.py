"""One request on its way: the conversation about a picture, turn by turn (PROTOCOL 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vpt_edge.runtime.errors import ImageError, PromptError
from vpt_edge.runtime.options import LOOKS_A_TURN
from vpt_edge.runtime.perception.actions import Crop, Decision
from vpt_edge.runtime.result import Answer, Looked, Turn, Usage
from vpt_edge.runtime.stop import StopText
from vpt_edge.runtime.stopwatch import Stopwatch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from vpt_edge.runtime.chat import Chat, Message
    from vpt_edge.runtime.context import Context, Encoded
    from vpt_edge.runtime.decoder import Decoder
    from vpt_edge.runtime.options import Options
    from vpt_edge.runtime.perception import Perception
    from vpt_edge.runtime.perception.actions import PerceptionAction
    from vpt_edge.runtime.perception.views import View
    from vpt_edge.runtime.vision import PictureFeatures

    Floats = NDArray[np.float32]


class Request:
    """The messages so far, what was shown with them, and the turns that answered.

    Raises PromptError for a question or a prefix that cannot be put.
    """

    def __init__(
        self,
        picture: PictureFeatures,
        question: str,
        options: Options,
        perception: Perception,
        chat: Chat,
    ) -> None:
        perception.check_prefix(options.assistant_prefix)
        self.messages = perception.opening(
            question, options.perception, options.history, options.system
        )
        self.question = question
        self.options = options
        self.turns: list[Turn] = []
        self.looks: list[Looked] = []
        self.views: list[View] = []
        self.stopwatch = Stopwatch()
        self._stop = StopText(())  # of the last turn
        self._picture = picture
        self._perception = perception
        self._chat = chat
        self._shown: list[Encoded] = []

    @property
    def prefix_ids(self) -> list[int]:
        """What the next turn begins with: only the first one may have something."""
        if self.turns:
            return []
        return self._chat.encode(self.options.assistant_prefix)

    def outline(self) -> Context:
        """The first turn's context as it will be, with visual tokens that are not computed yet."""
        return self._lay_out(self.messages, [self._picture.outline()])

    def begin(self) -> None:
        """Show the picture, encoded unless an earlier question has done that."""
        self.stopwatch.begin()
        self._shown.append(self._picture.encode(self.stopwatch))
        self.views.append(self._picture.view())

    def context(self) -> Context:
        """What the next turn is generated from; the first one begins with ``prefix_ids``."""
        return self._lay_out(self.messages, self._shown)

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

    def add_turn(
        self,
        prompt_ids: tuple[int, ...],
        generated_ids: Sequence[int],
        logits: Sequence[Floats],
        stop: StopText,
    ) -> None:
        """Keep a turn that was generated, and ``stop``, through which its text went.

        ``logits``: those of each token, or none.
        """
        text = self._chat.decode([*self.prefix_ids, *generated_ids])
        turn = Turn(
            prompt_ids=prompt_ids,
            generated_ids=tuple(generated_ids),
            text=text,
            logits=np.stack(logits) if logits else None,
        )
        self.turns.append(turn)
        self._stop = stop

    def decide(self, complete: bool, capacity: int) -> Decision:
        """What follows the last turn, which came to its end by itself if it is ``complete``.

        Looks, or none and the reason why the request ends here. What the looks will add is counted
        before any of them is taken: a cache of ``capacity`` tokens must hold it.
        """
        asked = Decision(())
        if self.options.looks:
            asked = self._perception.read(self.turns[-1].text, self.views, self._left)
        if asked.reason != "answer":
            return asked
        if asked.actions and len(self.turns) <= self.options.looks:
            return self._within_limits(asked, capacity)
        if not complete:
            return Decision((), "length")
        if asked.actions:
            return Decision((), "look_limit")
        return Decision((), "stop")

    def _within_limits(self, asked: Decision, capacity: int) -> Decision:
        """``asked``, or no look and the reason."""
        if len(asked.actions) > LOOKS_A_TURN:
            return Decision((), "look_limit")
        messages = [*self.messages, *self._follow_up(asked)]
        try:
            added = [self._picture.outline_look(action) for action in asked.actions]
            context = self._lay_out(messages, [*self._shown, *added])
        except (ImageError, PromptError):  # a crop too thin to be shown, or a picture spelled out
            return Decision((), "malformed_region")
        if len(context.ids) > capacity:
            return Decision((), "length")
        return asked

    @property
    def _left(self) -> int:
        """Rounds that remain once the one of the last turn is taken."""
        return self.options.looks - len(self.turns)

    def _follow_up(self, decision: Decision) -> list[Message]:
        return self._perception.follow_up(self.turns[-1].text, decision, self.views, self._left)

    def look(self, decision: Decision) -> Iterator[Looked]:
        """Do what the last turn asks for, and hand it back in the messages."""
        self.messages += self._follow_up(decision)
        for action in decision.actions:
            looked = self._look(action)
            self.looks.append(looked)
            yield looked

    def _look(self, action: PerceptionAction) -> Looked:
        if isinstance(action, Crop):
            crop, encoded = self._picture.crop(action.box, self.stopwatch)
        else:
            crop = None
            encoded = self._picture.reencode(self._shown[0], self.stopwatch)
        self._shown.append(encoded)
        return Looked(action, encoded.tokens, crop)

    def answer(self, finish_reason: str, decoder: Decoder) -> Answer:
        turn = self.turns[-1]
        text = turn.text
        if self._stop.sequence is not None:
            text = self._stop.shown
        seconds = self.stopwatch.seconds
        reencodes = [look for look in self.looks if not isinstance(look.action, Crop)]
        usage = Usage(
            prompt_tokens=len(turn.prompt_ids),
            generated_tokens=sum(len(turn.generated_ids) for turn in self.turns),
            computed_tokens=decoder.computed_tokens,
            reused_tokens=decoder.reused_tokens,
            vision_runs=self.stopwatch.runs["vision"],
            reencoder_runs=len(reencodes),
            seconds={**seconds, "total": sum(seconds.values())},
            first_token_seconds=tuple(self.stopwatch.first_token_seconds),
        )
        return Answer(
            text=self._perception.answer(text),
            raw=turn.text,
            turns=tuple(self.turns),
            looks=tuple(self.looks),
            finish_reason=finish_reason,
            usage=usage,
            question=self.question,
            image=self._picture.picture.copy(),  # what is drawn into it is in no later crop
            stop_sequence=self._stop.sequence,
        )
