"""A Dockerfile as its stages and instructions, and what of a folder its builder is given."""

from __future__ import annotations

import fnmatch
import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

CONTINUED = re.compile(r"\\\s*$")
FLAG = re.compile(r"--([a-z-]+)=(\S+)\s+")


@dataclass(frozen=True)
class Instruction:
    """``RUN``, its flags and the text behind them, on one line."""

    keyword: str
    flags: dict[str, str]
    text: str

    @property
    def words(self) -> list[str]:
        """In the form of JSON, or as a shell would part them."""
        if self.text.startswith("["):
            words: list[str] = json.loads(self.text)
            return words
        return shlex.split(self.text)

    @property
    def variables(self) -> dict[str, str]:
        """Of ARG or ENV."""
        pairs = [word.partition("=") for word in self.words]
        return {name: value for name, _, value in pairs}


@dataclass
class Stage:
    """What follows a FROM; ``name``: by which later ones copy from it."""

    base: str
    name: str
    instructions: list[Instruction] = field(default_factory=list)

    def all(self, keyword: str) -> list[Instruction]:
        return [each for each in self.instructions if each.keyword == keyword]


def read(path: Path) -> list[Stage]:
    stages = list[Stage]()
    for instruction in _instructions(path):
        if instruction.keyword != "FROM":
            stages[-1].instructions.append(instruction)
            continue
        base, *rest = instruction.words
        stages.append(Stage(base, rest[-1] if rest else ""))
    return stages


def _instructions(path: Path) -> Iterator[Instruction]:
    parts = list[str]()
    for line in path.read_text("utf-8").splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        parts.append(CONTINUED.sub("", line).strip())
        if CONTINUED.search(line):
            continue
        keyword, _, text = " ".join(parts).partition(" ")
        parts.clear()
        flags = {}
        while match := FLAG.match(text):
            flags[match[1]] = match[2]
            text = text[match.end() :]
        yield Instruction(keyword, flags, text)


def context(root: Path, ignore: Path) -> list[str]:
    """The files below ``root`` that a builder is given, by a .dockerignore whose last matching line
    decides; a line of folders means all that they hold.
    """
    lines = [line for line in ignore.read_text("utf-8").splitlines() if line.strip()]
    rules = [line for line in lines if not line.startswith("#")]
    return list(_list_files(root, root, rules))


def _list_files(folder: Path, root: Path, rules: list[str]) -> Iterator[str]:
    """Without a look into folders that are ignored whole: one may have /proc mounted in it."""
    for path in sorted(folder.iterdir()):
        name = path.relative_to(root).as_posix()
        is_ignored = _is_ignored(name, rules)
        if path.is_dir() and not path.is_symlink():
            if not is_ignored or _may_hold_some(name, rules):
                yield from _list_files(path, root, rules)
        elif path.is_file() and not is_ignored:
            yield name


def _may_hold_some(name: str, rules: list[str]) -> bool:
    """Whether a line takes something below the folder ``name`` back."""
    depth = name.count("/") + 1
    for rule in rules:
        parts = rule.removeprefix("!").split("/")
        if not rule.startswith("!"):
            continue
        if parts[0] == "**":
            return True
        if len(parts) > depth and fnmatch.fnmatchcase(name, "/".join(parts[:depth])):
            return True
    return False


def _is_ignored(name: str, rules: list[str]) -> bool:
    ignored = False
    parts = name.split("/")
    prefixes = ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]
    for rule in rules:
        pattern = rule.removeprefix("!")
        if any(_matches(prefix, pattern) for prefix in prefixes):
            ignored = not rule.startswith("!")
    return ignored


def _matches(name: str, pattern: str) -> bool:
    """A ``*`` stays within a folder, a leading ``**/`` is any number of them."""
    if pattern.startswith("**/"):
        return fnmatch.fnmatchcase(name.rpartition("/")[2], pattern[3:])
    if name.count("/") != pattern.count("/"):
        return False
    return fnmatch.fnmatchcase(name, pattern)
