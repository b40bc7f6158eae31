"""Event loops that leave nothing behind."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Coroutine


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run ``main`` in asyncio's debug mode, and find no task behind it."""

    async def watched() -> None:
        before = asyncio.all_tasks()
        await main
        assert asyncio.all_tasks() == before

    asyncio.run(watched(), debug=True)
