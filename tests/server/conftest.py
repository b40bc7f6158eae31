from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from browsing import Held, HeldScript, Visit, open_browser
from serving import Served

from vpt_edge.runtime.testing import tiny_bundle

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from vpt_edge.runtime import Bundle


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Of the kind clip, with a cache of 2,048 tokens."""
    return tiny_bundle(tmp_path_factory.mktemp("served"))


@pytest.fixture
def serve(bundle: Bundle) -> Iterator[Callable[..., Served]]:
    """Starts servers for a script's turns and settings; they end with the test."""
    with ExitStack() as stack:

        def start(*turns: str, **options: Any) -> Served:
            return stack.enter_context(Served(bundle, *turns, **options))

        yield start


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    yield from open_browser()


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Visit]]:
    """Opens the page at an address; each visit ends with the test."""
    with ExitStack() as stack:

        def open_page(url: str, **options: Any) -> Visit:
            visit = Visit(browser, url, **options)
            stack.callback(visit.context.close)
            return visit

        yield open_page


@pytest.fixture
def hold(bundle: Bundle) -> Iterator[Callable[..., Held]]:
    """Starts servers whose model is held back."""
    with ExitStack() as stack:

        def start(script: HeldScript, **options: Any) -> Held:
            served = Held(bundle, script, **options)
            stack.callback(served.close)
            return served

        yield start
