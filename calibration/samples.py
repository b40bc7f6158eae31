"""Pictures with questions: what feeds calibration and what judges its result."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from vpt_edge.runtime.bundle import sha256
from vpt_edge.runtime.chat import SENTENCES, question_text
from vpt_edge.runtime.errors import ImageError, VptError
from vpt_edge.runtime.image import open_picture, regularize
from vpt_edge.runtime.perception.vpt import KINDS, TRIGGER

if TYPE_CHECKING:
    from vpt_edge.runtime.chat import Perception
    from vpt_edge.runtime.image import Box

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".gif", ".bmp")
QUESTIONS: dict[Perception, tuple[str, ...]] = {
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
KEYS = ("image", "question", "answer", "perception")
LONGEST_SIDE = 512  # what the model's own preprocessing shrinks to; a picture that this leaves without pixels is no use
LISTED = 5


@dataclass(frozen=True)
class Sample:
    """A question about a picture, or about its part ``box`` (left, top, right, bottom) in pixels.

    ``answer`` is the true one, None where nobody knows it; ``perception`` is what ``Pipeline.ask``
    is to be told."""

    image: Path
    question: str
    answer: str | None = None
    perception: Perception = "free"
    box: Box | None = None

    def open(self) -> Image.Image:
        """The picture in its own size; what ``box`` has outside of it is black.

        Raises ImageError.
        """
        picture = open_picture(self.image)
        if self.box is None:
            return picture
        try:
            return picture.crop(self.box)
        except (ValueError, OverflowError, MemoryError, Image.DecompressionBombError) as error:
            raise ImageError(f"{self.image} cannot be cropped to {self.box}: {error}") from error


@dataclass(frozen=True)
class Samples:
    """What was read; ``unreadable`` has a line for each picture that was left out."""

    samples: tuple[Sample, ...]
    unreadable: tuple[str, ...] = ()


def read_samples(path: str | os.PathLike[str]) -> Samples:
    """Read a folder of pictures, a .jsonl file, or the authors' dataset .json.

    A folder's pictures are asked one built-in question of each kind. A .jsonl line is an object
    with ``image`` (relative to the file's folder), ``question`` and, if wanted, ``answer`` and
    ``perception``. Raises VptError for a bad line, for no samples, and when 5 % of the samples or
    more have no readable picture."""
    source = Path(path)
    if source.is_dir():
        samples = _folder(source)
    elif not source.is_file():
        raise VptError(
            f"no data at {source}: expected a folder of pictures, a .jsonl or the authors' dataset .json"
        )
    elif source.suffix.lower() == ".jsonl":
        lines = enumerate(
            _text(source).split("\n"), 1
        )  # splitlines would cut at U+2028, too, which JSON allows
        samples = _each(
            ((f"line {number}", line) for number, line in lines if line.strip()), _line, source
        )
    elif source.suffix.lower() == ".json":
        samples = _each(
            ((f"entry {i}", entry) for i, entry in enumerate(_dataset(source), 1)), _entry, source
        )
    else:
        raise VptError(
            f"{source} is of an unknown kind: expected a folder of pictures, a .jsonl or a .json file"
        )
    if not samples:
        raise VptError(
            f"{source} holds no samples: expected pictures ({', '.join(PICTURES)}) or entries"
        )
    return _readable(samples, source)


def too_many(failed: int, count: int) -> bool:
    """Whether 5 % or more of ``count`` samples failed."""
    return failed * 20 >= count


def split(
    samples: Sequence[Sample], held_out: float = 0.25
) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    """Divide into (calibration, gate) by content: the same samples are parted alike in any order
    and any folder.

    The questions about one picture stay together, but for the picture at the border. The gate gets
    the share ``held_out``, and of two samples or more each part gets one at least."""
    if not 0 < held_out < 1:
        raise VptError(f"held_out is {held_out}, expected a share between 0 and 1")
    pictures = {path: sha256(path) for path in {sample.image for sample in samples}}

    def key(index: int) -> tuple[str, str]:
        sample = samples[index]
        text = repr((sample.box, sample.question, sample.perception, sample.answer))
        return pictures[sample.image], hashlib.sha256(text.encode()).hexdigest()

    size = min(max(round(held_out * len(samples)), 1), len(samples) - 1)
    gate = set(sorted(range(len(samples)), key=key)[: max(size, 0)])
    calibration, held = (
        tuple(s for i, s in enumerate(samples) if (i in gate) == part) for part in (False, True)
    )
    return calibration, held


def crop_suffix(path: str) -> tuple[str, Box | None]:
    """The file and the crop that ``path`` names as ``file_l,t,r,b`` (PROTOCOL 3).

    Raises VptError where the authors' code crashes: an underscore behind the last dot, and no box
    behind it."""
    if "_" not in path.rsplit(".", 1)[-1]:
        return path, None
    name, suffix = path.rsplit("_", 1)
    try:
        left, top, right, bottom = (int(side) for side in suffix.split(","))
    except ValueError:
        raise VptError(
            f"{path} ends with {suffix!r}, expected a crop such as picture.png_10,20,200,180; "
            "a name without an extension must have no underscore: rename the file"
        ) from None
    if right < left or bottom < top:
        raise VptError(
            f"{path} ends inside out: expected left,top,right,bottom with left <= right and top <= bottom"
        )
    return name, (left, top, right, bottom)


def _folder(folder: Path) -> list[Sample]:
    files = (
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in PICTURES and path.is_file()
    )
    pictures = [path for path in files if not path.name.startswith(".")]
    return [
        Sample(picture, questions[index % len(questions)], None, perception)
        for index, picture in enumerate(pictures)
        for perception, questions in QUESTIONS.items()
    ]


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise VptError(f"{path} is no UTF-8 text ({error}); save it as UTF-8") from error


def _dataset(path: Path) -> list[Any]:
    try:
        entries = json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise VptError(
            f"{path} is no JSON ({error}); a file with one object a line is to be named .jsonl"
        ) from error
    if not isinstance(entries, list):
        raise VptError(
            f"{path} holds {type(entries).__name__}, expected a list of objects with messages and images"
        )
    return entries


def _each(
    entries: Iterable[tuple[str, Any]], make: Callable[[Any, Path], Sample], source: Path
) -> list[Sample]:
    """One sample of each entry; an error says where."""
    samples = []
    for where, entry in entries:
        try:
            sample = make(entry, source.parent)
            question_text(
                sample.question, sample.perception, KINDS[0]
            )  # any kind: the same placeholders are refused
        except VptError as error:
            raise VptError(f"{source}, {where}: {error}") from error
        samples.append(sample)
    return samples


def _line(text: str, folder: Path) -> Sample:
    try:
        entry = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise VptError(f"no JSON ({error}), expected one object a line") from error
    if not isinstance(entry, dict):
        raise VptError(f"found {type(entry).__name__}, expected an object with {', '.join(KEYS)}")
    if unknown := sorted(set(entry) - set(KEYS)):
        raise VptError(f"unknown {', '.join(unknown)}; known are {', '.join(KEYS)}")
    perception = entry.get("perception", "free")
    if perception not in tuple(SENTENCES):
        raise VptError(f"perception is {perception!r}, expected one of: {', '.join(SENTENCES)}")
    answer = None if entry.get("answer") is None else _filled(entry, "answer")
    return Sample(folder / _filled(entry, "image"), _filled(entry, "question"), answer, perception)


def _filled(entry: dict[str, Any], key: str) -> str:
    value = entry.get(key)
    if not isinstance(value, str) or not value.strip():
        raise VptError(
            f"{key} is {'missing' if key not in entry else repr(value)}, expected text that is not empty"
        )
    return value


def _entry(entry: Any, folder: Path) -> Sample:
    """The authors' conversation: the first question, the last answer, the first picture."""
    fields = entry if isinstance(entry, dict) else {}
    messages, images = fields.get("messages"), fields.get("images")
    if not isinstance(messages, list) or not isinstance(images, list):
        raise VptError("expected an object with a list of messages and a list of images")
    if not all(
        isinstance(m, dict) and isinstance(m.get("content"), str) and "role" in m for m in messages
    ):
        raise VptError("a message is no object with role and content, both text")
    questions, answers = (
        [m["content"] for m in messages if m["role"] == role] for role in ("user", "assistant")
    )
    if not questions or not images or not isinstance(images[0], str):
        missing = "picture in images" if questions else "message of the user"
        raise VptError(f"there is no {missing}, expected one at least")
    name, box = crop_suffix(images[0])
    answer = (
        answers[-1] if answers and answers[-1].strip() and not TRIGGER.search(answers[-1]) else None
    )
    return Sample(folder / name, questions[0], answer, "free", box)


def _readable(samples: Sequence[Sample], source: Path) -> Samples:
    faults: dict[tuple[Path, Box | None], str] = {}
    for sample in samples:
        if (sample.image, sample.box) not in faults:
            faults[sample.image, sample.box] = _fault(sample)
    good = tuple(sample for sample in samples if not faults[sample.image, sample.box])
    lines, bad = tuple(filter(None, faults.values())), len(samples) - len(good)
    if too_many(bad, len(samples)):
        named = "; ".join(lines[:LISTED]) + (
            f"; and {len(lines) - LISTED} more" if len(lines) > LISTED else ""
        )
        raise VptError(
            f"{bad} of {len(samples)} samples in {source} have no readable picture, 5 % or more: {named}"
        )
    return Samples(good, lines)


def _fault(sample: Sample) -> str:
    try:
        regularize(sample.open(), LONGEST_SIDE)
    except (ImageError, OSError) as error:
        return str(error)
    return ""
