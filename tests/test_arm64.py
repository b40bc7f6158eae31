"""What ``make arm64`` runs where nothing can be exported: torch is not there."""

from __future__ import annotations

from arm64.__main__ import LEFT_OUT
from golden import ROOT


def test_what_exports_a_checkpoint_is_left_out() -> None:
    left_out = {option.removeprefix("--ignore=") for option in LEFT_OUT}
    exporting = set[str]()
    for path in (ROOT / "tests" / "runtime").rglob("test_*.py"):
        if "family_bundle" in path.read_text("utf-8"):
            exporting.add(path.relative_to(ROOT).as_posix())
    assert exporting
    assert exporting <= left_out
