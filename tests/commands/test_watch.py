"""vpt-watch as a person uses it, with a model that speaks from a script."""

from __future__ import annotations

import functools
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import rtsp
from mosquitto import Listener, Mosquitto, needs_mosquitto, wait_until
from sources import frame

from vpt_edge import live
from vpt_edge.commands import watch as watch_command
from vpt_edge.live.sinks.mp4 import Mp4
from vpt_edge.live.source import each_frame
from vpt_edge.runtime import Pipeline
from vpt_edge.runtime.testing import Script, tiny_bundle

# Whatever the tests were started with: a background job ignores Ctrl-C.
CHILD = """
import functools, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
import vpt_edge.runtime.pipeline as module
from vpt_edge.runtime.testing import Script
module.Pipeline = functools.partial(module.Pipeline, opener=Script(*["yes"] * 10000))
from vpt_edge.commands.watch import main
sys.exit(main(sys.argv[1:]))
"""
CAMERA = "testsrc://?width=160&height=120"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_bundle(tmp_path_factory.mktemp("tiny")).path)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Three seconds at 25 frames a second, brighter from frame to frame."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    mp4 = Mp4(path, (96, 64))
    for number in range(75):
        pixels = np.full((64, 96, 3), 3 * number, np.uint8)
        mp4.write(frame(number, pixels).image, number / 25)
    mp4.close()
    return str(path)


@pytest.fixture(autouse=True)
def _scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script(*(f"answer {number}" for number in range(200)))
    opened = functools.partial(Pipeline, opener=script)
    monkeypatch.setattr("vpt_edge.runtime.pipeline.Pipeline", opened)


def fails(capsys: pytest.CaptureFixture[str], code: int) -> str:
    """The one line of a command that ended badly."""
    printed = capsys.readouterr()
    assert code == 2
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
    return printed.err


