"""What Home Assistant is told."""

from __future__ import annotations

import json

import pytest

from vpt_edge.live.sinks.broker import Broker
from vpt_edge.live.sinks.discovery import is_yes_no, make_entity

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


def test_an_entity_is_announced_as_what_its_question_asks() -> None:
    gate = make_entity(BROKER, "rtsp://cam/1", "Is the gate open?")
    sign = make_entity(BROKER, "rtsp://cam/1", "What does the sign say?")
    message = gate.announce(BROKER, with_source=False)
    config = json.loads(message.payload)
    assert message.topic == f"homeassistant/binary_sensor/{gate.id}/config"
    assert message.retain
    assert config["name"] == "Is the gate open?"
    assert config["unique_id"] == gate.id
    assert config["state_topic"] == gate.topic == f"door/state/{gate.id}"
    assert config["availability_topic"] == "door/status"
    other = sign.announce(BROKER, with_source=True)
    assert other.topic == f"homeassistant/sensor/{sign.id}/config"
    assert json.loads(other.payload)["name"] == "What does the sign say? (rtsp://cam/1)"
    assert json.loads(other.payload)["device"] == config["device"]
    assert b"s3cret" not in message.payload + other.payload


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
