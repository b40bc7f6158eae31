"""All the ways to use the page: by keyboard, on a phone, in the dark, with a screen reader, and the
ways in which a picture comes.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from browsing import PHONE, TIMES, HeldScript, Visit, fetch_axe, file_of, needs_chromium
from PIL import Image
from playwright.sync_api import expect
from scripted import REGION
from serving import Served

if TYPE_CHECKING:
    from browsing import Held
    from playwright.sync_api import Page

pytestmark = needs_chromium

Serve = Callable[..., Served]
Hold = Callable[..., "Held"]
Open = Callable[..., Visit]
FIRST = f"I look: {REGION}"
WIDE = Image.new("RGB", (1600, 900), (90, 120, 80))
TALL = Image.new("RGB", (300, 1200), (120, 90, 80))
LONG_WORD = "Donaudampfschifffahrtsgesellschaft" * 6
# A file as the browser hands it over when it is dropped or pasted.
HAND_OVER = """([kind, name, bytes]) => {
    const transfer = new DataTransfer();
    transfer.items.add(new File([new Uint8Array(bytes)], name, { type: "image/png" }));
    const fields = { bubbles: true, cancelable: true };
    const event = kind === "drop"
        ? new DragEvent(kind, { ...fields, dataTransfer: transfer })
        : new ClipboardEvent(kind, { ...fields, clipboardData: transfer });
    document.body.dispatchEvent(event);
}"""


def hand_over(page: Page, kind: str, picture: Image.Image) -> None:
    page.evaluate(HAND_OVER, [kind, "handed.png", list(file_of(picture)["buffer"])])


@pytest.mark.parametrize("kind", ["drop", "paste"])
def test_a_picture_is_dropped_or_pasted(serve: Serve, visit: Open, kind: str) -> None:
    person = visit(serve("A dog.").url)
    hand_over(person.page, kind, Image.new("RGB", (50, 40), "red"))
    expect(person.page.locator("#still-caption")).to_have_text(f"handed.png · 50 {TIMES} 40")
    person.ask_for("What is it?", "A dog.")
    assert person.errors == []


def test_a_picture_is_taken_with_the_camera(serve: Serve, visit: Open) -> None:
    person = visit(serve("A dog.").url)
    person.page.click("#take")
    person.page.locator("#camera-take:enabled").click()
    expect(person.page.locator("#still-caption")).to_contain_text("picture from the camera")
    expect(person.page.locator("#camera")).to_be_hidden()
    person.ask_for("What is it?", "A dog.")
    assert person.errors == []


def test_a_picture_is_chosen(serve: Serve, visit: Open) -> None:
    person = visit(serve("A dog.").url)
    with person.page.expect_file_chooser() as chosen:
        person.page.click("#choose")
    chosen.value.set_files([file_of(Image.new("RGB", (50, 40)))])
    expect(person.page.locator("#still-caption")).to_contain_text(f"50 {TIMES} 40")


def test_what_is_no_picture_is_said(serve: Serve, visit: Open) -> None:
    person = visit(serve().url)
    file: Any = {"name": "notes.txt", "mimeType": "image/png", "buffer": b"no picture"}
    person.page.set_input_files("#file", [file])
    expect(person.page.locator("#notice-text")).to_contain_text("not a picture")


def test_a_question_without_a_picture_asks_for_one(serve: Serve, visit: Open) -> None:
    person = visit(serve().url)
    person.page.fill("#question", "What is it?")
    person.page.press("#question", "Enter")
    expect(person.page.locator("#notice-text")).to_have_text("Choose a picture first.")
    expect(person.page.locator("#choose")).to_be_focused()


def turned_photo() -> Any:
    """A phone's JPEG: 80x60 as it lies in the file, 60x80 as it was seen; red was on top."""
    picture = Image.new("RGB", (80, 60), "blue")
    picture.paste("red", (0, 0, 40, 60))
    exif = Image.Exif()
    exif[0x0112] = 6
    stream = io.BytesIO()
    picture.save(stream, "JPEG", exif=exif, quality=95)
    return {"name": "phone.jpg", "mimeType": "image/jpeg", "buffer": stream.getvalue()}


