"""A person asks, in a real browser."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from browsing import TIMES, Held, HeldScript, Visit, needs_chromium
from cable import Cable
from PIL import Image
from playwright.sync_api import expect
from scripted import CLIP, OTHER, REGION
from serving import Served

if TYPE_CHECKING:
    from playwright.sync_api import Locator

pytestmark = needs_chromium

Serve = Callable[..., Served]
Hold = Callable[..., Held]
Open = Callable[..., Visit]
BOX = (0, 8, 60, 32)  # that REGION names, of a picture of 96x64 pixels
FIRST = f"I look: {REGION}"


def picture() -> Image.Image:
    """Blue, with red where the model looks."""
    shown = Image.new("RGB", (96, 64), (20, 40, 200))
    shown.paste((210, 30, 30), BOX)
    return shown


def colours(canvas: Locator) -> set[tuple[int, int, int]]:
    read = "getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data"
    data = canvas.evaluate(f"canvas => [...canvas.{read}]")
    return set(zip(data[0::4], data[1::4], data[2::4], strict=True))


def test_box_and_crop_appear_before_the_answer_ends(hold: Hold, visit: Open) -> None:
    served = hold(HeldScript(FIRST, "A dog."))
    person = visit(served.url)
    person.upload(picture())
    exchange = person.ask("What is it?")
    box = person.page.locator(".mark.region .box")
    box.wait_for()
    frame = person.page.locator("#still .frame").bounding_box()
    place = box.bounding_box()
    assert frame is not None and place is not None
    across = frame["width"] / 96
    assert place["x"] - frame["x"] == pytest.approx(BOX[0] * across, abs=1)
    assert place["y"] - frame["y"] == pytest.approx(BOX[1] * across, abs=1)
    assert place["width"] == pytest.approx((BOX[2] - BOX[0]) * across, abs=1)
    card = person.page.locator("#looks .card")
    expect(card).to_contain_text(f"cells (1, 2) to (3, 2), 60 {TIMES} 24 px")
    assert colours(card.locator("canvas")) == {(210, 30, 30)}
    expect(exchange.locator(".answer")).to_have_text("")
    expect(person.page.locator("#stop")).to_be_visible()
    person.shoot("look")
    served.script.released.set()
    expect(exchange.locator(".answer")).to_have_text("A dog.")
    expect(exchange.locator("summary")).to_contain_text("1 look")
    expect(person.page.locator("#stop")).to_be_hidden()
    assert person.errors == []


def test_text_that_may_not_be_the_answer_is_shown_as_such(hold: Hold, visit: Open) -> None:
    served = hold(HeldScript("A dog.", free=0, letters=3))
    person = visit(served.url)
    person.upload(picture())
    answer = person.ask("What is it?").locator(".answer")
    expect(answer).to_have_text("A d")
    expect(answer).to_have_class("answer provisional")
    served.script.released.set()
    expect(answer).to_have_text("A dog.")
    expect(answer).to_have_class("answer")


def test_a_follow_up_sends_what_was_said(serve: Serve, visit: Open) -> None:
    served = serve("A dog.", "Brown.", "A cat.")
    person = visit(served.url)
    person.upload(picture())
    person.ask_for("What is it?", "A dog.")
    asked = person.ask_for("Which colour?", "Brown.")
    messages = asked["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "user"]
    assert [message["content"] for message in messages[1:]] == ["A dog.", "Which colour?"]
    person.page.uncheck("#follow")
    alone = person.ask_for("And now?", "A cat.")
    assert len(alone["messages"]) == 1
    assert person.errors == []


def test_another_picture_begins_another_conversation(serve: Serve, visit: Open) -> None:
    served = serve("A dog.", "A cat.")
    person = visit(served.url)
    person.upload(picture())
    person.ask_for("What is it?", "A dog.")
    person.upload(Image.new("RGB", (40, 30)), "other.png")
    expect(person.page.locator(".exchange")).to_have_count(0)
    asked = person.ask_for("What is it?", "A cat.")
    assert len(asked["messages"]) == 1


@pytest.mark.parametrize("way", ["button", "key"])
def test_stop_ends_it_and_the_next_question_is_answered(hold: Hold, visit: Open, way: str) -> None:
    served = hold(HeldScript(FIRST, "Never.", "A cat."))
    person = visit(served.url)
    person.upload(picture())
    exchange = person.ask("What is it?")
    person.page.locator(".mark .box").wait_for()
    if way == "button":
        person.page.click("#stop")
    else:
        person.page.keyboard.press("Escape")
    expect(exchange.locator(".note")).to_have_text("Stopped.")
    served.script.released.set()
    served.wait_idle()
    person.ask_for("And now?", "A cat.")
    assert person.errors == []


def test_a_lost_connection_is_said_and_the_question_asked_again(hold: Hold, visit: Open) -> None:
    served = hold(HeldScript(FIRST, "Never.", "Else.", "A dog."))
    with Cable(served.listener.port) as cable:
        person = visit(f"http://127.0.0.1:{cable.port}")
        person.upload(picture())
        person.ask("What is it?")
        person.page.locator(".mark .box").wait_for()
        cable.cut()
        notice = person.page.locator("#notice-text")
        expect(notice).to_have_text("The connection to the server was lost.")
        person.shoot("lost")
        served.script.released.set()
        served.ask(text="Else?")  # a script cannot be asked the same twice in a row
        person.page.click("#again")
        expect(person.page.locator(".exchange .answer")).to_have_text("A dog.")
        expect(person.page.locator("#notice")).to_be_hidden()


def test_a_server_that_is_gone_is_said(serve: Serve, visit: Open) -> None:
    served = serve("A dog.")
    person = visit(served.url)
    person.upload(picture())
    served.close()
    person.ask("What is it?")
    notice = person.page.locator("#notice-text")
    expect(notice).to_have_text("The connection to the server was lost.")


def test_a_busy_server_is_asked_again_when_it_says(hold: Hold, visit: Open) -> None:
    served = hold(HeldScript("One.", "Two.", "A dog.", free=0), queue_size=1)
    person = visit(served.url)
    person.page.clock.install()
    person.upload(picture())
    others = [threading.Thread(target=served.ask, kwargs={"text": text}) for text in ("A", "B")]
    for number, other in enumerate(others):
        other.start()
        wait_load(served, number)
    person.ask("What is it?")
    expect(person.page.locator("#notice-text")).to_contain_text("busy")
    expect(person.page.locator("#notice-count")).to_contain_text("Asking again in")
    served.script.released.set()
    for other in others:
        other.join()
    person.page.clock.run_for(10_000)
    expect(person.page.locator(".exchange .answer")).to_have_text("A dog.")


def wait_load(served: Served, waiting: int) -> None:
    """Until one is computed and so many wait."""
    worker = served.listener.service.worker
    while not (worker.running and worker.waiting == waiting):
        threading.Event().wait(0.01)


def test_an_error_of_the_server_is_shown_in_its_words(serve: Serve, visit: Open) -> None:
    person = visit(serve("A dog.", max_pixels=100).url)
    person.upload(picture())
    person.ask("What is it?")
    notice = person.page.locator("#notice-text")
    expect(notice).to_contain_text("the picture has 96x64 pixels, expected up to 100")
    expect(person.page.locator("#again")).to_be_visible()


def test_a_key_is_asked_for_and_kept_for_the_session(serve: Serve, visit: Open) -> None:
    served = serve("A dog.", keys=("secret",))
    person = visit(served.url)
    expect(person.page.locator("#key")).to_be_focused()
    person.shoot("key")
    person.page.keyboard.type("wrong")
    person.page.keyboard.press("Enter")
    expect(person.page.locator("#key")).to_be_visible()
    person.page.fill("#key", "secret")
    person.page.keyboard.press("Enter")
    expect(person.page.locator("#model")).to_have_text("tiny")
    person.upload(picture())
    person.ask_for("What is it?", "A dog.")
    person.page.reload()
    expect(person.page.locator(".exchange .answer")).to_have_text("A dog.")


def test_markup_is_text(serve: Serve, visit: Open) -> None:
    evil = "<img src=x onerror=alert(1)><script>alert(2)</script>"
    person = visit(serve(f"Yes {evil}", "B").url)
    person.upload(picture(), f"{evil.replace('/', '')}.png")
    exchange = person.ask(f"What {evil}")
    expect(exchange.locator(".answer")).to_have_text(f"Yes {evil}")
    expect(exchange.locator(".question")).to_have_text(f"What {evil}")
    expect(person.page.locator("#earlier b")).to_have_text(f"Yes {evil}")
    assert person.page.locator("main img, main script").count() == 0
    person.page.reload()
    expect(person.page.locator(".answer")).to_have_text(f"Yes {evil}")
    assert person.dialogs == []
    assert person.errors == []


def test_an_answer_is_shown_again_by_its_link(serve: Serve, visit: Open) -> None:
    served = serve(FIRST, "A dog.", "A cat.", "Its tail.")
    first = visit(served.url)
    first.upload(picture())
    first.ask_for("What is it?", "A dog.")
    address = first.page.get_by_role("link", name="Link to this answer").get_attribute("href")
    assert re.fullmatch(r"\?answer=[\w-]{22}", address or "")
    second = visit(f"{served.url}/{address}")
    expect(second.page.locator(".answer")).to_have_text("A dog.")
    expect(second.page.locator(".question")).to_have_text("What is it?")
    expect(second.page.locator(".mark.region .box")).to_be_visible()
    expect(second.page.locator("#still-caption")).to_contain_text(f"96 {TIMES} 64")
    second.ask_for("And else?", "A cat.")
    second.page.reload()
    expect(second.page.locator(".answer")).to_have_text(["A dog.", "A cat."])
    assert first.errors == second.errors == []


def test_earlier_answers_have_thumbnails(serve: Serve, visit: Open) -> None:
    person = visit(serve(FIRST, "A dog.", "A cat.").url)
    person.upload(picture())
    person.ask_for("What is it?", "A dog.")
    person.upload(Image.new("RGB", (40, 30)), "other.png")
    person.ask_for("And this?", "A cat.")
    entries = person.page.locator("#earlier-list a")
    expect(entries).to_have_text([re.compile("A cat"), re.compile("A dog")])
    entries.last.click()
    expect(person.page.locator(".answer")).to_have_text("A dog.")
    expect(person.page.locator(".mark.region .box")).to_be_visible()
    assert person.errors == []


def test_an_answer_that_is_gone_says_so(serve: Serve, visit: Open) -> None:
    person = visit(f"{serve().url}/?answer=nothing")
    expect(person.page.locator("#notice-text")).to_contain_text("no such answer")


def test_a_second_encoding_is_shown(serve: Serve, visit: Open) -> None:
    person = visit(serve(CLIP, "A dog.").url)
    person.upload(picture())
    person.ask_for("What is it?", "A dog.")
    expect(person.page.locator(".mark.whole .number")).to_have_text("1 · clip")
    expect(person.page.locator("#looks")).to_contain_text("the whole picture, encoded again")


def test_each_of_several_looks_can_be_chosen(serve: Serve, visit: Open) -> None:
    person = visit(serve(f"{REGION}{OTHER}", "A dog.").url)
    person.upload(picture())
    person.ask_for("What is it?", "A dog.")
    cards = person.page.locator("#looks .card")
    expect(cards).to_have_count(2)
    expect(cards.nth(1)).to_have_attribute("aria-pressed", "true")
    cards.nth(0).click()
    expect(cards.nth(0)).to_have_attribute("aria-pressed", "true")
    expect(person.page.locator(".mark").nth(0)).to_have_class(re.compile("chosen"))


@pytest.mark.parametrize("mode", ["", "free", "region", "reencode", "off"])
def test_the_way_of_looking_is_sent(serve: Serve, visit: Open, mode: str) -> None:
    person = visit(serve("A dog.").url)
    person.upload(picture())
    person.page.select_option("#perception", mode)
    asked = person.ask_for("What is it?", "A dog.")
    assert asked.get("perception", "") == mode
