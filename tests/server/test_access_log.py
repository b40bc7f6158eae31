from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from scripted import REGION
from serving import Served, question

from vpt_edge.runtime.errors import SinkError
from vpt_edge.server.access_log import AccessLog
from vpt_edge.server.request_record import RequestRecord, current_record

Serve = Callable[..., Served]

LINE = {"id": "a", "path": "/", "status": 200}
SECRET = "the word that nobody may read"


def read_lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_a_request_is_a_line(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "access.jsonl"
    served = serve(f"I look: {REGION}", "A dog.", access_log=str(path))
    reply = served.ask(text=SECRET, stream=True)
    served.close()
    (line,) = read_lines(path)
    assert line["id"] == reply.headers["x-request-id"]
    assert (line["method"], line["path"]) == ("POST", "/v1/chat/completions")
    assert (line["status"], line["client"]) == (200, "127.0.0.1")
    assert line["bytes"] == len(reply.content)
    assert 0 <= line["queue_seconds"] <= line["seconds"]
    assert (line["looks"], line["finish_reason"]) == (1, "stop")
    assert line["completion_tokens"] > 0
    assert line["prompt_tokens"] > 0
    assert line["time"].endswith("+00:00")
    text = path.read_text()
    assert SECRET not in text
    assert "A dog" not in text
    assert "base64" not in text


@pytest.mark.parametrize("log_questions", [False, True])
def test_nobody_else_may_read_it(serve: Serve, tmp_path: Path, log_questions: bool) -> None:
    path = tmp_path / "access.jsonl"
    before = os.umask(0)
    try:
        served = serve("A dog.", access_log=str(path), log_questions=log_questions)
        served.ask()
        served.close()
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600


def test_it_goes_on_where_it_was_when_it_is_renamed(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "access.jsonl"
    served = serve("A dog.", "A cat.", access_log=str(path), log_questions=True)
    for text in ("First?", "Second?"):
        served.ask(text=text)
        served.wait_until(path.exists)
        path.rename(tmp_path / text)
    served.close()
    for text in ("First?", "Second?"):
        (line,) = read_lines(tmp_path / text)
        assert line["question"] == text


def test_question_and_answer_are_in_it_where_an_operator_wants_them(
    serve: Serve, tmp_path: Path
) -> None:
    path = tmp_path / "access.jsonl"
    served = serve("A dog.", access_log=str(path), log_questions=True)
    served.ask(text=SECRET)
    served.close()
    (line,) = read_lines(path)
    assert (line["question"], line["answer"]) == (SECRET, "A dog.")
    assert "base64" not in path.read_text()


def test_what_is_refused_is_a_line_with_its_code(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "access.jsonl"
    served = serve("A dog.", access_log=str(path))
    served.ask(temperature=-1)
    served.client.get("/nowhere", params={"token": SECRET})
    served.client.post("/v1/chat/completions", content=SECRET)
    served.close()
    lines = read_lines(path)
    assert [line["status"] for line in lines] == [400, 404, 415]
    assert lines[1]["error"] == "not_found"
    assert lines[1]["path"] == "/nowhere"
    assert "queue_seconds" not in lines[1]
    assert lines[2]["error"] == "unsupported_media_type"
    assert SECRET not in path.read_text()


def test_a_request_cannot_write_a_line_of_its_own(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "access.jsonl"
    served = serve("A dog.", access_log=str(path), log_questions=True)
    text = 'a"}\n{"status": 200, "forged": true}\r\x1b[2J\u2028\u202e'
    served.ask(text=text)
    served.client.get("/a%0a%7b%22forged%22:1%7d%1b%5b2J%00%e2%80%a8")
    served.client.get("/" + "a" * 9000)
    served.close()
    data = path.read_bytes()
    lines = read_lines(path)
    assert len(lines) == 3
    assert data.count(b"\n") == 3
    assert not [line for line in lines if "forged" in line]
    assert b"\x1b" not in data
    assert b"\0" not in data
    assert lines[0]["question"].startswith('a"}\n{')
    assert len(lines[2]["path"]) < 200


def test_polls_that_go_well_and_names_of_answers_are_not_in_it(
    serve: Serve, tmp_path: Path
) -> None:
    path = tmp_path / "access.jsonl"
    served = serve("A dog.", access_log=str(path))
    polls = ("/health", "/readyz", "/metrics", "/sources/none/frame?after=1")
    for address in (*polls, "/answers/abc/picture"):
        served.client.get(address)
    served.close()
    paths = [line["path"] for line in read_lines(path)]
    assert paths == ["/sources/none/frame", "/answers/…/picture"]


def test_the_standard_output_takes_lines_too(
    serve: Serve, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    served = serve("A dog.", access_log="-")
    served.client.get("/nowhere")
    served.close()
    (line,) = capfdbinary.readouterr().out.splitlines()
    assert json.loads(line)["status"] == 404


def test_without_a_log_nothing_is_said(serve: Serve, capfd: pytest.CaptureFixture[str]) -> None:
    served = serve("A dog.")
    served.ask()
    served.client.get("/nowhere")
    served.close()
    assert capfd.readouterr() == ("", "")


def test_a_place_that_cannot_be_written_is_said_at_the_start(tmp_path: Path) -> None:
    foreign = tmp_path / "notes.txt"
    foreign.write_text("my notes")
    with pytest.raises(SinkError, match="holds something else"):
        AccessLog(str(foreign), with_texts=False)


def test_a_log_that_fails_later_is_said_once_and_requests_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages = list[str]()
    monkeypatch.setattr(
        logging.getLogger("vpt_edge.server"), "warning", lambda *text: messages.append(text[0])
    )
    log = AccessLog(str(tmp_path / "access.jsonl"), with_texts=False)
    record = RequestRecord()

    def fail(data: Any) -> None:
        raise OSError("no space left on device")

    file: Any = log._file
    append = file.append
    file.append = fail
    for _ in range(3):
        log.write({**LINE, "id": "a"}, record)
    assert len(messages) == 1
    file.append = append
    log.write({**LINE, "id": "b"}, record)
    file.append = fail
    log.write({**LINE, "id": "c"}, record)
    assert len(messages) == 2
    log.close()
    assert [line["id"] for line in read_lines(tmp_path / "access.jsonl")] == ["b"]


def test_a_standard_output_that_is_closed_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed:
        @property
        def buffer(self) -> Any:
            raise ValueError("I/O operation on closed file")

    monkeypatch.setattr(sys, "stdout", Closed())
    monkeypatch.setattr(logging.getLogger("vpt_edge.server"), "warning", lambda *text: None)
    AccessLog("-", with_texts=False).write(LINE, RequestRecord())


def test_outside_of_a_request_what_is_noted_goes_nowhere() -> None:
    current_record().error = "a"
    assert current_record().error is None


def test_requests_at_once_do_not_mix(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "access.jsonl"
    turns = ["a" * count for count in range(1, 9)]
    served = serve(*turns, access_log=str(path))
    with ThreadPoolExecutor(8) as pool:
        bodies = [question(f"What {number}?") for number in range(8)]
        url = "/v1/chat/completions"
        replies = list(pool.map(lambda body: served.client.post(url, json=body), bodies))
    served.close()
    expected = {
        reply.headers["x-request-id"]: reply.json()["usage"]["completion_tokens"]
        for reply in replies
    }
    assert {line["id"]: line["completion_tokens"] for line in read_lines(path)} == expected
    assert len(expected) == 8
