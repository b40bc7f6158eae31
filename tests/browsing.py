"""The page in a real browser, Debian's Chromium, before a server whose model can be held back."""

from __future__ import annotations

import io
import shutil
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from golden import ROOT
from serving import LONG, Served

from vpt_edge.runtime import Pipeline
from vpt_edge.runtime.testing import Script

if TYPE_CHECKING:
    from collections.abc import Iterator

    from PIL import Image
    from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Locator, Page

    from vpt_edge.runtime import Bundle
    from vpt_edge.runtime.bundle import Model
    from vpt_edge.runtime.sessions import Arrays, Session

CHROMIUM = shutil.which("chromium")
SCREENSHOTS = ROOT / "build" / "page"
AXE = "axe-core@4.14.1"
TIMES = "\N{MULTIPLICATION SIGN}"
PHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1360, "height": 860}
CAMERA = ("--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream")

needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="chromium is missing: apt-get install chromium"
)


def open_browser() -> Iterator[Browser]:
    """For a fixture of a module: while it is open, no other event loop runs in this thread."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", *CAMERA]  # root has no sandbox
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


class Visit:
    """A person's visit; ``errors`` are what the browser's console and the page complain of."""

    def __init__(self, browser: Browser, url: str, **options: Any) -> None:
        options = {"viewport": DESKTOP, "reduced_motion": "reduce", **options}
        self.context: BrowserContext = browser.new_context(**options)
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(1000 * LONG)
        self.errors = list[str]()
        self.dialogs = list[str]()
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("dialog", lambda dialog: self.dialogs.append(dialog.message))
        self.page.goto(url)

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.errors.append(message.text)

    def upload(self, picture: Image.Image, name: str = "picture.png") -> None:
        self.page.set_input_files("#file", [file_of(picture, name)])
        self.page.locator("#still").wait_for()

    def ask(self, question: str) -> Locator:
        """Type the question and press Enter; returns the place of the answer."""
        self.page.fill("#question", question)
        self.page.press("#question", "Enter")
        exchange = self.page.locator(".exchange").last
        exchange.get_by_text(question, exact=True).wait_for()
        return exchange

    def ask_for(self, question: str, answer: str) -> Any:
        """Ask, and wait for that answer; returns the body of the request."""
        from playwright.sync_api import expect

        with self.page.expect_request("**/v1/chat/completions") as asked:
            exchange = self.ask(question)
        expect(exchange.locator(".answer")).to_have_text(answer)
        expect(self.page.locator("#stop")).to_be_hidden()  # it is whole
        return asked.value.post_data_json

    def shoot(self, name: str) -> None:
        """Keep a screenshot, to be looked at."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SCREENSHOTS / f"{name}.png")


def file_of(picture: Image.Image, name: str = "picture.png") -> Any:
    stream = io.BytesIO()
    picture.save(stream, "PNG", compress_level=1)
    return {"name": name, "mimeType": "image/png", "buffer": stream.getvalue()}


class HeldScript(Script):
    """Says its first ``free`` turns at once, and so many ``letters`` of the next one; then it waits
    until it is released.
    """

    def __init__(self, *turns: str, free: int = 1, letters: int = 0) -> None:
        super().__init__(*turns)
        self.free = free
        self.letters = letters
        self.released = threading.Event()

    def __call__(self, model: Model, name: str, /) -> Session:
        session = super().__call__(model, name)
        if name != "decoder":
            return session
        return HeldSession(session, self)


class HeldSession:
    def __init__(self, session: Session, script: HeldScript) -> None:
        self._session = session
        self._script = script
        self._turns = 0
        self._letters = 0
        self.zeros = session.zeros
        self.close = session.close

    def run(self, inputs: Arrays, outputs: Arrays) -> None:
        if inputs["embeds"].shape[1] > 1:  # a turn begins
            self._turns += 1
            self._letters = 0
        else:
            self._letters += 1
        if self._turns > self._script.free and self._letters >= self._script.letters:
            self._script.released.wait(LONG)
        self._session.run(inputs, outputs)


class Held(Served):
    """A server with that ``script``."""

    script: HeldScript

    def __init__(self, bundle: Bundle, script: HeldScript, **options: Any) -> None:
        self.script = script

        def open_pipeline() -> Pipeline:
            return Pipeline(bundle, opener=script)

        self._start(open_pipeline, options)

    def close(self) -> None:
        self.script.released.set()
        super().close()


def fetch_axe() -> str:
    """The source of axe-core, which npm fetches once. Skips the test where it cannot."""
    folder = ROOT / "build" / "axe"
    file = folder / "node_modules" / "axe-core" / "axe.min.js"
    if not file.exists():
        install(folder)
    return file.read_text("utf-8")


def install(folder: Path) -> None:
    if shutil.which("npm") is None:
        pytest.skip("npm is missing: apt-get install npm")
    folder.mkdir(parents=True, exist_ok=True)
    options = ["--no-audit", "--no-fund", "--fetch-retries=0", f"--prefix={folder}"]
    command = ["npm", "install", *options, AXE]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        pytest.skip(f"npm did not install {AXE}: {result.stderr[-200:]}")
