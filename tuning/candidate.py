"""What is tried: a setting of one bundle."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Setting:
    """Options of a question that save work (``runtime.options.Options``); None: as exported."""

    first_max_pixels: int | None = None
    look_max_pixels: int | None = None
    first_token_share: float | None = None

    def options(self) -> dict[str, Any]:
        """What ``ask`` is told; nothing of what is as exported."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Candidate:
    """A setting of the bundle number ``bundle``.

    ``threads``: cores that the process may keep busy; None: all that it has. ``cost``: an estimate
    of the work of an answer, 1.0 for the default's, that orders the trials and no more.
    """

    bundle: int = 0
    setting: Setting = Setting()
    threads: int | None = None
    cost: float = field(default=1.0, compare=False)

    @property
    def place(self) -> tuple[int, int | None]:
        """What needs sessions of its own: the bundle, and the threads."""
        return self.bundle, self.threads

    def describe(self, bundles: list[str]) -> str:
        """The candidate in words; ``bundles``: their names, which stand there if there are two."""
        parts = list[str]()
        if len(bundles) > 1:
            parts.append(bundles[self.bundle])
        if self.setting.first_max_pixels is not None:
            parts.append(f"first view {self.setting.first_max_pixels:,} px")
        if self.setting.look_max_pixels is not None:
            parts.append(f"looks {self.setting.look_max_pixels:,} px")
        if self.setting.first_token_share is not None:
            parts.append(f"{self.setting.first_token_share:.0%} of the first view's tokens")
        if self.threads is not None:
            unit = "thread" if self.threads == 1 else "threads"
            parts.append(f"{self.threads} {unit}")
        if self == Candidate():
            parts.append("as exported")
        return ", ".join(parts) or "as exported"


DEFAULT = Candidate()
