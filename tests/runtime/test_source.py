"""Pictures given as something else than a file: taken, or a short line that says what they are."""

from __future__ import annotations

import array
import base64
import io
import mmap
import os
import socket
import threading
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from pictures import file_of, noise
from PIL import Image
from scripted import PICTURE, Tiny

from vpt_edge.runtime import Pipeline, source
from vpt_edge.runtime.errors import ImageError
from vpt_edge.runtime.image import open_picture, regularize
from vpt_edge.runtime.testing import Script

if TYPE_CHECKING:
    from collections.abc import Callable

SHOWN = noise(50, 40)
DATA = file_of(SHOWN, "PNG")


def check_taken(given: Any) -> None:
    np.testing.assert_array_equal(np.asarray(open_picture(given)), np.asarray(SHOWN))


def refusal(given: Any) -> str:
    with pytest.raises(ImageError) as error:
        open_picture(given)
    text = str(error.value)
    assert "\n" not in text and len(text) < 400
    return text


class Unwilling(io.RawIOBase):
    """A file that cannot go back, as an answer of a web server."""

    def __init__(self, data: bytes) -> None:
        self._left = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self._left.read(min(len(buffer), 100))
        buffer[: len(piece)] = piece
        return len(piece)


class Reader:
    """What has ``read`` and nothing else."""

    def __init__(self, data: Any) -> None:
        self._data = data

    def read(self, count: int = -1) -> Any:
        data = self._data
        self._data = b""
        return data


class Upload:
    async def read(self, count: int = -1) -> bytes:
        return DATA


class Tensor:
    """What numpy takes for an array, or does not."""

    def __init__(self, values: Any) -> None:
        self._values = values

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        if isinstance(self._values, Exception):
            raise self._values
        return self._values


