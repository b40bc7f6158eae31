"""The real openai package from npm, run by node, against a real server."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from javascript import install_package
from scripted import REGION
from serving import LONG, MODEL, Served, picture_part, question, text_part

Serve = Callable[..., Served]
Run = Callable[..., Any]
PROGRAM = Path(__file__).with_name("openai_client.cjs")
ENDLESS = "a" * 1000


@pytest.fixture(scope="session")
def modules() -> Path:
    return install_package()


@pytest.fixture
def run(modules: Path) -> Run:
    """Runs the program against a server in one of its ways, with fields for the body."""

    def call(served: Served, way: str, **fields: Any) -> Any:
        body = {"model": MODEL, **question(), **fields}
        arguments = [f"{served.url}/v1", way, json.dumps(body)]
        result = subprocess.run(
            ["node", str(PROGRAM), *arguments],
            env={"NODE_PATH": str(modules)},
            capture_output=True,
            text=True,
            check=False,
            timeout=LONG,
        )
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)

    return call


def test_a_completion_has_the_answer_and_its_look(serve: Serve, run: Run) -> None:
    result = run(serve(f"I look: {REGION}", "A dog."), "completion")
    completion = result["completion"]
    assert completion["choices"][0]["message"]["content"] == "A dog."
    assert completion["choices"][0]["finish_reason"] == "stop"
    assert completion["usage"]["completion_tokens"] > 0
    assert [look["box"] for look in completion["vpt"]["looks"]] == [[0, 8, 60, 32]]
    assert result["id"]


def test_a_stream_gives_the_answer_and_its_look(serve: Serve, run: Run) -> None:
    chunks = run(serve(f"I look: {REGION}", "A dog."), "stream")["chunks"]
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert "".join(delta.get("content", "") for delta in deltas) == "A dog."
    (look,) = [chunk["vpt"]["look"] for chunk in chunks if "look" in chunk.get("vpt", {})]
    assert look["box"] == [0, 8, 60, 32]


def test_the_stream_helper_gathers_the_completion(serve: Serve, run: Run) -> None:
    result = run(serve("A dog."), "helper", stream_options={"include_usage": True})
    assert result["content"] == "A dog."
    assert result["usage"]["completion_tokens"] == len("A dog.") + 1


def test_an_abort_ends_the_request(serve: Serve, run: Run) -> None:
    served = serve(ENDLESS, "A dog.")
    served.slow_down(0.005)
    assert run(served, "abort", perception="off")["count"] < len(ENDLESS) / 2
    served.wait_idle()
    assert served.steps < len(ENDLESS) / 2


def test_several_pictures_are_a_bad_request(serve: Serve, run: Run) -> None:
    content = [text_part("What?"), picture_part(), picture_part()]
    error = run(serve(), "error", messages=[{"role": "user", "content": content}])
    assert error["isBadRequest"]
    assert (error["status"], error["code"]) == (400, "too_many_images")
    assert (error["param"], error["type"]) == ("messages", "invalid_request_error")
    assert "use_snapshot" in error["message"] and error["requestID"]
