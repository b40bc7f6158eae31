"""What a client may try with pictures, over HTTP, and what comes back."""

from __future__ import annotations

import base64
import json
import threading
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
from certificates import make_certificate
from picture_host import PictureHost
from pictures import file_of
from PIL import ExifTags, Image, PngImagePlugin
from scripted import PICTURE, PICTURE_TOKENS
from serving import Served, address_part, text_part

from vpt_edge.server import ollama_request

if TYPE_CHECKING:
    import httpx

Serve = Callable[..., Served]

MEBIBYTE = 1 << 20
STATUS = Path("/proc/self/status")


def outcome(reply: httpx.Response) -> tuple[int, str]:
    return reply.status_code, reply.json()["error"]["code"]


def address_of(data: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def forget_peak() -> int:
    """Begin to measure the most memory that this process takes; returns what it takes now."""
    Path("/proc/self/clear_refs").write_text("5")
    return read_status("VmRSS")


def read_status(name: str) -> int:
    """Bytes."""
    for line in STATUS.read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise LookupError(name)


def black_png(width: int, height: int) -> bytes:
    return file_of(Image.new("RGB", (width, height)), "PNG", compress_level=9)


def test_a_file_is_read_below_the_folder_that_is_allowed_and_nowhere_else(
    serve: Serve, tmp_path: Path
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "a.png").write_bytes(file_of(PICTURE, "PNG"))
    (folder / "link.png").symlink_to("/etc/passwd")
    (tmp_path / "b.png").write_bytes(file_of(PICTURE, "PNG"))
    closed = serve("A dog.")
    assert outcome(closed.ask_about(f"file://{folder}/a.png")) == (400, "invalid_image_url")
    served = serve("A dog.", allow_files=folder)
    assert served.ask_about(f"file://{folder}/a.png").status_code == 200
    tries = (
        "file:///etc/passwd",
        f"file://{folder}/link.png",
        f"file://{folder}/../b.png",
        f"file://{folder}/%2e%2e/b.png",
        "file:///dev/zero",
        "file:///proc/self/environ",
        f"file://{folder}",
    )
    for address in tries:
        reply = served.ask_about(address)
        assert outcome(reply) == (400, "invalid_image_url")
        assert "root:" not in reply.text


def test_pictures_are_fetched_from_hosts_that_are_allowed(serve: Serve) -> None:
    with PictureHost() as host:
        closed = serve("A dog.")
        assert outcome(closed.ask_about(f"{host.url}/picture.png")) == (400, "invalid_image_url")
        served = serve("A dog.", allow_urls=(host.place,))
        assert served.ask_about(f"{host.url}/picture.png").status_code == 200
        elsewhere = f"http://127.0.0.1:{host.port}/picture.png"
        assert outcome(served.ask_about(elsewhere)) == (400, "invalid_image_url")
        moved = f"{host.url}/moved?to={elsewhere}"
        assert outcome(served.ask_about(moved)) == (400, "invalid_image_url")
        metadata = f"{host.url}/moved?to=http://169.254.169.254/latest/meta-data/"
        assert outcome(served.ask_about(metadata)) == (400, "invalid_image_url")
        assert len(host.hosts) == 3


def test_a_bad_host_gives_a_client_an_error_and_the_server_goes_on(serve: Serve) -> None:
    with PictureHost() as host:
        served = serve("A dog.", allow_urls=(host.place,))
        for path in ("missing", "packed", "endless", "half", "rubbish", "again"):
            reply = served.ask_about(f"{host.url}/{path}")
            assert outcome(reply) == (400, "image_fetch_failed")
        assert outcome(served.ask_about(f"{host.url}/page")) == (400, "invalid_image_format")
        assert served.ask_about(f"{host.url}/picture.png").status_code == 200


def test_a_name_that_turns_local_is_not_connected_to(serve: Serve) -> None:
    with PictureHost() as host:
        served = serve("A dog.", allow_urls=(f"example.org:{host.port}",))
        fetcher = cast(Any, served.listener.service.pictures)._fetcher

        async def resolve(name: str, port: int) -> list[str]:
            return ["127.0.0.1"]

        fetcher._resolve = resolve
        reply = served.ask_about(f"http://example.org:{host.port}/picture.png")
        assert outcome(reply) == (400, "invalid_image_url")
        assert "127.0.0.1" not in reply.text
        assert host.hosts == []


def test_a_server_without_a_valid_certificate_is_not_fetched_from(
    serve: Serve, tmp_path: Path
) -> None:
    with PictureHost(make_certificate(tmp_path)) as host:
        served = serve("A dog.", allow_urls=(host.place,))
        reply = served.ask_about(f"{host.url}/picture.png")
        assert outcome(reply) == (400, "image_fetch_failed")
        assert host.hosts == []


def test_a_small_file_of_81_million_pixels_is_refused_by_its_header(serve: Serve) -> None:
    served = serve("A dog.")
    data = black_png(9000, 9000)
    assert len(data) < 300_000
    address = address_of(data)
    served.ask_about("data:image/png;base64,AA==")  # what a first request takes
    before = forget_peak()
    reply = served.ask_about(address)
    assert outcome(reply) == (400, "image_too_large")
    assert "9000x9000" in reply.text
    assert read_status("VmHWM") - before < 32 * MEBIBYTE  # of 309, where it is decoded


def test_pictures_that_wait_take_the_memory_of_their_files(serve: Serve) -> None:
    count = 6
    served = serve("A dog.", *(["A cat."] * count), cache_bytes=0)
    session = served.script.sessions["decoder"]
    run = session.run
    begun = threading.Event()
    go_on = threading.Event()

    def run_when_let_go(inputs: Any, outputs: Any) -> None:
        begun.set()
        assert go_on.wait(30)
        run(inputs, outputs)

    cast(Any, session).run = run_when_let_go
    worker = served.listener.service.worker
    address = address_of(black_png(4000, 4000))
    with ThreadPoolExecutor(1 + count) as pool:
        first = pool.submit(served.ask)
        assert begun.wait(30)
        before = forget_peak()
        others = [pool.submit(served.ask_about, address) for _ in range(count)]
        served.wait_until(lambda: worker.waiting == count)
        grown = read_status("VmHWM") - before
        bad = served.ask_about("data:image/png;base64,AA==")  # what is wrong waits for nobody
        assert outcome(bad) == (400, "invalid_image_format")
        go_on.set()
        assert {reply.result().status_code for reply in (first, *others)} == {200}
    assert grown < 48 * MEBIBYTE  # one picture has 61, all have 366


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/chat"])
def test_the_base64_of_a_picture_does_not_wait_with_it(serve: Serve, path: str) -> None:
    data = file_of(noise((700, 500)), "PNG")
    message: dict[str, Any] = {"role": "user", "content": "What?"}
    if path == "/api/chat":
        message["images"] = [base64.b64encode(data).decode()]
    else:
        message["content"] = [text_part("What?"), address_part(address_of(data))]
    served = serve("A dog.")
    tracemalloc.start()
    try:
        with ThreadPoolExecutor() as pool, served.hold():
            asking = pool.submit(served.client.post, path, json={"messages": [message]})
            served.wait_jobs(running=1, waiting=0)
            # Not at once: a thread lets go of its last task when it comes to that.
            served.wait_until(lambda: traced_texts() < len(data) / 2)
    finally:
        tracemalloc.stop()
    assert asking.result().status_code == 200


def traced_texts() -> int:
    """Bytes of what requests say, and of addresses made of it."""
    files = (json.decoder.__file__, ollama_request.__file__)
    filters = [tracemalloc.Filter(True, file) for file in files]
    texts = tracemalloc.take_snapshot().filter_traces(filters)
    return sum(trace.size for trace in texts.traces)


def noise(size: tuple[int, int] = (96, 64)) -> Image.Image:
    width, height = size
    values = np.random.default_rng(1).integers(0, 255, (height, width, 3), np.uint8)
    return Image.fromarray(values)


def pictures_of_all_kinds() -> dict[str, bytes]:
    frames = {"save_all": True, "append_images": [Image.new("RGB", (96, 64))]}
    deep = Image.fromarray(np.arange(64 * 96, dtype=np.uint16).reshape(64, 96))
    return {
        "animated GIF": file_of(noise(), "GIF", **frames),
        "animated PNG": file_of(noise(), "PNG", **frames),
        "animated WebP": file_of(noise(), "WEBP", **frames),
        "16 bits": file_of(deep, "PNG"),
        "CMYK": file_of(noise().convert("CMYK"), "JPEG"),
        "MPO": file_of(noise(), "MPO", **frames),
        "transparent palette": file_of(noise().convert("P"), "PNG", transparency=b"\0\x80"),
        "grey": file_of(noise().convert("L"), "JPEG"),
    }


@pytest.mark.filterwarnings("ignore:Palette images", "ignore:a picture has values")
def test_pictures_of_all_kinds_are_answered(serve: Serve) -> None:
    files = pictures_of_all_kinds()
    served = serve(*(["A dog."] * len(files)))
    for name, data in files.items():
        reply = served.ask_about(address_of(data))
        assert (name, reply.status_code) == (name, 200)
        assert reply.json()["vpt"]["size"] == [96, 64]


def test_what_is_not_a_whole_picture_is_refused(serve: Serve) -> None:
    served = serve("A dog.")
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "a" * (1 << 24), zip=True)
    tries = (
        file_of(noise(), "PNG")[:2000],
        file_of(noise(), "JPEG")[:1000],
        file_of(noise(), "PNG", pnginfo=info),
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%!PS-Adobe-3.0 EPSF-3.0\n",
        b"GIF89a",
    )
    for data in tries:
        assert outcome(served.ask_about(address_of(data))) == (400, "invalid_image_format")
    assert outcome(served.ask_about("data:image/png;base64,")) == (400, "invalid_image_format")
    assert outcome(served.ask_about("data:image/png,a")) == (400, "invalid_image_url")
    assert served.ask().status_code == 200


