"""How Home Assistant learns of a question: as an entity of a device, a topic of its own each.

https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import re
from typing import TYPE_CHECKING, NamedTuple

from vpt_edge.live.seen import Seen, StateChange
from vpt_edge.live.sinks.broker import Message
from vpt_edge.runtime.errors import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vpt_edge.live.sinks.broker import Broker
    from vpt_edge.live.sinks.sink import Item
    from vpt_edge.live.source import State

LONGEST_STATE = 255  # characters that Home Assistant takes
UNKNOWN = "None"  # what it takes for no state
AVAILABILITY = "{{ 'online' if value == 'live' else 'offline' }}"
DIGITS = 16  # of an id
OPENING = re.compile(
    r"(is|are|am|was|were|do|does|did|has|have|had"
    r"|can|could|will|would|shall|should|may|might|must)"
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

    def report(self, answer: str) -> Message:
        """Its new state."""
        text = " ".join(printable(answer).split())
        state = text[:LONGEST_STATE] or UNKNOWN
        if is_yes_no(self.question):
            word = WORD.match(text.casefold())
            state = STATES.get(word[1], UNKNOWN) if word else UNKNOWN
        return Message(self.topic, state.encode(), True)


class HomeAssistant:
    """What it is told about ``questions`` and ``sources``: each question about each source is an
    entity, which is available while its source is live.
    """

    def __init__(self, broker: Broker, sources: Sequence[str], questions: Sequence[str]) -> None:
        self._broker = broker
        self._with_source = len(sources) > 1
        self._entities: dict[tuple[str, str], Entity] = {}
        self._states: dict[str, State] = {}  # of sources
        for source in sources:
            for question in questions:
                self._add(source, question)

    def greet(self) -> list[Message]:
        """Everything, for a broker that may have forgotten it."""
        messages = [self._announce(entity) for entity in list(self._entities.values())]
        for source in list(self._states):
            messages.append(self._report_state(source))
        return messages

    def tell(self, item: Item) -> list[Message]:
        """What is new with ``item``."""
        messages = []
        if isinstance(item, StateChange):
            self._states[item.source] = item.state
            messages.append(self._report_state(item.source))
        if isinstance(item, Seen) and not item.once:
            source = item.frame.source
            if (source, item.question) not in self._entities:
                messages.append(self._announce(self._add(source, item.question)))
            if source not in self._states:  # it must be: there is an answer
                self._states[source] = "live"
                messages.append(self._report_state(source))
            messages.append(self._entities[source, item.question].report(item.answer.text))
        return messages

    def _add(self, source: str, question: str) -> Entity:
        entity = make_entity(self._broker, source, question)
        self._entities[source, question] = entity
        return entity

    def _source_topic(self, source: str) -> str:
        return f"{self._broker.topic}/source/{_digest(source)}"

    def _report_state(self, source: str) -> Message:
        return Message(self._source_topic(source), self._states[source].encode(), True)

    def _announce(self, entity: Entity) -> Message:
        name = entity.question
        if self._with_source:
            name = f"{entity.question} ({entity.source})"
        version = importlib.metadata.version("vpt-edge")
        device = {
            "identifiers": [f"vpt_{_digest(self._broker.topic)}"],
            "name": self._broker.topic,
            "manufacturer": "vpt-edge",
            "model": "vpt-watch",
            "sw_version": version,
        }
        config = {
            "name": name,
            "unique_id": entity.id,
            "state_topic": entity.topic,
            "availability_mode": "all",
            "availability": [
                {"topic": self._broker.status},
                {"topic": self._source_topic(entity.source), "value_template": AVAILABILITY},
            ],
            "device": device,
            "origin": {"name": "vpt-edge", "sw_version": version},
        }
        component = "binary_sensor" if is_yes_no(entity.question) else "sensor"
        topic = f"{self._broker.discovery}/{component}/{entity.id}/config"
        return Message(topic, printable(json.dumps(config, ensure_ascii=False)).encode(), True)


def make_entity(broker: Broker, source: str, question: str) -> Entity:
    """The same id whenever topic, source and question are the same."""
    number = f"vpt_{_digest(broker.topic, source, question)}"
    return Entity(source, question, number, f"{broker.topic}/state/{number}")


def _digest(*parts: str) -> str:
    text = json.dumps(parts)  # of any characters, and told apart
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]
