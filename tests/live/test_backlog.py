"""What is looked at is decoded, as without eco; what is not, is not."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np
import pytest
from clips import level_of, write_clip, write_clip_with_sound
from hypothesis import given
from hypothesis import strategies as st

from vpt_edge.live import decoder, group
from vpt_edge.live.backlog import Backlog
from vpt_edge.live.decoder import Shot, open_video, raster_of
from vpt_edge.runtime.errors import SourceError

if TYPE_CHECKING:
    from vpt_edge.live.frame import Raster

COUNT = 40
GOP = 10


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", COUNT, gop=GOP)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the packets that went into a decoder, as they went."""
    sizes = list[int]()
    decode = decoder.Decoder.decode

    def note(
        self: decoder.Decoder, packet: av.Packet[av.VideoStream] | None
    ) -> list[av.VideoFrame]:
        if packet is not None:
            sizes.append(packet.size)
        return decode(self, packet)

    monkeypatch.setattr(decoder.Decoder, "decode", note)
    return sizes


def explain(error: Exception) -> SourceError:
    return SourceError(f"the clip: {error}")


def shots_of(backlog: Backlog, path: Path) -> Iterator[Shot]:
    """As they come, while the video is open."""
    decoding = open_video(str(path), explain)
    with closing(decoding.container):
        for shot in backlog.shots(decoding):
            if shot is not None:
                yield shot


def rasters_of(path: Path, backlog: Backlog | None = None) -> list[Raster]:
    """When it is closed again."""
    return [shot.raster for shot in shots_of(backlog or Backlog(), path)]


def level(raster: Raster) -> int:
    return level_of(raster.to_rgb())


def test_nothing_is_decoded_that_nobody_looks_at(clip: Path, decoded: list[int]) -> None:
    backlog = Backlog()
    assert len(rasters_of(clip, backlog)) == backlog.undecoded == COUNT
    assert decoded == []


def test_a_picture_costs_what_came_since_its_key_frame(clip: Path, decoded: list[int]) -> None:
    backlog = Backlog()
    for index, shot in enumerate(shots_of(backlog, clip)):
        if index in (3, 6, 24):
            assert level(shot.raster) == index
    assert len(decoded) == 4 + 3 + 5
    assert backlog.undecoded == COUNT - len(decoded)


def test_each_picture_is_what_it_is_without_eco(clip: Path, decoded: list[int]) -> None:
    backlog = Backlog()
    decoding = open_video(str(clip), explain)
    with closing(decoding.container):
        frames = [frame for frame in decoding.frames() if frame is not None]
    decoded.clear()
    for shot, frame in zip(shots_of(backlog, clip), frames, strict=True):
        assert shot.time == pytest.approx(frame.time)
        assert np.array_equal(shot.raster.to_rgb(), raster_of(frame).to_rgb())
        assert np.array_equal(shot.raster.to_luma(64, 36), raster_of(frame).to_luma(64, 36))
    assert len(decoded) == COUNT, "each once, though each is looked at twice"
    assert backlog.undecoded == 0


@given(st.lists(st.integers(0, COUNT - 1), max_size=12))
def test_they_may_be_looked_at_in_any_order(clip: Path, indices: list[int]) -> None:
    backlog = Backlog()
    rasters = rasters_of(clip, backlog)
    furthest = dict[int, int]()
    for index in indices:
        assert level(rasters[index]) == index
        start = index // GOP
        furthest[start] = max(furthest.get(start, 0), index % GOP + 1)
    assert backlog.undecoded == COUNT - sum(furthest.values())


def test_many_may_look_at_once(clip: Path) -> None:
    backlog = Backlog()
    rasters = rasters_of(clip, backlog)
    order = [index * 7 % COUNT for index in range(2 * COUNT)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda index: level(rasters[index]), order)) == order
    assert backlog.undecoded == 0


