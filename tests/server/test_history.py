from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image
from scripted import PICTURE, REGION
from serving import Served

from vpt_edge.server.history import History

Serve = Callable[..., Served]
JPEG = b"of a picture"


def stored(served: Served, **fields: Any) -> str:
    """The id of an answer that is kept."""
    return str(served.ask(store=True, **fields).json()["vpt"]["id"])


def test_an_answer_is_kept_where_the_client_wants_it(serve: Serve) -> None:
    served = serve(f"I look: {REGION}", "A dog.")
    reply = served.ask(store=True, perception="region").json()
    answer = served.client.get(f"/answers/{reply['vpt']['id']}").json()
    assert (answer["question"], answer["text"]) == ("What?", "A dog.")
    assert answer["perception"] == "region"
    assert answer["history"] == []
    assert answer["usage"] == reply["usage"]
    assert answer["vpt"]["looks"] == reply["vpt"]["looks"]


def test_a_streamed_answer_is_kept_too(serve: Serve) -> None:
    served = serve("A dog.")
    text = served.ask(store=True, stream=True).text
    (number,) = re.findall(r'"id": "([\w-]{22})"', text)
    assert served.client.get(f"/answers/{number}").json()["text"] == "A dog."


@pytest.mark.parametrize("fields", [{}, {"store": False}])
def test_nothing_is_kept_unasked(serve: Serve, fields: dict[str, Any]) -> None:
    served = serve("A dog.")
    assert "id" not in served.ask(**fields).json()["vpt"]
    assert len(served.listener.service.history) == 0


def test_the_picture_comes_back_as_a_jpeg_of_our_own(serve: Serve) -> None:
    served = serve("A dog.")
    reply = served.client.get(f"/answers/{stored(served)}/picture")
    assert reply.headers["content-type"] == "image/jpeg"
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in reply.headers["content-security-policy"]
    picture = Image.open(io.BytesIO(reply.content))
    assert (picture.format, picture.size) == ("JPEG", PICTURE.size)


@pytest.mark.parametrize(
    "path", ["nothing", "..%2f..%2fetc%2fpasswd", "nothing/picture", "%00", "a" * 4000]
)
def test_an_id_that_is_none_is_not_found(serve: Serve, path: str) -> None:
    reply = serve().client.get(f"/answers/{path}")
    assert reply.status_code == 404
    assert reply.json()["error"]["message"]


def test_ids_are_long_and_differ(serve: Serve) -> None:
    served = serve("One.", "Two.")
    ids = {stored(served, text="What is it?"), stored(served, text="Where?")}
    assert len(ids) == 2
    assert all(len(number) >= 22 for number in ids)


def test_the_oldest_answers_go() -> None:
    history = History(count=2)
    ids = [history.keep({"text": str(index)}, JPEG) for index in range(3)]
    assert [history.get(number) is not None for number in ids] == [False, True, True]


def test_pictures_have_a_bound_in_bytes() -> None:
    history = History(size=2 * len(JPEG))
    for index in range(5):
        history.keep({"text": str(index)}, JPEG)
    assert len(history) == 2


def test_a_picture_that_is_larger_than_the_bound_is_not_kept() -> None:
    history = History(size=10)
    assert history.get(history.keep({}, JPEG)) is None
