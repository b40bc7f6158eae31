"""Pictures with questions: what feeds calibration and what judges its result."""

from __future__ import annotations

import os
import reprlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vpt_edge.calibration.sample import Sample
from vpt_edge.runtime.errors import ImageError, VptError
from vpt_edge.runtime.image import regularize
from vpt_edge.runtime.perception.vpt import KINDS, TRIGGER
from vpt_edge.runtime.perception.vpt_question import SENTENCES, question_text
from vpt_edge.runtime.schema import brief, parse_json

if TYPE_CHECKING:
    from vpt_edge.runtime.image import Box
    from vpt_edge.runtime.perception.actions import Mode

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".gif", ".bmp")
QUESTIONS: dict[Mode, tuple[str, ...]] = {
    "region": (
        "What is written in the picture?",
        "What is the smallest object that you can see?",
        "What colour is the object nearest to the camera?",
        "What is at the left edge of the picture?",
        "What is in the background?",
    ),
    "reencode": (
        "What is shown in the picture?",
        "How many objects are there?",
        "Is there a person in the picture?",
        "Where is the largest object?",
    ),
}
VPT_MODES: tuple[Mode, ...] = tuple(SENTENCES)
ASKED: tuple[Mode, ...] = ("region", "reencode")  # modes that ask a model to look
QUESTIONS["free"] = (*QUESTIONS["region"], *QUESTIONS["reencode"])
KEYS = ("image", "question", "answer", "perception")
# What the model's own preprocessing shrinks to; what this leaves without pixels is no use.
LONGEST_SIDE = 512
LISTED = 5
EXPECTED = "a folder of pictures, a .jsonl file or the authors' dataset .json"


@dataclass(frozen=True)
class Samples:
    """What was read; ``unreadable`` has a line for each picture that was left out."""

    samples: tuple[Sample, ...]
    unreadable: tuple[str, ...] = ()


def read_samples(path: str | os.PathLike[str], modes: Sequence[Mode] = VPT_MODES) -> Samples:
    """Read a folder of pictures, a .jsonl file, or the authors' dataset .json.

    A folder's pictures are asked one built-in question of each mode in which a model with those
    ``modes`` looks: "region" and "reencode", or else "free". A .jsonl line is an object with
    ``image`` (relative to the file's folder; a list for several pictures), ``question`` and, if
    wanted, ``answer`` and ``perception``. Raises VptError for a bad line, for a mode that is not
    one of ``modes``, for no samples, and when 5 % of the samples or more have no readable picture.
    """
    source = Path(path)
    try:
        is_folder = source.is_dir()
        is_file = source.is_file()
    except (OSError, ValueError) as error:  # a name that is too long, or has a NUL
        problem = f"no data at {brief(str(path))} ({error.args[-1]}), expected {EXPECTED}"
        raise VptError(problem) from error
    if is_folder:
        samples = _folder(source, modes)
    elif not is_file:
        raise VptError(f"no data at {source}, expected {EXPECTED}")
    elif source.suffix.lower() == ".jsonl":
        samples = _each(_lines(source), _line, source, modes)
    elif source.suffix.lower() == ".json":
        samples = _each(_entries(source), _entry, source, modes)
    else:
        raise VptError(f"{source} is of an unknown kind, expected {EXPECTED}")
    if not samples:
        raise VptError(
            f"{source} holds no samples, expected pictures ({', '.join(PICTURES)}) or entries"
        )
    return _readable(samples, source)


def too_many(failed: int, count: int) -> bool:
    """Whether 5 % or more of ``count`` samples failed."""
    return failed * 20 >= count


def crop_suffix(path: str) -> tuple[str, Box | None]:
    """The file and the crop that ``path`` names as ``file_l,t,r,b`` (PROTOCOL 3).

    Raises VptError where the authors' code crashes: an underscore behind the last dot, and no box
    behind it.
    """
    if "_" not in path.rsplit(".", 1)[-1]:
        return path, None
    name, suffix = path.rsplit("_", 1)
    try:
        left, top, right, bottom = (int(side) for side in suffix.split(","))
    except ValueError:
        raise VptError(
            f"{path} ends with {suffix!r}, expected a crop such as picture.png_10,20,200,180; "
            "a name without an extension must have no underscore",
            "rename the file",
        ) from None
    if right < left or bottom < top:
        raise VptError(
            f"{path} ends inside out, expected left,top,right,bottom with left <= right and "
            "top <= bottom"
        )
    return name, (left, top, right, bottom)


def _folder(folder: Path, modes: Sequence[Mode]) -> list[Sample]:
    """For each picture, hidden files apart, one question of each mode that looks."""
    looking = [mode for mode in ASKED if mode in modes] or ["free"]
    pictures = [path for path in sorted(folder.rglob("*")) if _is_picture(path)]
    samples = []
    for index, picture in enumerate(pictures):
        for mode in looking:
            question = QUESTIONS[mode][index % len(QUESTIONS[mode])]
            samples.append(Sample(picture, question, None, mode))
    return samples


def _is_picture(path: Path) -> bool:
    hidden = path.name.startswith(".")
    return path.suffix.lower() in PICTURES and not hidden and path.is_file()


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise VptError(f"{path} is not UTF-8 text ({error})", "save it as UTF-8") from error


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """Each line that is not empty, and what to call it."""
    lines = _text(path).split("\n")  # splitlines would cut at U+2028, too, which JSON allows
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield f"line {number}", line


