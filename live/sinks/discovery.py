"""How Home Assistant learns of a question: as an entity of a device, a topic of its own each.

https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import re
from typing import TYPE_CHECKING, NamedTuple

from vpt_edge.live.sinks.broker import Message
from vpt_edge.runtime.errors import printable

if TYPE_CHECKING:
    from vpt_edge.live.sinks.broker import Broker

LONGEST_STATE = 255  # characters that Home Assistant takes
UNKNOWN = "None"  # what it takes for no state
DIGITS = 16  # of an id
OPENING = re.compile(
    r"(is|are|am|was|were|do|does|did|has|have|had|can|could|will|would|shall|should|may|might|must)"
    r"(n['\u2019]t|not)?\b",
    re.IGNORECASE,
)
CHOICE = re.compile(r"\bor\b", re.IGNORECASE)
WORD = re.compile(r"\W*(\w+)")
STATES = {"yes": "ON", "no": "OFF"}


def is_yes_no(question: str) -> bool:
    """Whether ``question`` asks for yes or no: "Is the gate open?", not "Is it red or blue?"."""
    return OPENING.match(question.strip()) is not None and CHOICE.search(question) is None


class Entity(NamedTuple):
    """A question about a source, as Home Assistant shows it."""

    source: str
    question: str
    id: str
    topic: str

    def announce(self, broker: Broker, with_source: bool) -> Message:
        """What makes it known, under the ``broker``'s prefix of discovery."""
        name = self.question
        if with_source:
            name = f"{self.question} ({self.source})"
        version = importlib.metadata.version("vpt-edge")
        device = {
            "identifiers": [f"vpt_{_digest(broker.topic)}"],
            "name": broker.topic,
            "manufacturer": "vpt-edge",
            "model": "vpt-watch",
            "sw_version": version,
        }
        config = {
            "name": name,
            "unique_id": self.id,
            "state_topic": self.topic,
            "availability_topic": broker.status,
            "device": device,
            "origin": {"name": "vpt-edge", "sw_version": version},
        }
        component = "binary_sensor" if is_yes_no(self.question) else "sensor"
        topic = f"{broker.discovery}/{component}/{self.id}/config"
        return Message(topic, printable(json.dumps(config, ensure_ascii=False)).encode(), True)

    def report(self, answer: str) -> Message:
        """Its new state."""
        text = " ".join(printable(answer).split())
        state = text[:LONGEST_STATE] or UNKNOWN
        if is_yes_no(self.question):
            word = WORD.match(text.casefold())
            state = STATES.get(word[1], UNKNOWN) if word else UNKNOWN
        return Message(self.topic, state.encode(), True)


def make_entity(broker: Broker, source: str, question: str) -> Entity:
    """The same id whenever topic, source and question are the same."""
    number = f"vpt_{_digest(broker.topic, source, question)}"
    return Entity(source, question, number, f"{broker.topic}/state/{number}")


def _digest(*parts: str) -> str:
    text = json.dumps(parts)  # of any characters, and told apart
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]
