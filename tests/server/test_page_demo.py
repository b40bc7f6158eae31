"""The page before the demo's trained bundle, as ``make demo-live`` starts it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

import pytest
from browsing import Visit, needs_chromium
from evaluate import LONGEST_ANSWER, draw_scenes
from golden import DEMO, ROOT
from playwright.sync_api import expect

from vpt_edge.runtime import Pipeline

if TYPE_CHECKING:
    from golden import Exporter

pytestmark = needs_chromium

Open = Callable[..., Visit]
QUESTION = "What does the red sign say?"
SEED = 2026  # of scenes that the model never saw


def hear_interrupts() -> None:
    """Whatever the tests were started with: a background job ignores Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture(scope="module")
def address(exported: Exporter) -> Iterator[str]:
    """Of demo/serve.py, which ends when it is interrupted."""
    command = [sys.executable, "demo/serve.py", str(exported(DEMO).path), "--port", "0"]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, text=True, preexec_fn=hear_interrupts
    ) as server:
        assert server.stdout is not None
        line = server.stdout.readline()
        yield line.rpartition(" ")[2].strip()
        os.kill(server.pid, signal.SIGINT)
        assert server.wait() == 130


def test_it_answers_about_unseen_scenes(address: str, exported: Exporter, visit: Open) -> None:
    """As the bundle does without a server, and looks at the same cells."""
    person = visit(address)
    with Pipeline(exported(DEMO)) as pipeline:
        for picture, samples in islice(draw_scenes(SEED), 2):
            person.upload(picture, "unseen scene.png")
            read, *others = samples
            for sample in (*others, read):
                answer = pipeline.ask(
                    picture,
                    sample.question,
                    perception=sample.perception,
                    max_new_tokens=LONGEST_ANSWER,
                )
                person.page.select_option("#perception", sample.perception)
                person.ask_for(sample.question, answer.text)
                person.page.locator("#follow").uncheck()
            mark = person.page.locator(".mark.region .cells")
            cells = mark.evaluate("cells => cells.style.cssText")
            left, top, *_ = [float(part) / 100 for part in re.findall(r"([\d.]+)%", cells)]
            (looked,) = answer.looks
            assert looked.cells is not None
            assert (8 * left, 8 * top) == looked.cells[:2]
    person.page.locator("#question").blur()
    person.shoot("demo")
    assert person.errors == []


def test_it_reads_a_sign_that_moves(address: str, visit: Open) -> None:
    person = visit(address, color_scheme="dark")
    person.page.select_option("#source", "scenes-signs")
    expect(person.page.locator("#live-state")).to_have_text("scenes-signs: live")
    exchange = person.ask(QUESTION)
    expect(exchange.locator(".answer")).to_have_text(re.compile(r"^[A-Z0-9.]+$"))
    expect(person.page.locator("#still .mark.region .box")).to_be_visible()
    person.shoot("demo-live")
    assert person.errors == []
