"""What Home Assistant is told."""

from __future__ import annotations

import dataclasses
import json

import pytest
from answers import seen

from vpt_edge.live.seen import StateChange
from vpt_edge.live.sinks.broker import Broker
from vpt_edge.live.sinks.discovery import HomeAssistant, is_yes_no, make_entity

BROKER = Broker("h", 1883, "door", user="me", password="s3cret")


@pytest.mark.parametrize(
    "question",
    ["Is the gate open?", " are there people?", "DOES it rain", "Isn't it?", "Cannot it move?"],
)
def test_a_question_for_yes_or_no(question: str) -> None:
    assert is_yes_no(question)


@pytest.mark.parametrize(
    "question",
    [
        "What is it?",
        "Is it red or blue?",
        "Island?",
        "Read the sign.",
        "",
        "Isolated?",
        "Have-not?",
    ],
)
def test_a_question_for_a_text(question: str) -> None:
    assert is_yes_no(question) == (question == "Have-not?")


def test_questions_are_announced_as_what_they_ask() -> None:
    home = HomeAssistant(BROKER, ["rtsp://cam/1"], ["Is the gate open?", "What does it say?"])
    gate, sign = home.greet()
    config = json.loads(gate.payload)
    number = config["unique_id"]
    assert gate.topic == f"homeassistant/binary_sensor/{number}/config"
    assert gate.retain
    assert config["name"] == "Is the gate open?"
    assert config["state_topic"] == f"door/state/{number}"
    other = json.loads(sign.payload)
    assert sign.topic == f"homeassistant/sensor/{other['unique_id']}/config"
    assert other["device"] == config["device"]
    assert b"s3cret" not in gate.payload + sign.payload


def test_several_sources_are_told_apart() -> None:
    home = HomeAssistant(BROKER, ["a", "b"], ["Is it?"])
    names = [json.loads(message.payload)["name"] for message in home.greet()]
    assert names == ["Is it? (a)", "Is it? (b)"]


def test_an_entity_is_available_while_its_source_is_live() -> None:
    home = HomeAssistant(BROKER, ["a"], ["Is it?"])
    (message,) = home.greet()
    status, source = json.loads(message.payload)["availability"]
    assert status == {"topic": "door/status"}
    assert source["value_template"] == "{{ 'online' if value == 'live' else 'offline' }}"
    (lost,) = home.tell(StateChange("a", "lost", 0.0))
    assert lost == (source["topic"], b"lost", True)
    assert home.greet() == [message, lost]


def test_what_nobody_announced_is_announced_with_its_answer() -> None:
    home = HomeAssistant(BROKER, [], [])
    assert home.greet() == []
    announcement, state, answer = home.tell(seen(0, "yes", "Is it?"))
    assert json.loads(announcement.payload)["availability"][1]["topic"] == state.topic
    assert state.payload == b"live"
    assert answer.payload == b"ON"
    assert home.tell(seen(1, "no", "Is it?")) == [(answer.topic, b"OFF", True)]
    assert home.greet() == [announcement, state]


def test_an_id_stays_and_is_nobody_elses() -> None:
    ids = set[str]()
    for topic in ("door", "gate"):
        for source in ("a", "b"):
            for question in ("Is it?", "What?"):
                ids.add(make_entity(Broker("h", 1883, topic), source, question).id)
    assert len(ids) == 8
    moved = Broker("other", 8883, "door", tls=True, user="new")
    assert make_entity(moved, "a", "Is it?").id in ids
    assert make_entity(BROKER, "a", "Is it?").id == "vpt_3b44955ee68a2444"


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        ("yes", "ON"),
        ("Yes, it is.", "ON"),
        (" «No.»", "OFF"),
        ("nothing", "None"),
        ("the gate", "None"),
        ("", "None"),
        ("...", "None"),
    ],
)
def test_the_state_of_a_yes_or_no(answer: str, state: str) -> None:
    entity = make_entity(BROKER, "a", "Is it?")
    assert entity.report(answer) == (entity.topic, state.encode(), True)


@pytest.mark.parametrize(
    ("answer", "state"),
    [("A 12\n", "A 12"), ("", "None"), ("答" * 300, "答" * 255), ("\ud800\x1b", "\\ud800\\u001b")],
)
def test_the_state_of_a_text(answer: str, state: str) -> None:
    assert make_entity(BROKER, "a", "What?").report(answer).payload == state.encode()


def test_what_was_asked_once_is_not_an_entity() -> None:
    home = HomeAssistant(BROKER, ["test"], ["Is it?"])
    assert home.tell(dataclasses.replace(seen(0, "yes", "Who?"), once=True)) == []
    assert len(home.greet()) == 1