def read(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def play(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    return [round(float(each.time), 3) for each in frames if each.time is not None]


def test_a_clip_is_watched_to_its_end(
    bundle: str, clip: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert watch_command.main([bundle, clip, "Open?", "--every", "1"]) == 0
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert [line.split("  ")[1] for line in lines] == ["answer 0", "answer 1", "answer 2"]
    assert printed.err == (
        "75 frames, 3 asked about; dropped: 0 busy, 72 every, 0 gate; 0 failed; 0 reconnects\n"
    )


def test_each_frame_and_a_count(bundle: str, clip: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert watch_command.main([bundle, clip, "Open?", "--each", "--count", "4"]) == 0
    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) == 4
    assert "4 frames, 4 asked about" in printed.err


def test_eco(bundle: str, clip: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The clip has a key frame every two seconds."""
    assert watch_command.main([bundle, clip, "Open?", "--each", "--eco"]) == 0
    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) == 2
    assert printed.err == (
        "2 frames, 2 asked about; dropped: 0 busy, 0 every, 0 gate; 0 failed; 0 reconnects"
        "; 73 undecoded\n"
    )
    code = watch_command.main([bundle, CAMERA, "Open?", "--eco"])
    assert "testsrc:// does not take eco" in fails(capsys, code)


def test_on_change(bundle: str, clip: str, capsys: pytest.CaptureFixture[str]) -> None:
    """0.06 of 255 is about five frames of three steps."""
    assert watch_command.main([bundle, clip, "Open?", "--each", "--on-change"]) == 0
    numbers = [int(word) for word in re.findall(r"\d+", capsys.readouterr().err)]
    frames, asked, busy, every, gate, *_ = numbers
    assert (frames, busy, every, asked + gate) == (75, 0, 0, 75)
    assert 12 < asked < 16
    arguments = ["--each", "--on-change=0.9", "--longest-silence", "1"]
    assert watch_command.main([bundle, clip, "Open?", *arguments]) == 0
    assert "75 frames, 3 asked about; dropped: 0 busy, 0 every, 72" in capsys.readouterr().err


def test_lines_for_programs(
    bundle: str, clip: str, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert watch_command.main([bundle, clip, "A?", "B?", "--jsonl", "-", "--count", "2"]) == 0
    lines = [json.loads(line) for line in capfdbinary.readouterr().out.splitlines()]
    assert [line["question"] for line in lines] == ["A?", "B?"]
    assert [line["usage"]["vision_runs"] for line in lines] == [1, 0]


def test_several_sources_and_questions(
    bundle: str, clip: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.mp4"
    other.write_bytes(Path(clip).read_bytes())
    arguments = [bundle, clip, "A?", "B?", "--source", str(other), "--every", "1.5"]
    assert watch_command.main([*arguments, "--output", str(tmp_path / "out.mp4")]) == 0
    printed = capsys.readouterr()
    words = [line.split("  ")[1:3] for line in printed.out.splitlines()]
    assert words == [[clip, "A?"], [clip, "B?"], [str(other), "A?"], [str(other), "B?"]] * 2
    assert "150 frames, 4 asked about" in printed.err
    times = [round(number / 25, 3) for number in range(75)]
    assert play(tmp_path / "out.mp4") == times
    assert play(tmp_path / "out.2.mp4") == times


def test_every_output_of_a_clip_is_complete(bundle: str, clip: str, tmp_path: Path) -> None:
    """A clip waits for its outputs: nothing of it is dropped."""
    arguments = ["--each", "--jsonl", str(tmp_path / "a.jsonl")]
    arguments += ["--output", str(tmp_path / "o.mp4")]
    arguments += ["--snapshots", str(tmp_path / "shots"), "--output-rate", "5"]
    assert watch_command.main([bundle, clip, "Open?", *arguments]) == 0
    assert [line["frame"] for line in read(tmp_path / "a.jsonl")] == list(range(75))
    assert len(play(tmp_path / "o.mp4")) == 15
    assert len(list((tmp_path / "shots").iterdir())) == 75


def test_options_reach_the_source(bundle: str, clip: str, tmp_path: Path) -> None:
    arguments = ["--each", "--input-loop", "1", "--input-flip", "clockwise", "--count", "80"]
    path = tmp_path / "a.jsonl"
    assert watch_command.main([bundle, clip, "Open?", *arguments, "--jsonl", str(path)]) == 0
    assert len(read(path)) == 80


def test_a_broken_frame_is_told_once(
    bundle: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    for number, size in enumerate([(90, 60), (4000, 1), (4000, 1), (90, 60), (4000, 1)]):
        Image.new("RGB", size).save(tmp_path / f"{number}.png")
    assert watch_command.main([bundle, str(tmp_path), "Open?", "--each"]) == 0
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 3
    assert "frame 1 was not asked about" in told[0]
    assert "frame 4 was not asked about" in told[1]
    assert "5 frames, 5 asked about" in told[2] and "3 failed" in told[2]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--every", "-1"], "every is -1.0, expected seconds"),
        (["--every", "soon"], "argument --every: invalid float value: 'soon'"),
        (["--every", "1", "--each"], "not allowed with argument"),
        (["--on-change", "7"], "on_change is 7.0, expected a share"),
        (["--reuse", "7"], "reuse is 7.0, expected a share"),
        (["--on-request"], "clip.mp4 is not live"),
        (["--on-request", "--every", "1"], "clip.mp4 is not live"),
        (["--longest-silence", "7"], "a longest silence needs on_change"),
        (["--max-new-tokens", "0"], "found max_new_tokens 0"),
        (["--count", "0"], "--count is 0, expected at least 1"),
        (["--output-rate", "0"], "--output-rate is 0.0"),
        (["--output", "out.avi"], "expected a name that ends with .mp4"),
        (["--output", "rtsp://me:s3cret@host/door"], "rtsp:// output is not an address to listen"),
        (["--output", "display://7"], "expected display://0"),
        (["--output", "http://host/out.mp4"], "the scheme of --output is not known"),
        (["--output", "no/such/out.mp4"], "its folder does not exist"),
        (["--jsonl", "no/such/a.jsonl"], "its folder does not exist"),
        (["--snapshots", "pyproject.toml"], "is not a folder"),
        (["--mqtt", "mqtt://broker"], "has no topic"),
        (["--mqtt", "@no/such/file"], "no/such/file"),
        (["--webhook", "host/path"], "has no scheme"),
        (["--webhook", "https://host/path"], "there is no secret"),
        (["--input-flip", "sideways"], "flip is 'sideways'"),
        (["--input-codec", "mjpeg"], "does not take codec"),
        (["--source", "no/such/clip.mp4"], "no file at no/such/clip.mp4"),
        (["--source", "foo://bar"], "foo:// is not known as a source"),
    ],
)
def test_bad_input_is_one_line_before_the_model_is_opened(
    arguments: list[str],
    text: str,
    clip: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("vpt_edge.runtime.pipeline.Pipeline", None)
    assert text in fails(capsys, watch_command.main(["bundle", clip, "Open?", *arguments]))


def test_a_source_is_not_given_twice(
    clip: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vpt_edge.runtime.pipeline.Pipeline", None)
    line = fails(capsys, watch_command.main(["bundle", clip, "Open?", "--source", clip]))
    assert f"the source {clip} is given twice" in line


def test_a_bad_bundle_leaves_no_output(
    clip: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--jsonl", str(tmp_path / "a.jsonl"), "--output", str(tmp_path / "o.mp4")]
    arguments += ["--snapshots", str(tmp_path / "shots")]
    line = fails(capsys, watch_command.main(["no/bundle", clip, "Open?", *arguments]))
    assert "is not a bundle" in line
    assert list(tmp_path.iterdir()) == []


def test_an_address_may_lie_in_a_file(
    bundle: str, clip: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "address"
    place.write_text(f"{clip}\n")
    assert watch_command.main([bundle, f"@{place}", "Open?", "--count", "1"]) == 0
    assert "1 asked about" in capsys.readouterr().err
    place.write_text("rtsp://me:secret@camera\nrtsp://me:secret@other\n")
    line = fails(capsys, watch_command.main([bundle, clip, "Open?", "--source", f"@{place}"]))
    assert f"{place} has 2 lines, expected one address" in line
    assert "secret" not in line


def test_a_status_file_is_kept_and_checked(
    bundle: str, clip: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = tmp_path / "status.json"
    assert watch_command.main([bundle, clip, "Open?", "--status", str(status)]) == 0
    data = json.loads(status.read_text())
    assert [source["name"] for source in data["sources"]] == [clip]
    capsys.readouterr()
    assert watch_command.main(["--check", str(status)]) == 0
    assert capsys.readouterr() == ("", "")
    assert watch_command.main(["--silence", "0", "--check", str(status)]) == 1
    assert capsys.readouterr().err.startswith("error: process ")
    assert watch_command.main(["--check", str(tmp_path / "none.json")]) == 1
    assert "cannot be read" in capsys.readouterr().err


def test_without_a_check_everything_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["bundle"], ["bundle", "clip.mp4"], ["--silence", "3"]):
        line = fails(capsys, watch_command.main(arguments))
        assert "the following arguments are required: " in line


def test_a_check_loads_neither_a_decoder_nor_a_library_of_inference(tmp_path: Path) -> None:
    code = (
        "import sys; from vpt_edge.commands.watch import main\n"
        "main(['--check', sys.argv[1]])\n"
        "print(sorted({'av', 'onnxruntime', 'paho', 'torch'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "status.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "[]\n"


@pytest.mark.skipif(sys.platform != "linux", reason="systemd is Linux's")
def test_systemd_hears_of_it(bundle: str, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(30)
        told = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "400000"}
        process = start(bundle, CAMERA, "Open?", "--every", "0.2", env={**os.environ, **told})
        heard = [manager.recv(4096).decode()]
        while heard.count("WATCHDOG=1") < 3 or "STATUS=1 of 1 sources live, 3 answers" not in heard:
            heard.append(manager.recv(4096).decode())
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
        while heard[-1] != "STOPPING=1":
            heard.append(manager.recv(4096).decode())
    assert heard[0] == "READY=1"
    assert process.returncode == 130


def start(bundle: str, *arguments: str, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CHILD, bundle, *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def start_recording(bundle: str, folder: Path) -> tuple[subprocess.Popen[str], list[str]]:
    """Of a camera; and what was printed until the fifth answer."""
    arguments = ["--every", "0.2", "--jsonl", str(folder / "a.jsonl")]
    arguments += ["--output", str(folder / "o.mp4"), "--snapshots", str(folder / "shots")]
    process = start(bundle, CAMERA, "Open?", *arguments)
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(5)]
    return process, lines


@pytest.mark.skipif(os.name != "posix", reason="signals of Unix")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_everything_whole(number: int, bundle: str, tmp_path: Path) -> None:
    process, lines = start_recording(bundle, tmp_path)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    told = err.splitlines()
    assert told[-1] == "stopped"
    assert told[-2].split(" frames, ")[1].startswith(f"{len(lines) + len(out.splitlines())} asked")
    assert len(read(tmp_path / "a.jsonl")) == len(lines) + len(out.splitlines())
    assert len(list((tmp_path / "shots").iterdir())) == len(lines) + len(out.splitlines())
    times = play(tmp_path / "o.mp4")
    assert times == sorted(times) and len(times) > 20
    assert not list(tmp_path.rglob(".*"))


@pytest.mark.skipif(rtsp.find_missing() is not None, reason="gst-rtsp-server is missing")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_players_are_served_until_the_end(number: int, bundle: str) -> None:
    port = rtsp.free_port()
    output = ["--output", f"rtsp://@:{port}/door"]
    process = start(bundle, CAMERA, "Open?", "--every", "0.2", *output)
    assert process.stdout is not None
    process.stdout.readline()
    with live.open(f"rtsp://127.0.0.1:{port}/door") as player:
        shown = next(each_frame(player))
    process.send_signal(number)
    _, told = process.communicate(timeout=30)
    assert shown.pixels.shape == (120, 160, 3)
    assert (process.returncode, "stopped" in told) in [(130, True), (-9, False)]
    assert rtsp.is_closed(port)


@pytest.mark.skipif(os.name != "posix", reason="signals of Unix")
def test_after_kill_9_what_was_written_is_valid(bundle: str, tmp_path: Path) -> None:
    process, _ = start_recording(bundle, tmp_path)
    assert process.stdout is not None
    for _ in range(5):
        process.stdout.readline()
    process.kill()
    process.communicate()
    whole = (tmp_path / "a.jsonl").read_bytes().rpartition(b"\n")[0].splitlines()
    assert len([json.loads(line) for line in whole]) >= 8
    assert len(play(tmp_path / "o.mp4")) > 20
    for folder in (tmp_path / "shots").glob("[0-9]*"):
        assert {file.name for file in folder.iterdir()} == {"answer.json", "picture.jpg"}


def test_a_reader_that_has_seen_enough_ends_it(bundle: str) -> None:
    process = start(bundle, CAMERA, "Open?", "--every", "0.1")
    assert process.stdout is not None and process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    told = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=30) == 0
    assert "Traceback" not in told


def test_lines_on_standard_input_ask(bundle: str) -> None:
    process = start(bundle, CAMERA, "Open?", "--on-request", stdin=subprocess.PIPE)
    assert process.stdin is not None and process.stdout is not None
    for line, words in (("\n", ["yes"]), ("Who is it?\n", ["Who is it?", "yes"]), ("\n", ["yes"])):
        process.stdin.write(line)
        process.stdin.flush()
        assert process.stdout.readline().split("  ")[1:-1] == words
    out, err = process.communicate("\nWho?", timeout=30)
    assert process.returncode == 0
    assert len(out.splitlines()) == 2
    told = err.splitlines()[-1]
    assert " 5 asked about" in told
    assert told.endswith("; 5 requests, 0 unanswered")


def test_without_anybody_to_ask_it_ends(bundle: str) -> None:
    process = start(bundle, CAMERA, "Open?", "--on-request", stdin=subprocess.DEVNULL)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (0, "")
    assert " 0 asked about" in err


@pytest.mark.parametrize("schedule", [["--every", "0.1"], ["--on-change", "--each"]])
def test_a_schedule_goes_on_when_nobody_asks_any_more(bundle: str, schedule: list[str]) -> None:
    arguments = [CAMERA, "Open?", "--on-request", *schedule, "--count", "4"]
    process = start(bundle, *arguments, stdin=subprocess.DEVNULL)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert len(out.splitlines()) == 4


@needs_mosquitto
def test_a_message_of_a_broker_asks(bundle: str, tmp_path: Path) -> None:
    """Also where standard input has nothing to say."""
    broker = Mosquitto(tmp_path, "allow_anonymous true")
    listener = Listener(broker.port)
    url = f"mqtt://127.0.0.1:{broker.port}/door"
    arguments = [CAMERA, "Open?", "--on-request", "--mqtt", url, "--count", "2"]
    process = start(bundle, *arguments, stdin=subprocess.DEVNULL)
    assert process.stderr is not None
    while "testsrc" not in process.stderr.readline():  # the watch has begun
        pass
    wait_until(lambda: listener.payloads("door/status") == ["online"])
    for number, text in enumerate(("", "Who?"), 1):
        listener.publish("door/ask", text)
        wait_until(lambda: len(listener.payloads("door/answer")) == number)  # noqa: B023 - at once
    _, err = process.communicate(timeout=30)
    listener.close()
    broker.kill()
    assert process.returncode == 0
    assert err.splitlines()[-1].endswith("; 2 requests, 0 unanswered")
    answers = [json.loads(line) for line in listener.payloads("door/answer")]
    assert [line["question"] for line in answers] == ["Open?", "Who?"]
    entities = {topic for topic, _, _ in listener.messages if topic.startswith("homeassistant/")}
    assert len(entities) == 1


@pytest.mark.skipif(os.name != "posix", reason="signals of Unix")
def test_who_waits_for_a_line_is_ended_by_a_signal(bundle: str) -> None:
    process = start(bundle, CAMERA, "Open?", "--on-request", stdin=subprocess.PIPE)
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 130
    _, err = process.communicate()
    assert err.splitlines()[-1] == "stopped"


def test_a_recording_is_asked_again(
    bundle: str, clip: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "kept"
    arguments = [bundle, clip, "Open?", "Who?", "--every", "1", "--record", str(kept)]
    assert watch_command.main(arguments) == 0
    lines = read(kept / "recording.jsonl")
    assert len(lines) == 6
    assert {line["options"]["max_new_tokens"] for line in lines} == {1024}
    capsys.readouterr()
    assert watch_command.main([bundle, "--replay", str(kept)]) == 0
    same = "6 questions: 6 answers the same, 0 differ; 6 looked alike\n"
    assert capsys.readouterr().out == same
    lines[2]["answer"] = "something else"
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (kept / "recording.jsonl").write_text(text, "utf-8")
    assert watch_command.main([bundle, "--replay", str(kept)]) == 0
    difference, tally = capsys.readouterr().out.splitlines()
    assert difference == "000001.png  Open?  something else -> answer 2"
    assert tally == "6 questions: 5 answers the same, 1 differ; 6 looked alike"


def test_what_a_question_may_cost_is_said_of_all_of_them(
    bundle: str, clip: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    costs = ["--first-max-pixels", "3136", "--look-max-pixels", "50176"]
    costs += ["--first-token-share", "0.5"]
    arguments = [bundle, clip, "Open?", "--every", "1", "--record", str(tmp_path), *costs]
    assert watch_command.main(arguments) == 0
    names = ("first_max_pixels", "look_max_pixels", "first_token_share")
    for line in read(tmp_path / "recording.jsonl"):
        assert [line["options"][name] for name in names] == [3136, 50176, 0.5]
    capsys.readouterr()
    code = watch_command.main([bundle, clip, "Open?", "--first-token-share", "0"])
    assert "first_token_share 0" in fails(capsys, code)


@pytest.mark.parametrize(
    "rest",
    [
        ["--replay", "no-such"],
        ["clip.mp4", "--replay", "kept"],
        ["--replay", "kept", "--jsonl", "-"],
    ],
)
def test_a_replay_of_nothing_or_of_more_is_refused(
    bundle: str, rest: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    error = fails(capsys, watch_command.main([bundle, *rest]))
    assert "--replay takes a bundle" in error or "no-such is not a recording" in error
