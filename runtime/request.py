"""One request on its way: the conversation about a picture, turn by turn (PROTOCOL 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vpt_edge.runtime.perception.actions import Crop
from vpt_edge.runtime.result import Answer, Looked, Usage
from vpt_edge.runtime.stopwatch import Stopwatch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vpt_edge.runtime.chat import Chat
    from vpt_edge.runtime.context import Context, Encoded
    from vpt_edge.runtime.decoder import Decoder
    from vpt_edge.runtime.options import Options
    from vpt_edge.runtime.perception import Perception
    from vpt_edge.runtime.perception.actions import Decision, PerceptionAction
    from vpt_edge.runtime.result import Turn
    from vpt_edge.runtime.vision import PictureFeatures


class Request:
    """The messages so far, what was shown with them, and the turns that answered.

    Raises PromptError for a question or a prefix that cannot be put.
    """

    def __init__(
        self, picture: PictureFeatures, question: str, options: Options, perception: Perception
    ) -> None:
        perception.check_prefix(options.assistant_prefix)
        self.messages = perception.opening(question, options.perception)
        self.question = question
        self.options = options
        self.prefix_ids: list[int] = []
        self.turns: list[Turn] = []
        self.looks: list[Looked] = []
        self.stopwatch = Stopwatch()
        self._picture = picture
        self._perception = perception
        self._shown: list[Encoded] = []

    def begin(self) -> None:
        """Show the picture, encoded unless an earlier question has done that."""
        self.stopwatch.begin()
        self._shown.append(self._picture.encode(self.stopwatch))

    def context(self, chat: Chat) -> Context:
        """What the next turn is generated from; the first one begins with ``prefix_ids``."""
        self.prefix_ids = []
        if not self.turns:
            self.prefix_ids = chat.encode(self.options.assistant_prefix)
        context = chat.context(self.messages, self._shown)
        context.ids += self.prefix_ids
        return context

    def decide(self) -> Decision:
        """What the last turn asks for."""
        return self._perception.read(self.turns[-1].text, self._picture.picture.size)

    def may_look(self) -> bool:
        """Whether a look is left."""
        return len(self.turns) <= self.options.looks

    def look(self, decision: Decision) -> Iterator[Looked]:
        """Do what the last turn asks for, and hand it back in the messages."""
        self.messages += self._perception.follow_up(self.turns[-1].text, decision)
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

    def finish_reason(self, decision: Decision, complete: bool) -> str:
        """Why the request ends with its last turn, which came to an end token or not."""
        if decision.reason != "answer" and self.options.looks:
            return decision.reason
        if not complete:
            return "length"
        if decision.actions and self.options.looks:
            return "look_limit"
        return "stop"

    def answer(self, finish_reason: str, decoder: Decoder) -> Answer:
        turn = self.turns[-1]
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
            text=self._perception.answer(turn.text),
            raw=turn.text,
            turns=tuple(self.turns),
            looks=tuple(self.looks),
            finish_reason=finish_reason,
            usage=usage,
            question=self.question,
            image=self._picture.picture.copy(),  # what is drawn into it is in no later crop
        )
