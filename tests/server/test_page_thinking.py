"""A model that thinks and calls in words, in a real browser."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from browsing import TIMES, Visit, needs_chromium
from playwright.sync_api import expect
from scripted import PICTURE
from serving import Served
from zoom import WHOLE, call, zoom_bundle

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

pytestmark = needs_chromium

Open = Callable[..., Visit]


def test_it_shows_what_the_model_thinks_and_where_it_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visit: Open
) -> None:
    turns = (
        f"<think>Small.</think>Let me see. {call((8, 4, 40, 28))}",
        f"<think>Smaller.</think>{call((2, 2, 12, 12), source=1)}",
        WHOLE,
        "Hm <call>{</call>",
        "Red.",
    )
    with Served(zoom_bundle(tmp_path, monkeypatch), *turns) as served:
        person = visit(served.url)
        person.upload(PICTURE)
        options = person.page.locator("#perception option")
        expect(options).to_have_text(["usual", "free", "off"])
        person.ask_for("What is it?", "Red.")
        exchange = person.page.locator(".exchange").last
        steps = exchange.locator(".steps li")
        expect(steps).to_have_text(
            [
                f"looked again at 32 {TIMES} 24 px from (8, 4)",
                f"looked again at 10 {TIMES} 10 px from (10, 6)",
                "looked again at the whole picture, as large as it is",
                "asked for a look that there is not",
            ]
        )
        expect(person.page.locator(".mark.region .box")).to_have_count(2)
        exchange.get_by_text("What it thinks").click()
        expect(exchange.locator(".thoughts")).to_have_text("Small.\n\nSmaller.")
        person.shoot("thinking")
        assert person.errors == []