def test_a_phones_picture_is_sent_upright_and_without_its_place(serve: Serve, visit: Open) -> None:
    served = serve(FIRST, "A dog.")
    person = visit(served.url)
    person.page.set_input_files("#file", [turned_photo()])
    expect(person.page.locator("#still-caption")).to_contain_text(f"60 {TIMES} 80")
    person.ask_for("What is it?", "A dog.")
    link = person.page.get_by_role("link", name="Link to this answer").get_attribute("href")
    number = (link or "").rpartition("=")[2]
    reply = served.client.get(f"/answers/{number}/picture")
    picture = Image.open(io.BytesIO(reply.content))
    assert picture.size == (60, 80)
    red, _, blue = np.asarray(picture)[5, 30]
    assert red > 200 > 60 > blue


@pytest.mark.parametrize("kind", ["WEBP", "GIF", "BMP"])
def test_a_picture_of_another_kind_is_sent_as_jpeg(serve: Serve, visit: Open, kind: str) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (50, 40), "red").save(stream, kind)
    person = visit(serve("A dog.").url)
    file: Any = {"name": "p", "mimeType": f"image/{kind.lower()}", "buffer": stream.getvalue()}
    person.page.set_input_files("#file", [file])
    expect(person.page.locator("#still-caption")).to_contain_text(f"50 {TIMES} 40")
    body = person.ask_for("What is it?", "A dog.")
    assert body["messages"][0]["content"][0]["image_url"]["url"].startswith("data:image/jpeg")


def test_a_picture_that_is_too_large_to_send_is_sent_smaller(
    serve: Serve, visit: Open, tmp_path: Path
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1500, 2400, 3), np.uint8)
    file = tmp_path / "noise.png"
    Image.fromarray(noise).save(file, compress_level=0)
    person = visit(serve("A dog.").url)
    person.page.set_input_files("#file", file)
    person.page.locator("#still").wait_for()
    body = person.ask_for("What is it?", "A dog.")
    address = body["messages"][0]["content"][0]["image_url"]["url"]
    assert address.startswith("data:image/jpeg")
    assert len(address) < 10e6
    expect(person.page.locator("#still-caption")).to_contain_text(f"2400 {TIMES} 1500")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(hold: Hold, visit: Open, scheme: str, axe: str) -> None:
    served = hold(HeldScript("Well. ", FIRST, "A dog.", "Wait", free=3, letters=2))
    person = visit(served.url, color_scheme=scheme)
    assert findings(person.page, axe) == []
    person.upload(WIDE)
    person.ask_for("What is it?", "Well. ")
    person.ask_for("And now?", "A dog.")
    person.page.locator("summary").last.click()
    person.ask("Still there?")
    expect(person.page.locator(".answer.provisional")).to_have_text("Wa")
    person.page.evaluate("document.getElementById('notice').hidden = false")
    person.shoot(f"whole-{scheme}")
    assert findings(person.page, axe) == []
    person.page.click("#open-shortcuts")
    person.shoot(f"shortcuts-{scheme}")
    assert findings(person.page, axe) == []


@pytest.fixture(scope="session")
def axe() -> str:
    return fetch_axe()


def findings(page: Page, axe: str) -> list[str]:
    """Serious and critical ones, in a line each."""
    page.evaluate(axe)
    result = page.evaluate("axe.run()")
    lines = []
    for violation in result["violations"]:
        if violation["impact"] in ("serious", "critical"):
            nodes = [node["html"] for node in violation["nodes"]]
            lines.append(f"{violation['id']}: {json.dumps(nodes)}")
    return lines


@pytest.mark.parametrize("picture", [WIDE, TALL], ids=["wide", "tall"])
def test_a_phone_shows_it_without_scrolling_sideways(
    serve: Serve, visit: Open, picture: Image.Image
) -> None:
    person = visit(serve(FIRST, LONG_WORD).url, viewport=PHONE, has_touch=True, is_mobile=True)
    assert width(person.page) == PHONE["width"]
    person.upload(picture, f"{LONG_WORD}.png")
    person.ask(LONG_WORD)
    expect(person.page.locator(".answer")).to_have_text(LONG_WORD)
    person.page.locator("summary").click()
    person.page.evaluate("document.getElementById('notice').hidden = false")
    person.page.evaluate("document.getElementById('key-form').hidden = false")
    person.shoot(f"phone-{picture.width}")
    assert width(person.page) == PHONE["width"]


