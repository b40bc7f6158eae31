"""A pipeline from its opening to its end: sessions, what fails, and hints."""

from __future__ import annotations

import linecache
import threading
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from scripted import PICTURE, Tiny, answer_of, chat_of, waiting

from vpt_edge.runtime import Bundle, Pipeline, VptError
from vpt_edge.runtime.errors import BundleError, ImageError, PromptError, SessionError
from vpt_edge.runtime.testing import Script, tiny_bundle

if TYPE_CHECKING:
    from collections.abc import Callable

    from vpt_edge.runtime.bundle import Model
    from vpt_edge.runtime.sessions import Session


def test_what_cannot_be_asked_is_said_at_the_call(tiny: Tiny) -> None:
    with Pipeline(tiny(), opener=Script("Yes.")) as pipeline:
        refused: list[Any] = [
            {"max_new_tokens": 0},
            {"assistant_prefix": "<image>"},
            {"max_looks": -1},
            {"perception": "both"},
            {"top_k": 3},
            {"temperature": -1.0},
        ]
        for options in refused:
            with pytest.raises(PromptError):
                pipeline.stream(PICTURE, "What?", **options)
        with pytest.raises(PromptError):
            pipeline.stream(PICTURE, "<image><image>")
        with pytest.raises(ImageError):
            pipeline.stream("missing.png", "What?")
        with pytest.raises(TypeError, match="max_tokens"):
            pipeline.ask(PICTURE, "What?", max_tokens=3)  # type: ignore[call-arg]
        assert pipeline.ask(PICTURE, "What?").text == "Yes."


def test_a_closed_pipeline_says_so(tiny: Tiny) -> None:
    script = Script("Yes.")
    pipeline = Pipeline(tiny(), opener=script)
    pipeline.close()
    pipeline.close()
    assert all(session.closed for session in script.sessions.values())
    with pytest.raises(VptError, match="closed"):
        pipeline.ask(PICTURE, "What?")


def test_a_stream_of_a_pipeline_closed_since_says_so(tiny: Tiny) -> None:
    pipeline = Pipeline(tiny(), opener=Script("Yes."))
    events = pipeline.stream(PICTURE, "What?")
    pipeline.close()
    with pytest.raises(VptError, match="closed"):
        next(events)


def test_a_pipeline_opens_a_folder_and_every_graph(tiny: Tiny) -> None:
    script = Script("Yes.")
    with Pipeline(tiny("seg").path, opener=script) as pipeline:
        assert pipeline.bundle == tiny("seg")
        assert set(script.sessions) == {
            "vision_encoder",
            "decoder",
            "reencoder_features",
            "reencoder_projector",
        }


def test_an_unknown_device_is_refused(tiny: Tiny) -> None:
    with pytest.raises(SessionError, match=r"'gpu' is unknown, expected one of: .*cpu"):
        Pipeline(tiny(), "gpu")


def test_a_graph_that_does_not_open_is_named(tiny: Tiny) -> None:
    """On a CPU all sessions open at once; the tiny bundle's graphs are empty files."""
    with pytest.raises(SessionError, match=r"cannot open .*vision_encoder\.onnx"):
        Pipeline(tiny())


@pytest.mark.parametrize("file", ["embeddings.bin", "tokenizer.json", "decoder.onnx"])
def test_an_altered_file_is_the_error_whatever_else_fails(file: str, tmp_path: Path) -> None:
    path = tiny_bundle(tmp_path).path
    (path / file).write_bytes(b"other")
    with pytest.raises(BundleError, match=f"{file} is altered"):
        Pipeline(path)