class Raising:
    """What raises wherever it is touched."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattribute__(self, name: str) -> Any:
        if name == object.__getattribute__(self, "_name"):
            raise RuntimeError(f"no\n{name}")
        return object.__getattribute__(self, name)


class Place:
    """A path that is none."""

    def __init__(self, path: Any) -> None:
        self._path = path

    def __fspath__(self) -> Any:
        if isinstance(self._path, Exception):
            raise self._path
        return self._path


def lazy(name: str, error: Exception) -> Image.Image:
    """A PIL image of another library, whose ``name`` fails."""

    def fail(*_: object) -> Any:
        raise error

    value = property(fail) if name == "size" else fail
    picture: Image.Image = type("Lazy", (Image.Image,), {name: value})()
    picture._im = Image.new("RGB", (9, 9)).im
    picture._mode = "RGB"
    picture._size = (9, 9)
    return picture


def unwound() -> io.BytesIO:
    stream = io.BytesIO()
    SHOWN.save(stream, "PNG")
    return stream


def mapped(folder: Path) -> mmap.mmap:
    (folder / "mapped.png").write_bytes(DATA)
    with (folder / "mapped.png").open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


@pytest.mark.parametrize(
    "given",
    [
        DATA,
        bytearray(DATA),
        memoryview(DATA),
        memoryview(DATA + DATA)[: len(DATA)],
        memoryview(b"".join(bytes((byte, 0)) for byte in DATA))[::2],
        io.BytesIO(DATA),
        unwound(),
        io.BufferedReader(Unwilling(DATA)),
        Unwilling(DATA),
        Reader(DATA),
        Reader(bytearray(DATA)),
        np.asarray(SHOWN),
        Tensor(np.asarray(SHOWN)),
    ],
    ids=lambda given: type(given).__name__,
)
def test_bytes_files_and_tensors_are_taken(given: Any) -> None:
    check_taken(given)


def test_files_and_paths_of_any_sort_are_taken(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(DATA)
    check_taken(path)
    check_taken(str(path))
    with path.open("rb") as file:
        check_taken(file)
        check_taken(file)
        check_taken(f"/dev/fd/{file.fileno()}")
    with os.scandir(tmp_path) as entries:
        (entry,) = entries
    check_taken(entry)
    (tmp_path / "link").symlink_to(path)
    check_taken(tmp_path / "link")
    check_taken(mapped(tmp_path))


def test_a_pipe_is_read_to_its_end(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    writer = threading.Thread(target=(tmp_path / "fifo").write_bytes, args=(DATA,))
    writer.start()
    check_taken(tmp_path / "fifo")
    writer.join()


def test_a_pipe_that_does_not_end_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "STREAM_BYTES", 1 << 20)
    assert "gives more than 1 MiB" in refusal(Reader(bytes((1 << 20) + 1)))
    check_taken(Reader(DATA))


def test_a_large_file_that_is_not_a_picture_is_not_read(tmp_path: Path) -> None:
    """A checkpoint instead of a picture must not fill the memory."""
    path = tmp_path / "model.safetensors"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    assert "is not a picture" in refusal(path)


NAMES = "expected a path, bytes, a binary file, a PIL image or an RGB array"


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (None, f"the picture is None, {NAMES}"),
        (0, f"the picture is int, {NAMES}"),
        (True, "the picture is bool"),
        (1.5, "the picture is float"),
        (["a.png"], "the picture is list"),
        ({"url": "a.png"}, "the picture is dict"),
        (Image, "the picture is module"),
        (Image.Image, "the picture is type"),
        (array.array("B", DATA), "the picture is array"),
        ("", f"the path is empty, {NAMES}"),
        ("a\0b.png", r"no picture at a\u0000b.png: embedded null byte"),
        ("x" * 5000 + ".png", ".png (5004 characters): File name too long"),
        (Path("y" * 300), "(300 characters): File name too long"),
        ("a\ud800.png", r"no picture at a\ud800.png"),
        ("line\nbreak.png", "no picture at line break.png: the file is missing"),
        ("missing/a.png", "no picture at missing/a.png: the file is missing"),
        (__file__ + "/a.png", "Not a directory"),
        (__file__, "is not a picture"),
        ("https://example.com/cat.png", "is an address, expected"),
        (Path("https://example.com/cat.png"), "is an address, expected"),
        ("HTTP://example.com", "is an address, expected"),
        ("file:///tmp/cat.png", "is an address, expected"),
        ("rtsp://camera/1", "is an address, expected"),
        ("data:image/png;base64," + base64.b64encode(DATA).decode(), "is a data: URI, expected"),
        ("data:image/png;base64,iVBORw0KGgo=", "base64.b64decode"),
        ("/dev/null", "no picture at /dev/null: it is a device"),
        ("/dev/zero", "it is a device"),
        ("/dev", "it is a folder"),
        (b"", "the data of 0 bytes is not a picture"),
        (b"/tmp/a.png", "the data of 10 bytes is not a picture"),
        (io.StringIO("text"), 'the StringIO gives text, expected a path, bytes, a binary file'),
        (io.TextIOWrapper(io.BytesIO(DATA)), 'open it with "rb"'),
        (Reader("text"), "the Reader gives str"),
        (Reader([DATA]), "the Reader gives list"),
        (Reader(None), "the Reader is not a picture"),
        (Upload(), "the Upload is to be awaited"),
        (Tensor(TypeError("can't convert cuda:0\ndevice")), "can't convert cuda:0 device"),
        (Tensor(MemoryError()), "the Tensor cannot be read as a picture: MemoryError"),
        (Tensor([1]), "not producing an array; give it as a file"),
        (Raising("__array__"), "the Raising cannot be read as a picture: no __array__"),
        (Raising("read"), "the Raising cannot be read as a picture: no read"),
        (Place(3), "the Place cannot be read as a picture: expected Place.__fspath__() to return"),
        (Place(None), "the Place cannot be read as a picture"),
        (Place(OSError(5, "no\npath")), "the Place cannot be read as a picture: [Errno 5] no path"),
        (Place(b"/\xff/a.png"), r"no picture at /\udcff/a.png: the file is missing"),
        (lazy("load", ValueError("no\nload")), "the PIL image is damaged: no load"),
        (lazy("load", MemoryError()), "the PIL image does not fit into memory: 9x9 pixels"),
        (lazy("copy", ValueError("no copy")), "the Lazy cannot be read as a picture: no copy"),
        (lazy("size", ValueError("no size")), "the Lazy cannot be read as a picture: no size"),
        (np.str_("missing.png"), "no picture at missing.png: the file is missing"),
        (np.bytes_(b"x"), "the data of 1 bytes is not a picture"),
    ],
    ids=lambda value: ascii(value)[:30] if isinstance(value, str) else type(value).__name__,
)  # fmt: skip
def test_what_is_not_taken_is_said_in_one_short_line(given: Any, problem: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert problem in refusal(given)


def test_what_is_closed_says_so() -> None:
    stream = io.BytesIO(DATA)
    stream.close()
    assert "the BytesIO cannot be read: I/O operation on closed file" in refusal(stream)
    view = memoryview(bytearray(DATA))
    view.release()
    assert "the memoryview cannot be read" in refusal(view)
    picture = noise(9, 9)
    picture.close()
    assert refusal(picture).endswith("closed image; save the picture anew, or open it again")


def test_a_socket_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        assert "no picture at socket: it is a socket" in refusal("socket")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_says_so(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(DATA)
    path.chmod(0)
    assert "Permission denied" in refusal(path)


@pytest.mark.parametrize(
    ("shape", "dtype", "fix"),
    [
        ((3, 40, 50), "uint8", "array.transpose(1, 2, 0)"),
        ((1, 40, 50), "uint8", "array.transpose(1, 2, 0)"),
        ((3, 40, 50), "float32", "array.transpose(1, 2, 0)"),
        ((40, 50), "uint8", "numpy.stack([array] * 3, axis=2)"),
        ((40, 50, 1), "uint8", "array.repeat(3, axis=2)"),
        ((40, 50, 4), "uint8", "array[:, :, :3]"),
        ((1, 40, 50, 3), "uint8", "array[0]"),
        ((40, 50, 3), "float64", "scale it to 0..255 and round it"),
        ((40, 50, 3), "uint16", "array.astype(numpy.uint8)"),
        ((40, 50, 3), "bool", "scale it to 0..255"),
    ],
)
def test_an_array_that_is_almost_a_picture_learns_what_to_do(
    shape: tuple[int, ...], dtype: str, fix: str
) -> None:
    assert fix in refusal(np.zeros(shape, dtype))


def test_an_array_of_a_thousand_fields_is_one_short_line() -> None:
    refusal(np.zeros(3, [(f"field{index}", "u1") for index in range(1000)]))


@pytest.mark.parametrize("form", ["EPS", "ICO", "TGA", "PCX", "SGI", "JPEG2000", "PDF", "DDS"])
def test_no_other_reader_of_pillow_is_reached(form: str, tmp_path: Path) -> None:
    if form not in Image.SAVE and not Image.init():
        pytest.skip("Pillow was built without it")
    data = file_of(noise(32, 32), form)
    (tmp_path / "picture.png").write_bytes(data)
    for given in (data, io.BytesIO(data), tmp_path / "picture.png"):
        assert "is not a picture: expected PNG, JPEG, WebP, TIFF, GIF, BMP or PPM" in refusal(given)


def test_what_is_opened_elsewhere_is_taken_in_any_format() -> None:
    with Image.open(io.BytesIO(file_of(SHOWN, "TGA"))) as picture:
        check_taken(picture)


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "TIFF", "JPEG", "MPO"])
def test_a_picture_needs_its_file_no_longer(form: str, tmp_path: Path) -> None:
    options = {} if form == "JPEG" else {"save_all": True, "append_images": [noise(50, 40)]}
    path = tmp_path / "picture"
    path.write_bytes(file_of(SHOWN.convert("L").convert("RGB"), form, **options))
    picture = open_picture(path)
    path.unlink()
    assert picture.copy().size == picture.crop((0, 0, 50, 40)).size == (50, 40)
    assert regularize(picture, 512).mode == "RGB"


def bomb(width: int, height: int) -> bytes:
    """The header of a picture of so many pixels, and no more."""
    return f"P4\n{width} {height}\n".encode()


def broadcast(width: int, height: int) -> np.ndarray[Any, Any]:
    """An array that is one pixel over and over."""
    return np.broadcast_to(np.zeros((1, 1, 3), np.uint8), (height, width, 3))


def unread(width: int, height: int) -> Image.Image:
    """A PIL image whose file was opened, and not read."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        picture = Image.open(io.BytesIO(file_of(Image.new("RGB", (1, 1)), "PNG")))
    picture._size = (width, height)
    return picture