def test_a_phone_s_picture_is_seen_upright(serve: Serve) -> None:
    """The box of a look is in pixels of the picture as a browser shows it."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    turned = PICTURE.transpose(Image.Transpose.ROTATE_270)
    served = serve("A dog.", "A dog.")
    reply = served.ask_about(address_of(file_of(PICTURE, "PNG", exif=exif))).json()
    assert reply["vpt"]["size"] == [64, 96]
    served.ask(picture=turned)
    first, second = served.script.sessions["vision_encoder"].calls
    assert np.array_equal(first["patches"], second["patches"])


def test_a_second_question_about_a_picture_computes_its_own_tokens_only(serve: Serve) -> None:
    served = serve("A dog.", "Two.", "Red.")
    first = served.ask(text="What is it?").json()
    second = served.ask(text="How many?").json()
    third = served.ask(text="Which colour?", stream=False).json()
    assert first["vpt"]["usage"]["vision_runs"] == 1
    assert first["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
    for reply in (second, third):
        usage = reply["vpt"]["usage"]
        assert usage["vision_runs"] == 0
        cached = reply["usage"]["prompt_tokens_details"]["cached_tokens"]
        assert cached > PICTURE_TOKENS
        total = reply["usage"]["total_tokens"]
        assert usage["computed_tokens"] == total - cached - 1
        assert usage["computed_tokens"] < first["vpt"]["usage"]["computed_tokens"] - PICTURE_TOKENS


def test_another_picture_in_between_costs_the_prefill_and_no_encoding(serve: Serve) -> None:
    served = serve("A dog.", "Two.", "A cat.", "Two.")
    served.ask(text="What is it?")
    own = served.ask(text="How many?").json()["vpt"]["usage"]
    served.ask(text="What is it?", picture=noise())
    again = served.ask(text="How much?").json()["vpt"]["usage"]
    assert again["vision_runs"] == 0
    assert again["computed_tokens"] >= own["computed_tokens"] + PICTURE_TOKENS
    assert len(served.script.sessions["vision_encoder"].calls) == 2


def test_many_who_ask_about_one_picture_at_once_encode_it_once(serve: Serve) -> None:
    count = 8
    served = serve(*(["A dog."] * count))
    questions = [f"{number} of what?" for number in range(count)]
    with ThreadPoolExecutor(count) as pool:
        replies = list(pool.map(lambda text: served.ask(text=text), questions))
    assert [reply.status_code for reply in replies] == [200] * count
    runs = [reply.json()["vpt"]["usage"]["vision_runs"] for reply in replies]
    assert sum(runs) == 1
    cache = served.listener.service.cache
    assert (cache.misses, cache.hits) == (1, count - 1)


def test_the_cache_lets_pictures_go_and_questions_about_them_go_on(serve: Serve) -> None:
    served = serve("One.", "Two.", "Three.", cache_bytes=40_000)  # of one of them
    assert served.ask(text="What?").status_code == 200
    assert served.ask(text="What?", picture=noise()).status_code == 200
    reply = served.ask(text="Where?").json()
    assert reply["vpt"]["usage"]["vision_runs"] == 1
    cache = served.listener.service.cache
    assert (len(cache), cache.evictions) == (1, 2)
    assert cache.size <= 40_000


def test_when_a_server_ends_its_pictures_are_let_go(serve: Serve) -> None:
    served = serve("One.")
    served.ask()
    cache = served.listener.service.cache
    assert len(cache) == 1
    served.close()
    assert (len(cache), cache.size) == (0, 0)
