"""The live view of what a server watches, in a real browser."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from browsing import PHONE, HeldScript, Visit, needs_chromium
from PIL import Image
from playwright.sync_api import expect
from scripted import REGION
from serving import Served

if TYPE_CHECKING:
    from browsing import Held
    from playwright.sync_api import Route

pytestmark = needs_chromium

Serve = Callable[..., Served]
Hold = Callable[..., "Held"]
Open = Callable[..., Visit]
SCENES = "scenes://?seed=7&rate=5&hold=1"
LOOK = f"I look: {REGION}"


def choose_source(person: Visit) -> None:
    person.page.select_option("#source", index=1)
    expect(person.page.locator("#live-state")).to_have_text(re.compile("scenes.*: live"))


def drawn(person: Visit, figure: str) -> str:
    """What a canvas shows."""
    canvas = person.page.locator(f"{figure} canvas")
    return str(canvas.evaluate("canvas => canvas.toDataURL()"))


def test_a_live_picture_moves(serve: Serve, visit: Open) -> None:
    person = visit(serve(watch=(SCENES,)).url)
    choose_source(person)
    first = drawn(person, "#live")
    while drawn(person, "#live") == first:
        person.page.wait_for_timeout(50)
    assert person.errors == []


def test_the_picture_asked_about_stays_while_live_goes_on(hold: Hold, visit: Open) -> None:
    served = hold(HeldScript(LOOK, "A tag.", "Another."), watch=(SCENES,))
    person = visit(served.url)
    choose_source(person)
    exchange = person.ask("What is it?")
    person.page.locator("#still .mark .box").wait_for()
    frozen = drawn(person, "#still")
    first = drawn(person, "#live")
    while drawn(person, "#live") == first:
        person.page.wait_for_timeout(50)
    person.shoot("live")
    assert drawn(person, "#still") == frozen
    served.script.released.set()
    expect(exchange.locator(".answer")).to_have_text("A tag.")
    caption = person.page.locator("#still-caption").text_content() or ""
    number = re.search(r"picture (\d+)", caption)
    assert number is not None
    link = exchange.get_by_role("link", name="Link to this answer").get_attribute("href") or ""
    answer = served.client.get(f"/answers/{link.rpartition('=')[2]}").json()
    assert answer["vpt"]["frame"]["number"] == int(number[1])
    person.page.select_option("#about", "still")
    asked = person.ask_for("And else?", "Another.")
    assert len(asked["messages"]) == 3
    assert asked["messages"][0]["content"][0]["image_url"]["url"][:5] == "data:"
    assert person.errors == []


def test_each_question_about_the_live_picture_is_about_the_newest(
    serve: Serve, visit: Open
) -> None:
    person = visit(serve("One.", "Two.", watch=(SCENES,)).url)
    choose_source(person)
    person.ask_for("What is it?", "One.")
    asked = person.ask_for("And now?", "Two.")
    (message,) = asked["messages"]
    assert message["content"][0]["image_url"]["url"].startswith("source:")


def test_where_no_picture_comes_it_says_so(serve: Serve, visit: Open) -> None:
    person = visit(serve(watch=(SCENES,)).url)

    def stay_silent(route: Route) -> None:  # a stub of a source from which nothing comes
        route.fulfill(status=204)

    person.page.route("**/frame*", stay_silent)
    person.page.select_option("#source", index=1)
    expect(person.page.locator("#live-state")).to_have_text(re.compile("no picture for 5 s"))


def test_a_live_view_comes_back(serve: Serve, visit: Open) -> None:
    person = visit(serve(watch=(SCENES,)).url)
    choose_source(person)

    def lose(route: Route) -> None:
        route.abort()

    person.page.route("**/frame*", lose)
    state = person.page.locator("#live-state")
    expect(state).to_have_text(re.compile("connection to the server was lost. Trying again"))
    person.page.unroute("**/frame*")
    expect(state).to_have_text(re.compile(": live"))


def test_sources_are_hidden_where_there_are_none(serve: Serve, visit: Open) -> None:
    person = visit(serve().url)
    expect(person.page.locator("#model")).to_have_text("tiny")
    expect(person.page.locator("#sources")).to_be_hidden()
    assert person.errors == []


def test_a_picture_of_ones_own_ends_the_live_view(serve: Serve, visit: Open) -> None:
    person = visit(serve("A dog.", watch=(SCENES,)).url)
    choose_source(person)
    person.upload(Image.new("RGB", (96, 64)))
    expect(person.page.locator("#live")).to_be_hidden()
    expect(person.page.locator("#source")).to_have_value("")
    person.ask_for("What is it?", "A dog.")


def test_both_pictures_fit_on_a_phone(serve: Serve, visit: Open) -> None:
    person = visit(serve(LOOK, "A tag.", watch=(SCENES,)).url, viewport=PHONE)
    choose_source(person)
    person.ask_for("What is it?", "A tag.")
    person.shoot("live-phone")
    assert person.page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]


def test_many_tabs_do_not_wait_for_each_other(serve: Serve, visit: Open) -> None:
    """A browser has six connections to a server; a stream for each tab would use them up."""
    served = serve(watch=(SCENES,))
    person = visit(served.url)
    pages = [person.context.new_page() for _ in range(8)]
    for page in pages:
        page.goto(served.url)
        page.select_option("#source", index=1)
    for page in pages:
        expect(page.locator("#live-state")).to_have_text(re.compile(": live"))