@pytest.mark.parametrize("make", [bomb, broadcast, unread])
@pytest.mark.parametrize(
    ("width", "height"),
    [(60_000, 60_000), (10**6, 10**6), (200_000, 200_000), (1, 10**9), (10**9, 1), (2, 89478486)],
)
def test_more_pixels_than_pillow_reads_are_refused(
    make: Callable[[int, int], Any], width: int, height: int
) -> None:
    text = refusal(make(width, height))
    assert text.endswith("has more than 178956970 pixels; shrink it, or raise "
                         "PIL.Image.MAX_IMAGE_PIXELS")  # fmt: skip


def test_the_limit_is_pillows_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)
    given = (DATA, np.asarray(SHOWN), SHOWN)
    for each in given:
        check_taken(each)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 999)
    for each in given:
        assert "has more than 1998 pixels" in refusal(each)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    for each in given:
        check_taken(each)


@pytest.mark.parametrize("make", [bomb, broadcast, unread])
@pytest.mark.parametrize(("width", "height"), [(1, 10**7), (10**7, 1), (3, 29_000_000)])
def test_too_thin_a_picture_is_refused_before_it_is_read(
    make: Callable[[int, int], Any],
    width: int,
    height: int,
    tiny: Tiny,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = make(width, height)
    monkeypatch.setattr(Image, "fromarray", None)
    too_thin = pytest.raises(ImageError, match=f"{width}x{height} pixels is too thin")
    with Pipeline(tiny(), opener=Script()) as pipeline, too_thin:
        pipeline.encode(given)


@pytest.mark.parametrize("mode", ["La", "I;16B", "I;16L", "I;16N"])
def test_a_rare_mode_is_shown_or_named(mode: str) -> None:
    picture = open_picture(Image.new(mode, (40, 40)))
    try:
        picture.convert("RGB")
    except ValueError:
        with pytest.raises(ImageError, match=f"a picture of mode {mode} cannot be shown"):
            regularize(picture, 512)
    else:
        assert regularize(picture, 512).mode == "RGB"


def grey(factor: int) -> np.ndarray[Any, Any]:
    return np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) % 256 * factor


