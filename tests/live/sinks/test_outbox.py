"""What waits stays within its bounds."""

from __future__ import annotations

import threading

from vpt_edge.live.sinks.broker import Message
from vpt_edge.live.sinks.outbox import Outbox


def messages(size: int) -> tuple[Message, ...]:
    return (Message("a", b"x" * size), Message("b", b""))


def drain(outbox: Outbox) -> list[int]:
    numbers = list[int]()
    while (parcel := outbox.head(lambda: not len(outbox))) is not None:
        numbers.append(parcel.number)
        assert outbox.remove(parcel)
    return numbers


def test_by_count() -> None:
    outbox = Outbox(3, 100)
    assert [outbox.append(messages(1)) for _ in range(5)] == [0, 0, 0, 1, 1]
    assert drain(outbox) == [2, 3, 4]


def test_by_bytes() -> None:
    outbox = Outbox(10, 100)
    assert outbox.append(messages(40)) == 0
    assert outbox.append(messages(60)) == 0
    assert outbox.append(messages(61)) == 2
    assert outbox.append(messages(101)) == 2  # itself, too
    assert outbox.append(messages(100)) == 0
    assert drain(outbox) == [4]


def test_one_that_was_dropped_on_its_way_takes_no_other_along() -> None:
    outbox = Outbox(1, 100)
    outbox.append(messages(1))
    parcel = outbox.head(lambda: False)
    assert parcel is not None
    outbox.append(messages(1))
    assert not outbox.remove(parcel)
    assert drain(outbox) == [1]


def test_the_end_wakes_who_waits() -> None:
    outbox = Outbox(1, 100)
    threading.Timer(0.02, outbox.close).start()
    assert outbox.head(lambda: False) is None
    outbox.pause(1000)
    outbox.append(messages(1))
    assert outbox.head(lambda: False) is not None  # what is left is delivered
    assert outbox.clear() == 1
