from __future__ import annotations

import contextlib
import threading
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vpt_edge.server.fair_queue import FairQueue, QueueClosedError, QueueFullError

CLIENTS = "abcd"
PUT = st.tuples(st.just("put"), st.sampled_from("aaabbcd"))  # one is busier than another
TAKE = st.tuples(st.just("take"), st.none())
REMOVE = st.tuples(st.just("remove"), st.integers(0, 30))
STEPS = st.lists(st.one_of(PUT, PUT, PUT, TAKE, TAKE, REMOVE), min_size=12, max_size=60)
Item = tuple[str, int]  # a client and a number that grows


class Waiting:
    """What must be in a queue: the items of each client in their order."""

    def __init__(self) -> None:
        self.items = list[Item]()
        self.served_since = dict[Item, list[str]]()

    def lengths(self) -> Counter[str]:
        return Counter(client for client, _ in self.items)

    def add(self, item: Item) -> None:
        self.items.append(item)
        self.served_since[item] = []

    def drop(self, item: Item) -> None:
        self.items.remove(item)

    def serve(self, item: Item) -> None:
        """It must be its client's oldest, and no other client may have been served twice before
        it was this one's turn.
        """
        client, _ = item
        assert item == next(each for each in self.items if each[0] == client)
        self.items.remove(item)
        for waiting in {each[0]: each for each in reversed(self.items)}.values():
            self.served_since[waiting].append(client)
            times = Counter(self.served_since[waiting])
            assert times[client] <= 1 or client == waiting[0], (waiting, self.served_since[waiting])


def put(queue: FairQueue[Item], waiting: Waiting, item: Item) -> None:
    client, _ = item
    lengths = waiting.lengths()
    is_full = len(waiting.items) == queue.size
    longest = max((count for other, count in lengths.items() if other != client), default=0)
    try:
        displaced = queue.put(client, item)
    except QueueFullError:
        assert is_full and longest <= lengths[client] + 1
        return
    assert (displaced is not None) == is_full
    if displaced is not None:
        assert lengths[displaced[0]] == longest > lengths[client] + 1
        assert displaced == [each for each in waiting.items if each[0] == displaced[0]][-1]
        waiting.drop(displaced)
    waiting.add(item)


@given(STEPS, st.integers(1, 8))
def test_it_is_bounded_fair_and_loses_nothing(steps: list[tuple[str, Any]], size: int) -> None:
    queue = FairQueue[Item](size)
    waiting = Waiting()
    for number, (what, argument) in enumerate(steps):
        if what == "put":
            put(queue, waiting, (argument, number))
        elif what == "take" and waiting.items:
            item = queue.take()
            assert item is not None
            waiting.serve(item)
        elif what == "remove":
            item = next((each for each in waiting.items if each[1] == argument), ("a", argument))
            assert queue.remove(item) == (item in waiting.items)
            if item in waiting.items:
                waiting.drop(item)
        assert len(queue) == len(waiting.items) <= size
    assert sorted(queue.close()) == sorted(waiting.items)
    assert len(queue) == 0


def test_the_newest_of_the_longest_line_makes_room() -> None:
    queue = FairQueue[str](4)
    for item in ("a1", "a2", "a3", "b1"):
        assert queue.put(item[0], item) is None
    assert queue.put("c", "c1") == "a3"
    with pytest.raises(QueueFullError):  # it has as many as the longest would keep
        queue.put("b", "b2")
    with pytest.raises(QueueFullError):
        queue.put("a", "a4")
    assert [queue.take() for _ in range(4)] == ["a1", "b1", "c1", "a2"]


def test_who_waits_for_one_gets_it_or_the_end() -> None:
    queue = FairQueue[int](4)
    taken = list[int | None]()
    readers = [threading.Thread(target=lambda: taken.append(queue.take())) for _ in range(2)]
    for reader in readers:
        reader.start()
    queue.put("a", 7)
    while not taken:
        pass
    queue.close()
    for reader in readers:
        reader.join(10)
    assert taken == [7, None]
    with pytest.raises(QueueClosedError):
        queue.put("a", 8)


class Crowd:
    """Clients that let 300 items wait each, and what has become of them."""

    def __init__(self) -> None:
        self.queue = FairQueue[Item](8)
        self.sent = list[Item]()  # appended to in one operation, by whichever thread
        self.gone = list[Item]()

    def produce(self, client: str) -> None:
        for number in range(300):
            item = (client, number)
            with contextlib.suppress(QueueFullError):
                displaced = self.queue.put(client, item)
                self.sent.append(item)
                if displaced is not None:
                    self.gone.append(displaced)
                if number % 7 == 0 and self.queue.remove(item):
                    self.gone.append(item)

    def consume(self) -> None:
        while (item := self.queue.take()) is not None:
            self.gone.append(item)


def test_nothing_is_lost_among_threads() -> None:
    crowd = Crowd()
    consumer = threading.Thread(target=crowd.consume)
    producers = [threading.Thread(target=crowd.produce, args=(client,)) for client in CLIENTS]
    for thread in (consumer, *producers):
        thread.start()
    for thread in producers:
        thread.join(30)
    crowd.gone += crowd.queue.close()
    consumer.join(30)
    assert sorted(crowd.gone) == sorted(crowd.sent)