WIDE: list[tuple[str, Callable[[], bytes]]] = [
    ("white", lambda: file_of(Image.fromarray(grey(257)), "PNG")),
    ("white", lambda: file_of(Image.fromarray(grey(16)), "TIFF")),
    ("white", lambda: file_of(Image.fromarray(grey(16).astype(np.int32)), "TIFF")),
    ("white", lambda: file_of(Image.fromarray(grey(2).astype(np.float32)), "TIFF")),
    ("black", lambda: file_of(Image.fromarray(grey(1).astype(np.float32) / 255), "TIFF")),
    ("", lambda: file_of(Image.fromarray(grey(1)), "PNG")),
    ("", lambda: file_of(Image.fromarray(grey(1).astype(np.float32)), "TIFF")),
    ("", lambda: file_of(Image.fromarray(grey(0).astype(np.float32)), "TIFF")),
    ("", lambda: file_of(noise(64, 64), "PNG")),
]


@pytest.mark.parametrize(("shown", "make"), WIDE)
def test_a_picture_of_wider_values_is_hinted_at_once(
    shown: str, make: Callable[[], bytes], tiny: Tiny
) -> None:
    data = make()
    with Pipeline(tiny(), opener=Script("Yes.", "No.", "So.")) as pipeline:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            pipeline.ask(data, "What?")
            pipeline.ask(data, "Who?")
        pipeline.ask(PICTURE, "Why?")
    texts = [str(warning.message) for warning in caught]
    assert len(texts) == (1 if shown else 0)
    if shown:
        assert f"which are shown {shown}, as by the authors' code; scale it" in texts[0]
        assert caught[0].filename == __file__
        pixels = np.asarray(regularize(open_picture(data), 512))
        assert ((pixels == 255).mean() > 0.4) if shown == "white" else pixels.max() <= 1


def test_altered_values_of_a_wide_picture_are_the_authors() -> None:
    """Exact, though white: Pillow's own cut."""
    picture = Image.fromarray(grey(257))
    expected = picture.convert("RGB")
    np.testing.assert_array_equal(np.asarray(regularize(picture, 512)), np.asarray(expected))
