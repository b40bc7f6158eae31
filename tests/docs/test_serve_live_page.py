"""The page on what a server watches has the routes, the keys and the bounds of the code."""

from __future__ import annotations

import json
import re
from typing import Any, cast

from golden import ROOT
from sources import CameraSource, frame

from vpt_edge.server import completions, frames, live_source, still, watching
from vpt_edge.server.live_source import LiveSource
from vpt_edge.server.settings import Settings
from vpt_edge.server.shot import Shot
from vpt_edge.server.still import Still, View

PAGE = (ROOT / "docs" / "serve-live.md").read_text("utf-8")
TEXT = " ".join(PAGE.split())
NO_POOL = cast(Any, None)


def examples() -> list[Any]:
    return [json.loads(block) for block in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)]


def test_the_list_of_sources_has_its_keys() -> None:
    source = LiveSource("camera", CameraSource(), NO_POOL)
    source.newest = Still(frame(0), NO_POOL)
    (row,) = examples()[0]["sources"]
    assert list(row) == list(source.to_dict())
    assert list(row["frame"]) == list(source.to_dict()["frame"])


def test_the_frame_of_an_answer_has_its_keys() -> None:
    shot = Shot("camera", Still(frame(0), NO_POOL), 0.0)
    assert list(examples()[1]) == list(shot.conclude())


def test_the_line_of_a_frame_has_its_keys() -> None:
    named = re.search(r"a line of JSON with (.*?), a newline", TEXT)
    assert named is not None
    view = View(frame(0), (6, 4), b"")
    assert re.findall(r"`(\w+)`", named[1]) == [*view.to_dict(), "state"]


def test_every_route_is_named() -> None:
    for route in frames.frame_routes():
        assert route.path.replace("{name}", "NAME") in TEXT


def test_the_bounds_are_those_of_the_code() -> None:
    assert live_source.PATIENCE == 2 and "none within two seconds" in TEXT
    assert live_source.KEPT == 8 and "one of the last eight" in TEXT
    assert frames.HOLD == 5 and "none comes within five seconds" in TEXT
    assert Settings("").write_seconds == 30 and "half a minute" in TEXT
    assert watching.VIEWERS == 8 and "At most eight viewers" in TEXT
    assert f"at most {still.LONGER_SIDE} pixels" in TEXT
    assert f"later than {completions.EARLY} seconds" in TEXT
