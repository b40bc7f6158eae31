"""Clips give every frame, in time, upright, and what is wrong with them at the end."""

from __future__ import annotations

import contextlib
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

import av
import numpy as np
import pytest
from clips import SIZE, level_of, write_clip, write_clip_with_sound
from hypothesis import given
from hypothesis import strategies as st

from vpt_edge import live
from vpt_edge.live import decoder
from vpt_edge.live.frame import Frame
from vpt_edge.live.source import each_frame
from vpt_edge.runtime.errors import SourceError

COUNT = 60


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", COUNT)


def read(path: object, **options: object) -> tuple[list[Frame], str]:
    """All that comes of a file, and the error behind it."""
    frames = list[Frame]()
    source = live.open(path, **options)  # type: ignore[arg-type]
    try:
        with source:
            frames.extend(each_frame(source))
    except SourceError as error:
        return frames, str(error)
    return frames, ""


@pytest.mark.parametrize("form", ["{path}", "file://{path}"])
def test_every_frame_comes(clip: Path, form: str) -> None:
    frames, problem = read(form.format(path=clip))
    assert problem == ""
    assert [frame.number for frame in frames] == list(range(COUNT))
    assert [level_of(frame.pixels) for frame in frames] == list(range(COUNT))
    assert np.allclose([frame.position for frame in frames], np.arange(COUNT) / 30, atol=1e-3)
    assert {frame.source for frame in frames} == {str(clip)}
    assert not frames[0].pixels.flags.writeable
    assert frames[0].pixels[5, 5, 0] > 200 > frames[0].pixels[5, 5, 2], "red, not blue"