def _entries(path: Path) -> Iterator[tuple[str, Any]]:
    """Each object of the authors' dataset, and what to call it."""
    try:
        entries = parse_json(_text(path))
    except ValueError as error:
        raise VptError(
            f"{path} is not JSON ({error})", "a file with one object a line is to be named .jsonl"
        ) from error
    if not isinstance(entries, list):
        raise VptError(
            f"{path} holds {type(entries).__name__}, expected a list of objects with messages and "
            "images"
        )
    for number, entry in enumerate(entries, 1):
        yield f"entry {number}", entry


def _each(
    entries: Iterable[tuple[str, Any]],
    make: Callable[[Any, Path], Sample],
    source: Path,
    modes: Sequence[Mode],
) -> list[Sample]:
    """One sample of each entry; an error says where."""
    samples = []
    for where, entry in entries:
        try:
            sample = make(entry, source.parent)
            # Of any kind of checkpoint: the same placeholders are refused.
            question_text(sample.question, sample.perception, KINDS[0])
            if sample.perception not in modes:
                known = f"this model is asked in one of: {', '.join(modes)}"
                raise VptError(f"perception is {sample.perception!r}, {known}", "leave it out")
        except VptError as error:
            raise VptError(f"{source}, {where}: {error.problem}", error.fix) from error
        samples.append(sample)
    return samples


def _line(text: str, folder: Path) -> Sample:
    try:
        entry = parse_json(text)
    except ValueError as error:
        raise VptError(f"this is not JSON ({error}), expected one object a line") from error
    if not isinstance(entry, dict):
        raise VptError(f"found {type(entry).__name__}, expected an object with {', '.join(KEYS)}")
    if unknown := sorted(set(entry) - set(KEYS)):
        raise VptError(f"unknown {', '.join(unknown)}; known are {', '.join(KEYS)}")
    perception = entry.get("perception", "free")
    if perception not in tuple(SENTENCES):
        modes = ", ".join(SENTENCES)
        raise VptError(f"perception is {reprlib.repr(perception)}, expected one of: {modes}")
    answer = None if entry.get("answer") is None else _required_text(entry, "answer")
    first, *others = _images(entry)
    return Sample(
        folder / first,
        _required_text(entry, "question"),
        answer,
        perception,
        others=tuple(folder / name for name in others),
    )


def _images(entry: dict[str, Any]) -> list[str]:
    """One name, or a list of them."""
    names = entry.get("image")
    if not isinstance(names, list):
        return [_required_text(entry, "image")]
    if not names:
        raise VptError("image is [], expected a name or several")
    return [_required_text({"image": name}, "image") for name in names]


def _required_text(entry: dict[str, Any], key: str) -> str:
    value = entry.get(key)
    if not isinstance(value, str) or not value.strip():
        state = reprlib.repr(value) if key in entry else "missing"
        raise VptError(f"{key} is {state}, expected text that is not empty")
    return value


def _entry(entry: Any, folder: Path) -> Sample:
    """The authors' conversation: the first question, the last answer, the first picture."""
    fields = entry if isinstance(entry, dict) else {}
    messages = fields.get("messages")
    images = fields.get("images")
    if not isinstance(messages, list) or not isinstance(images, list):
        raise VptError("expected an object with a list of messages and a list of images")
    if not all(_is_message(message) for message in messages):
        raise VptError("a message is not an object with role and content, both text")
    questions = _contents(messages, "user")
    if not questions:
        raise VptError("there is no message of the user, expected one at least")
    if not images or not isinstance(images[0], str):
        raise VptError("there is no picture in images, expected one at least")
    name, box = crop_suffix(images[0])
    return Sample(folder / name, questions[0], _true_answer(messages), "free", box)


def _is_message(message: Any) -> bool:
    if not isinstance(message, dict) or "role" not in message:
        return False
    return isinstance(message.get("content"), str)


def _contents(messages: Sequence[dict[str, Any]], role: str) -> list[str]:
    return [message["content"] for message in messages if message["role"] == role]


def _true_answer(messages: Sequence[dict[str, Any]]) -> str | None:
    """The last thing that the assistant says; None where that is nothing, or a trigger."""
    answers = _contents(messages, "assistant")
    if not answers or not answers[-1].strip() or TRIGGER.search(answers[-1]):
        return None
    return answers[-1]


def _readable(samples: Sequence[Sample], source: Path) -> Samples:
    faults: dict[tuple[Any, ...], str] = {}
    for sample in samples:
        shown = _shown(sample)
        if shown not in faults:
            faults[shown] = _fault(sample)
    good = tuple(sample for sample in samples if not faults[_shown(sample)])
    lines = tuple(fault for fault in faults.values() if fault)
    bad = len(samples) - len(good)
    if too_many(bad, len(samples)):
        listed = "; ".join(lines[:LISTED])
        if len(lines) > LISTED:
            listed += f"; and {len(lines) - LISTED} more"
        raise VptError(
            f"{bad} of {len(samples)} samples in {source} have no readable picture, 5 % or more: "
            f"{listed}"
        )
    return Samples(good, lines)


def _shown(sample: Sample) -> tuple[Any, ...]:
    return sample.image, sample.box, sample.others


def _fault(sample: Sample) -> str:
    try:
        for picture in sample.open_all():
            regularize(picture, LONGEST_SIDE)
    except (ImageError, OSError) as error:
        return str(error)
    return ""
