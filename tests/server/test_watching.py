from __future__ import annotations

import asyncio
import sys
import threading
from pathlib import Path

import pytest
from PIL import Image

from vpt_edge.runtime.errors import SourceError
from vpt_edge.server.errors import RequestError
from vpt_edge.server.settings import Settings
from vpt_edge.server.watching import Watching


def readers() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("reader")]


def test_what_has_no_newest_frame_is_refused_and_nothing_stays_open(tmp_path: Path) -> None:
    path = tmp_path / "street.png"
    Image.new("RGB", (60, 40)).save(path)
    before = readers()
    with pytest.raises(SourceError, match=r"street\.png is not live: its frames wait"):
        Watching(("testsrc://", str(path)))
    with pytest.raises(SourceError, match="no-such:// is not known as a source"):
        Watching(("testsrc://", "no-such://"))
    assert readers() == before


def test_an_address_may_lie_in_a_file(tmp_path: Path) -> None:
    place = tmp_path / "address"
    place.write_text("testsrc://?pattern=bars\n")
    watching = Watching((f"@{place}",))
    assert [source.name for source in watching.sources] == ["testsrc-bars"]
    watching.close()


def test_the_first_is_found_without_a_name() -> None:
    watching = Watching(("scenes://", "testsrc://"))
    assert watching.find(None).name == "scenes"
    assert watching.find("testsrc-ball").name == "testsrc-ball"
    with pytest.raises(RequestError, match="no source 'door', this server watches: scenes, test"):
        watching.find("door")
    watching.close()
    with pytest.raises(RequestError, match="this server watches no source"):
        Watching(()).find(None)


def test_without_a_decoder_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)

    async def play() -> str:
        watching = Watching(("rtsp://127.0.0.1:9/stream",))
        watching.start()
        (source,) = watching.sources
        while source.state != "ended":
            await asyncio.sleep(0.01)
        watching.close()
        return source.describe_state()

    told = asyncio.run(play())
    assert "this source needs PyAV" in told and "pip install 'vpt-edge[live]'" in told


def test_settings_never_show_an_address() -> None:
    assert "zqz" not in repr(Settings(model="tiny", watch=("rtsp://me:zqz@camera/stream",)))