def width(page: Page) -> int:
    return int(page.evaluate("document.documentElement.scrollWidth"))


@pytest.mark.parametrize(("scheme", "shade"), [("light", 246), ("dark", 20)])
def test_it_is_dark_or_light_as_the_system_until_it_is_chosen(
    serve: Serve, visit: Open, scheme: str, shade: int
) -> None:
    person = visit(serve().url, color_scheme=scheme)
    theme = person.page.locator("#theme")
    body = person.page.locator("body")
    expect(theme).to_have_attribute("aria-pressed", str(scheme == "dark").lower())
    expect(body).to_have_css("background-color", re.compile(rf"\({shade},"))
    theme.click()
    expect(body).not_to_have_css("background-color", re.compile(rf"\({shade},"))
    person.page.reload()
    expect(body).not_to_have_css("background-color", re.compile(rf"\({shade},"))
    assert person.errors == []


def test_all_of_it_works_from_the_keyboard(serve: Serve, visit: Open) -> None:
    person = visit(serve(FIRST, "A dog.").url)
    page = person.page
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    with page.expect_file_chooser() as chosen:
        page.evaluate("0")  # behind which the browser gives its dialogs to the test
        page.keyboard.press("Alt+KeyO")
    chosen.value.set_files([file_of(WIDE)])
    expect(page.locator("#question")).to_be_focused()
    page.keyboard.type("What is it?")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("Say it.")
    page.keyboard.press("Enter")
    expect(page.locator(".answer")).to_have_text("A dog.")
    expect(page.locator(".question")).to_have_text("What is it?\nSay it.")
    expect(page.locator("summary")).to_be_visible()  # which comes when the answer has ended
    reached = walk(page)
    for name in ("choose", "take", "clear", "open-shortcuts", "theme", "perception", "follow"):
        assert name in reached
    for name in ("card", "SUMMARY", "Link to this answer", "exchanges", "send"):
        assert name in reached
    page.keyboard.press("Alt+KeyN")
    expect(page.locator("#drop")).to_be_visible()
    assert person.errors == []


STOP = """() => {
    const element = document.activeElement;
    const style = getComputedStyle(element);
    const around = getComputedStyle(element.closest("form") ?? element);
    const visible = [style, around].some((each) => each.outlineStyle !== "none");
    const name = element.id || element.className || element.tagName;
    return [element === document.body, visible, name, element.tagName, element.textContent];
}"""


def walk(page: Page) -> set[str]:
    """Tab through the page; the names of what gets the focus, which must be seen each time."""
    names = set[str]()
    page.locator(".skip").focus()
    for _ in range(60):
        page.keyboard.press("Tab")
        is_over, visible, *words = page.evaluate(STOP)
        if is_over:
            break
        assert visible, words
        names.update(words)
    return names


def test_a_screen_reader_hears_looks_and_answer(serve: Serve, visit: Open) -> None:
    person = visit(serve(FIRST, "A dog.").url)
    person.upload(Image.new("RGB", (96, 64)))
    person.ask_for("What is it?", "A dog.")
    spoken = person.page.locator("#announcer[aria-live=polite] p")
    look = f"Look 1: cells (1, 2) to (3, 2), 60 {TIMES} 24 px"
    picture = "Picture: picture.png, 96 by 64 pixels"
    expect(spoken).to_have_text([picture, "Asked: What is it?", look, "Answer: A dog."])
    expect(person.page.get_by_role("img", name="The picture that is asked about")).to_be_visible()


def test_motion_is_for_those_who_want_it(serve: Serve, visit: Open) -> None:
    for wish, name in (("reduce", "none"), ("no-preference", "arrive")):
        person = visit(serve(FIRST, "A dog.").url, reduced_motion=wish)
        person.upload(Image.new("RGB", (96, 64)))
        person.ask("What is it?")
        expect(person.page.locator(".mark .box")).to_have_css("animation-name", name)