@pytest.mark.parametrize("bound", ["MOST", "LARGEST"])
def test_far_behind_a_key_frame_they_are_decoded_as_they_come(
    bound: str, tmp_path: Path, decoded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_clip(tmp_path / "rare.mp4", COUNT, gop=COUNT // 2)
    monkeypatch.setattr(group, bound, 5)
    backlog = Backlog()
    rasters = rasters_of(path, backlog)
    assert len(decoded) == COUNT and backlog.undecoded == 0
    assert [level(raster) for raster in reversed(rasters)] == list(range(COUNT))[::-1]


def test_before_the_first_key_frame_there_is_no_picture(tmp_path: Path) -> None:
    whole = write_clip(tmp_path / "whole.ts", COUNT, gop=GOP)
    later = tmp_path / "later.ts"
    with av.open(str(whole)) as container, av.open(str(later), "w") as output:
        stream = output.add_stream_from_template(container.streams.video[0])
        for index, packet in enumerate(container.demux(video=0)):
            if index > 3 and packet.dts is not None:
                packet.stream = stream
                output.mux(packet)
    backlog = Backlog()
    rasters = rasters_of(later, backlog)
    assert [level(raster) for raster in rasters] == list(range(GOP, COUNT))
    assert backlog.undecoded == 0


def test_a_damaged_packet_leaves_the_picture_before_it(clip: Path, tmp_path: Path) -> None:
    with av.open(str(clip)) as container:
        packet = list(container.demux(video=0))[4]
    data = bytearray(clip.read_bytes())
    data[packet.pos : packet.pos + packet.size] = bytes(packet.size)
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(data)
    rasters = rasters_of(damaged)
    assert level(rasters[4]) == 3
    assert level(rasters[9]) in range(3, GOP)
    assert level(rasters[GOP]) == GOP, "its key frame begins anew"


@pytest.mark.parametrize("room", [group.MOST, 1])
def test_pictures_that_wait_for_others_come_too(
    room: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a stream with B frames, the first of a group would wait for those behind it."""
    monkeypatch.setattr(group, "MOST", room)
    path = tmp_path / "b.mp4"
    with av.open(str(path), "w") as container:
        settings = {"bf": "2", "g": str(GOP)}
        stream = container.add_stream("libx264", rate=30, options=settings)
        stream.width, stream.height = 64, 64
        stream.pix_fmt = "yuv420p"
        for index in range(COUNT):
            pixels = np.full((64, 64, 3), 4 * index, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    levels = [level(raster) for raster in rasters_of(path)]
    assert abs(len(levels) - COUNT) <= 8
    assert sorted(levels)[-1] >= COUNT - 4
    for earlier, later in pairwise(levels):
        assert later >= earlier - 2, "of the group before it"


def test_each_picture_of_motion_jpeg_stands_alone(tmp_path: Path, decoded: list[int]) -> None:
    backlog = Backlog()
    rasters = rasters_of(write_clip_with_sound(tmp_path / "sound.mkv"), backlog)
    assert (len(rasters), level(rasters[20]), backlog.undecoded) == (30, 20, 29)
    assert len(decoded) == 1


def test_a_size_that_changes_is_followed(tmp_path: Path) -> None:
    both = tmp_path / "both.ts"
    parts = [
        write_clip(tmp_path / "a.ts", GOP).read_bytes(),
        write_clip(tmp_path / "b.ts", GOP, size=(320, 180)).read_bytes(),
    ]
    both.write_bytes(b"".join(parts))
    shapes = {raster.to_rgb().shape for raster in rasters_of(both)}
    assert shapes == {(90, 160, 3), (180, 320, 3)}


def test_a_picture_that_is_too_large_is_not_decoded(
    clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rasters = rasters_of(clip)
    monkeypatch.setattr(decoder, "LARGEST", 160 * 90 - 1)
    with pytest.raises(SourceError, match="a picture cannot be decoded"):
        rasters[0].to_rgb()