def test_a_path_is_an_address(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(clip.parent)
    for place in (clip, "clip.mp4", "file://clip.mp4", Path("clip.mp4"), "./clip.mp4"):
        assert len(read(place)[0]) == COUNT


def test_brightness_is_had_without_the_picture(clip: Path) -> None:
    source = live.open(clip)
    frame = source.poll()
    assert frame is not None
    luma = frame.raster.to_luma(16, 9)
    assert luma.shape == (9, 16)
    grey = np.asarray(frame.image.convert("L").resize((16, 9), 4), int)
    inner = np.abs(luma - grey)[1:3, 1:6]
    assert inner.max() < 25, "of video range or of full range, it is much the same"
    source.close()


def test_a_clip_is_repeated(clip: Path) -> None:
    frames, problem = read(clip, loop=2)
    assert (len(frames), problem) == (3 * COUNT, "")
    positions = [frame.position for frame in frames]
    assert positions == sorted(positions) and len(set(positions)) == len(positions)
    source = live.open(clip, loop=-1)
    for _, _frame in zip(range(4 * COUNT), each_frame(source), strict=False):
        pass
    assert source.state == "live"
    source.close()
    assert source.poll() is None


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_with_eco_a_clip_gives_its_key_frames(suffix: str, tmp_path: Path) -> None:
    path = write_clip(tmp_path / f"clip{suffix}", COUNT, gop=10)
    with live.open(path, eco=True, loop=1) as source:
        frames = list(each_frame(source))
        counts = source.counts
    assert [level_of(frame.pixels) for frame in frames] == list(range(0, COUNT, 10)) * 2
    assert np.allclose([frame.position for frame in frames[:6]], np.arange(6) / 3, atol=1e-3)
    assert (counts.frames, counts.undecoded) == (12, 2 * COUNT - 12)


def test_of_a_clip_of_key_frames_eco_gives_all(tmp_path: Path) -> None:
    path = write_clip_with_sound(tmp_path / "sound.mkv", 30)
    with live.open(path, eco=True) as source:
        assert len(list(each_frame(source))) == 30
        assert source.counts.undecoded == 0


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_clip_that_is_cut_off_gives_its_good_frames_and_says_so(
    suffix: str, tmp_path: Path
) -> None:
    whole = write_clip(tmp_path / f"whole{suffix}", 120)
    cut = tmp_path / f"cut{suffix}"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    frames, problem = read(cut)
    assert 20 < len(frames) < 100
    assert [level_of(frame.pixels) for frame in frames[:20]] == list(range(20))
    assert str(cut) in problem and f"{len(frames)} pictures" in problem


def test_a_damaged_packet_is_passed_over_and_counted(clip: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.mp4"
    data = bytearray(clip.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 300] = bytes(index * 37 % 256 for index in range(300))
    damaged.write_bytes(data)
    frames, problem = read(damaged)
    assert COUNT // 2 < len(frames) <= COUNT
    assert frames[-1].position > 1.8, "it goes on behind the damage"
    assert "packets of the video could not be decoded" in problem


def test_a_phone_lies_on_its_side(clip: Path, tmp_path: Path) -> None:
    turned = tmp_path / "turned.mp4"
    data = bytearray(clip.read_bytes())
    header = data.index(b"tkhd")
    matrix = header + 4 + 40  # version and flags, times, ids, duration, layer, volume
    quarter = [0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30]
    data[matrix : matrix + 36] = b"".join(
        value.to_bytes(4, "big", signed=True) for value in quarter
    )
    turned.write_bytes(data)
    with av.open(str(turned)) as container:
        frame = next(container.decode(video=0))
        assert frame.rotation in (90, -90)
        sideways = frame.to_ndarray(format="rgb24")
    frames, _ = read(turned)
    pixels = frames[0].pixels
    assert pixels.shape == (SIZE[0], SIZE[1], 3)
    assert np.array_equal(pixels, np.rot90(sideways, frame.rotation // 90))
    assert pixels[5, -5, 0] > 200, "the corner that was upper left is upper right"
    luma = frames[0].raster.to_luma(9, 16)
    assert luma.shape == (16, 9)
    assert luma[2, 7] > luma[12, 2]


def test_it_is_turned_as_it_is_told(clip: Path) -> None:
    pixels = read(clip, flip="horizontal")[0][0].pixels
    assert pixels[5, -5, 0] > 200 > pixels[5, 5, 0]


def test_pictures_of_two_sizes_come_as_they_are(tmp_path: Path) -> None:
    parts = [
        write_clip(tmp_path / "a.ts", 10).read_bytes(),
        write_clip(tmp_path / "b.ts", 10, size=(320, 180)).read_bytes(),
    ]
    both = tmp_path / "both.ts"
    both.write_bytes(b"".join(parts))
    frames, _ = read(both)
    assert {frame.pixels.shape for frame in frames} == {(90, 160, 3), (180, 320, 3)}
    positions = [frame.position for frame in frames]
    assert positions == sorted(set(positions)), "the second begins again at 0"
    assert positions[-1] < 2.0


@pytest.mark.parametrize("content", [b"", b"no video", b"\x00" * 5000])
def test_what_is_not_a_video_is_said_at_once(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "notes.mp4"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=r"notes\.mp4 cannot be read as a video: PyAV says"):
        live.open(path)


def test_a_file_of_sound_alone_is_said(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    with pytest.raises(SourceError, match="there is no video in it"):
        live.open(path)


def test_a_picture_that_is_too_large_is_not_decoded(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoder, "LARGEST", 160 * 90 - 1)
    with pytest.raises(SourceError, match="160x90 pixels are more than 14399"):
        live.open(clip)
    larger = write_clip(tmp_path / "b.ts", 10, size=(320, 180)).read_bytes()
    growing = tmp_path / "growing.ts"
    growing.write_bytes(write_clip(tmp_path / "a.ts", 10).read_bytes() + larger)
    monkeypatch.setattr(decoder, "LARGEST", 20_000)
    frames, problem = read(growing)
    assert {frame.pixels.shape for frame in frames} == {(90, 160, 3)}
    assert "could not be decoded" in problem


def test_sound_is_passed_over(tmp_path: Path) -> None:
    frames, problem = read(write_clip_with_sound(tmp_path / "sound.mkv", 30))
    assert problem == ""
    assert [level_of(frame.pixels) for frame in frames] == list(range(30))
    assert np.allclose([frame.position for frame in frames], np.arange(30) / 30, atol=2e-3)


@pytest.mark.parametrize(
    "playlist",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{name}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile {name}\n",
        "v=0\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
    ],
)
def test_a_file_that_leads_to_others_is_refused(playlist: str, tmp_path: Path) -> None:
    write_clip(tmp_path / "other.ts", 10)
    path = tmp_path / "clip.mp4"
    path.write_text(playlist.format(name="other.ts"))
    with pytest.raises(SourceError, match="cannot be read as a video"):
        live.open(path)


def test_a_name_is_not_a_protocol(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FFmpeg would open the file behind "concat:"."""
    monkeypatch.chdir(tmp_path)
    Path(f"concat:{clip.name}").write_bytes(clip.read_bytes())
    (tmp_path / clip.name).write_bytes(b"")
    assert len(read(f"concat:{clip.name}")[0]) == COUNT


def test_a_frame_is_converted_by_many_at_once(clip: Path) -> None:
    frame = next(each_frame(live.open(clip)))
    expected = frame.raster.to_rgb()
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: frame.raster.to_rgb(), range(64)))
    assert all(np.array_equal(result, expected) for result in results)


def test_files_and_threads_are_given_back(clip: Path) -> None:
    read(clip)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        read(clip)
        live.open(clip).close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@given(st.integers(0, 1 << 30), st.binary(min_size=1, max_size=64), st.booleans())
def test_a_damaged_clip_ends_in_frames_or_one_error(place: int, damage: bytes, cut: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        data = bytearray(small_clip())
        place %= len(data)
        data[place : place + len(damage)] = damage
        if cut:
            del data[place:]
        path = Path(folder) / "clip.mp4"
        path.write_bytes(data)
        with contextlib.suppress(SourceError):
            for frame in each_frame(live.open(path)):
                assert frame.pixels.ndim == 3


@lru_cache
def small_clip() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return write_clip(Path(folder) / "clip.mp4", 8, size=(32, 32)).read_bytes()
