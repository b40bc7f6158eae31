"""vpt-export and vpt-run as a person uses them: what they print, and how they end on bad input."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from golden import TAGS, Exporter
from PIL import Image
from tokenizers import Tokenizer

from vpt_edge.commands import export as export_command
from vpt_edge.commands import run as run_command
from vpt_edge.runtime.manifest import SCHEMA_VERSION

QUESTION = "Is there a star?"


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("pictures") / "noise.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (300, 400, 3), np.uint8)).save(path)
    return str(path)


@pytest.fixture
def bundle(exported: Exporter, tmp_path: Path) -> Path:
    """A copy, to be damaged."""
    return Path(shutil.copytree(exported(TAGS).path, tmp_path / "bundle"))


def fails(capsys: pytest.CaptureFixture[str], code: int) -> str:
    """The one line of a command that ended badly."""
    printed = capsys.readouterr()
    assert code == 2
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
    return printed.err


def test_run_prints_the_answer(
    exported: Exporter, picture: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(exported(TAGS).path)
    prefix = "<|region_token_start|><|x_5|><|y_2|><|x_6|><|y_3|><|region_token_end|>"
    assert (
        run_command.main(
            [path, picture, QUESTION, "--prefix", prefix, "--max-new-tokens", "8", "--stats"]
        )
        == 0
    )
    printed = capsys.readouterr()
    assert "[looked again at cells (5,2)-(6,3), 200x150 px]" in printed.out
    assert "tokens: " in printed.err
    assert "seconds: preprocess" in printed.err


@pytest.mark.skipif(sys.platform != "linux", reason="names of other systems are UTF-8")
def test_run_answers_from_a_folder_whose_name_is_not_utf8(
    exported: Exporter, picture: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / os.fsdecode(b"b\xe9")
    shutil.copytree(exported(TAGS).path, folder)
    shutil.copyfile(picture, folder.with_suffix(".png"))
    arguments = [str(folder), str(folder.with_suffix(".png")), QUESTION, "--max-new-tokens", "4"]
    assert run_command.main(arguments) == 0
    assert capsys.readouterr().err == ""


def test_run_prints_json(
    exported: Exporter, picture: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(exported(TAGS).path)
    prefix = "<|region_token_start|><|x_5|><|y_2|><|x_6|><|y_3|><|region_token_end|>"
    assert (
        run_command.main(
            [path, picture, QUESTION, "--prefix", prefix, "--max-new-tokens", "8", "--json"]
        )
        == 0
    )
    data = json.loads(capsys.readouterr().out)
    assert set(data) == {
        "text",
        "raw",
        "thoughts",
        "finish_reason",
        "turns",
        "looks",
        "usage",
        "seconds",
        "first_token_seconds",
        "stop_sequence",
    }
    assert data["looks"][0]["cells"] == [5, 2, 6, 3]
    assert data["looks"][0]["box"] == [200, 37, 400, 187]
    assert set(data["turns"][0]) == {"prompt_ids", "generated_ids", "text"}


def test_run_writes_the_overlay(exported: Exporter, picture: str, tmp_path: Path) -> None:
    path = tmp_path / "overlay.png"
    assert run_command.main([str(exported(TAGS).path), picture, QUESTION, "--plot", str(path)]) == 0
    with Image.open(path) as overlay:
        assert overlay.size > (400, 300)
    assert [entry.name for entry in tmp_path.iterdir()] == ["overlay.png"]


def test_run_refuses_a_damaged_bundle(
    bundle: Path, picture: str, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = bundle / "vision_encoder.onnx.data"
    data = bytearray(weights.read_bytes())
    data[1000] ^= 1
    weights.write_bytes(data)
    line = fails(capsys, run_command.main([str(bundle), picture, QUESTION]))
    assert "vision_encoder.onnx.data is altered" in line
    weights.unlink()
    assert "vision_encoder.onnx.data is missing" in fails(
        capsys, run_command.main([str(bundle), picture, QUESTION])
    )


def test_run_refuses_a_future_bundle(
    bundle: Path, picture: str, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = bundle / "manifest.json"
    manifest.write_text(
        manifest.read_text().replace(f'"schema_version": {SCHEMA_VERSION}', '"schema_version": 9')
    )
    assert "schema version 9" in fails(capsys, run_command.main([str(bundle), picture, QUESTION]))


def test_run_refuses_what_is_not_a_picture(
    exported: Exporter, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(exported(TAGS).path)
    text = tmp_path / "text.png"
    text.write_text("hello")
    assert "is not a picture" in fails(capsys, run_command.main([path, str(text), QUESTION]))
    whole = tmp_path / "whole.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(whole)
    cut = tmp_path / "cut.png"
    cut.write_bytes(whole.read_bytes()[:4000])
    assert "is damaged" in fails(capsys, run_command.main([path, str(cut), QUESTION]))
    thin = tmp_path / "thin.png"
    Image.new("RGB", (4000, 1)).save(thin)
    assert "too thin" in fails(capsys, run_command.main([path, str(thin), QUESTION]))
    assert "missing" in fails(
        capsys, run_command.main([path, str(tmp_path / "none.png"), QUESTION])
    )


def test_run_refuses_a_question_longer_than_the_cache(
    exported: Exporter, picture: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = fails(capsys, run_command.main([str(exported(TAGS).path), picture, "why? " * 20_000]))
    assert "the cache takes 4096" in line
    assert "--cache-tokens" in line


@pytest.mark.parametrize("place", ["missing/overlay.png", "overlay.doc", "/proc/overlay.png"])
def test_run_refuses_an_output_that_it_cannot_write(
    place: str, exported: Exporter, picture: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(exported(TAGS).path), picture, QUESTION, "--plot", str(tmp_path / place)]
    assert "cannot write" in fails(capsys, run_command.main(arguments))
    assert list(tmp_path.iterdir()) == []


def test_run_refuses_an_unknown_device(
    exported: Exporter, picture: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = fails(
        capsys,
        run_command.main([str(exported(TAGS).path), picture, QUESTION, "--device", "abacus"]),
    )
    assert "'abacus' is unknown" in line


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16", "F"])
def test_odd_pictures_are_answered(mode: str, exported: Exporter, tmp_path: Path) -> None:
    path = tmp_path / "odd.tiff"
    Image.new(mode, (31, 17)).save(path)
    assert (
        run_command.main([str(exported(TAGS).path), str(path), QUESTION, "--max-new-tokens", "4"])
        == 0
    )


def test_a_single_pixel_is_answered(exported: Exporter, tmp_path: Path) -> None:
    path = tmp_path / "dot.png"
    Image.new("RGB", (1, 1)).save(path)
    prefix = (
        "<|region_token_start|><|x_0|><|y_0|><|region_token_end|>"  # its crop has no pixel at all
    )
    assert (
        run_command.main([str(exported(TAGS).path), str(path), QUESTION, "--prefix", prefix]) == 0
    )


def test_export_tells_what_it_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = str(tmp_path / "bundle")
    assert export_command.main([str(TAGS), "-o", output, "--precision", "fp16"]) == 0
    printed = capsys.readouterr()
    assert "vision_encoder.onnx.data" in printed.out
    assert f"next: vpt-run {output}" in printed.out
    assert "note: " not in printed.out
    assert printed.err == ""
    assert export_command.main([str(TAGS), "-o", output, "--precision", "fp16", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["precision"] == "fp16"


def test_export_tells_what_the_checkpoint_asks_for_in_vain(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(TAGS, tmp_path / "checkpoint"))
    (folder / "generation_config.json").write_text('{"repetition_penalty": 1.3}')
    output = str(tmp_path / "bundle")
    assert export_command.main([str(folder), "-o", output, "--precision", "fp32", "--json"]) == 0
    (note,) = json.loads(capsys.readouterr().out)["notes"]
    assert note.startswith("generation_config.json asks for repetition_penalty 1.3: ignored")


def test_export_says_that_it_ignores_truncation_and_padding(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, output = Path(shutil.copytree(TAGS, tmp_path / "checkpoint")), tmp_path / "bundle"
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(6)
    tokenizer.enable_padding(length=40)
    tokenizer.save(str(folder / "tokenizer.json"))
    assert export_command.main([str(folder), "-o", str(output), "--precision", "fp16"]) == 0
    note = (
        "the checkpoint's tokenizer.json carries truncation and padding: "
        "ignored, as transformers does"
    )
    assert f"\nnote: {note}\n" in capsys.readouterr().out
    assert f"\n- {note}\n" in (output / "report.md").read_text("utf-8")


@pytest.mark.parametrize("damage", ["cut", "missing", "shape", "config"])
def test_export_refuses_a_damaged_checkpoint(
    damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from safetensors.torch import load_file, save_file

    folder = Path(shutil.copytree(TAGS, tmp_path / "checkpoint"))
    weights = folder / "model.safetensors"
    if damage == "cut":
        weights.write_bytes(weights.read_bytes()[:-1000])
    elif damage == "config":
        (folder / "config.json").write_text("{")
    else:
        tensors = load_file(weights)
        norm = tensors.pop("model.norm.weight")
        save_file(
            tensors if damage == "missing" else {**tensors, "model.norm.weight": norm[:-1].clone()},
            weights,
        )
    line = fails(
        capsys,
        export_command.main([str(folder), "-o", str(tmp_path / "bundle"), "--precision", "fp32"]),
    )
    expected = {
        "cut": "cut off",
        "missing": "missing model.norm",
        "shape": "has shape",
        "config": "JSON",
    }
    assert expected[damage] in line
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def test_export_refuses_an_output_that_it_cannot_write(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    fails(
        capsys,
        export_command.main(
            [str(TAGS), "-o", str(tmp_path / "file" / "bundle"), "--precision", "fp32"]
        ),
    )


def test_export_on_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    """A limit on the size of files stands in for the disk."""
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, 600_000));"
        "from vpt_edge.commands.export import main; sys.exit(main(sys.argv[1:]))"
    )
    arguments = [str(TAGS), "-o", str(tmp_path / "bundle"), "--precision", "fp32"]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: ")
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_goes_away_is_no_error(exported: Exporter, picture: str) -> None:
    run = f'"{sys.executable}" -m vpt_edge.commands.run "$BUNDLE" "$PICTURE" "{QUESTION}" --json'
    command = f"{run} | head -c 1"
    environment = {**os.environ, "BUNDLE": str(exported(TAGS).path), "PICTURE": picture}
    done = subprocess.run(
        ["bash", "-c", command], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout == "{"
    assert done.stderr == ""


def test_run_stops_on_ctrl_c(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run_command, "_run", interrupt)
    assert run_command.main(["bundle", "picture", "question"]) == 130
    assert capsys.readouterr().err == "stopped\n"
