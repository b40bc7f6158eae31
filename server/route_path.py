"""Where a request goes within this application."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import Scope


def route_path(scope: Scope) -> str:
    """The path of a request, without that below which another application has mounted this one."""
    path: str = scope["path"]
    rest = path.removeprefix(scope.get("root_path", ""))
    if rest.startswith("/"):
        return rest
    return path