def test_sessions_of_a_cpu_open_at_once(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script("Yes.")
    all_there = threading.Barrier(3, timeout=10)

    def opener(bundle: Bundle, name: str, device: str) -> Session:
        all_there.wait()
        return script(bundle, name)

    monkeypatch.setattr("vpt_edge.runtime.pipeline.open_session", opener)
    Pipeline(tiny()).close()
    assert set(script.sessions) == set(tiny().manifest.graphs)


def test_sessions_of_a_gpu_open_one_after_another(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = Script("Yes.")
    threads = []

    def opener(bundle: Bundle, name: str, device: str) -> Session:
        threads.append(threading.get_ident())
        return script(bundle, name)

    monkeypatch.setattr("vpt_edge.runtime.pipeline.open_session", opener)
    Pipeline(tiny(), "tensorrt").close()
    assert threads == [threading.get_ident()] * 3


def test_what_was_opened_is_closed_when_a_session_fails(tiny: Tiny) -> None:
    script = Script("Yes.")

    def opener(model: Model, name: str, /) -> Session:
        if name == "reencoder_projector":
            raise SessionError("no room")
        return script(model, name)

    with pytest.raises(SessionError, match="no room"):
        Pipeline(tiny(), opener=opener)
    assert len(script.sessions) == 2
    assert all(session.closed for session in script.sessions.values())


def test_what_was_opened_is_closed_when_the_cache_fails(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("vpt_edge.runtime.decoder.KVCache", fail)
    script = Script("Yes.")
    with pytest.raises(MemoryError):
        Pipeline(tiny(), opener=script)
    assert all(session.closed for session in script.sessions.values())


def test_a_failed_run_frees_the_pipeline(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script("Yes.")
    with Pipeline(tiny(), opener=script) as pipeline:

        def fail(inputs: Any, outputs: Any) -> None:
            raise SessionError("out of memory")

        with monkeypatch.context() as patch:
            patch.setattr(script.sessions["decoder"], "run", fail)
            with pytest.raises(SessionError):
                pipeline.ask(PICTURE, "What?")
        assert pipeline.ask(PICTURE, "What?").text == "Yes."


def test_a_checkpoint_that_waits_for_the_sentence_is_hinted_at_once(tiny: Tiny) -> None:
    script = Script("Yes.", "Yes.", "Yes.", "Yes.")
    with Pipeline(waiting(tiny()), opener=script) as pipeline:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            pipeline.ask(PICTURE, "What?", perception="region")
            pipeline.ask(PICTURE, "What?", perception="off")
        with pytest.warns(
            UserWarning, match=r'Some-VPT.*perception="region" or "reencode"'
        ) as caught:
            list(pipeline.stream(PICTURE, "What?"))
        assert caught[0].filename == __file__
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            pipeline.ask(PICTURE, "What?")


@pytest.mark.parametrize("way", ["stream", "ask", "encoded.stream", "encoded.ask"])
def test_the_hint_points_at_the_callers_line(way: str, tiny: Tiny) -> None:
    with Pipeline(waiting(tiny()), opener=Script("Yes.")) as pipeline:
        encoded = pipeline.encode(PICTURE)
        calls: dict[str, Callable[[], object]] = {
            "stream": lambda: pipeline.stream(PICTURE, "What?"),
            "ask": lambda: pipeline.ask(PICTURE, "What?"),
            "encoded.stream": lambda: encoded.stream("What?"),
            "encoded.ask": lambda: encoded.ask("What?"),
        }
        with pytest.warns(UserWarning, match="look again") as caught:
            calls[way]()
    line = linecache.getline(__file__, caught[0].lineno)
    assert (caught[0].filename, line.partition(":")[0].strip()) == (__file__, f'"{way}"')


def test_other_checkpoints_are_not_hinted_at(tiny: Tiny) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert answer_of(Script("Yes."), tiny()).text == "Yes."


class Part:
    """A model that is not a bundle on a disk."""

    def __init__(self, bundle: Bundle) -> None:
        self.manifest = bundle.manifest
        self.tokenizer_file = bundle.tokenizer_file
        self.embeddings = bundle.embeddings


def test_any_model_answers_with_its_own_opener(tiny: Tiny) -> None:
    model = Part(tiny())
    with Pipeline(model, opener=Script("Yes.")) as pipeline:
        assert pipeline.bundle is model
        assert pipeline.ask(PICTURE, "What?").text == "Yes."
    with pytest.raises(VptError, match="Part is not a bundle; give its opener"):
        Pipeline(model)


def test_a_penalty_keeps_a_token_from_coming_again(tiny: Tiny) -> None:
    """A script's logits are 1 for what it says and 0 for the rest."""
    answer = answer_of(Script("aab"), tiny(), presence_penalty=2)
    (first, second, *_) = answer.turns[0].generated_ids
    assert first == chat_of(tiny()).encode("a")[0] != second
    assert answer_of(Script("aab"), tiny()).text == "aab"
