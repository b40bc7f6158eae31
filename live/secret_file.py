"""What stands in a file since the arguments of a command can be read by every user: an address."""

from __future__ import annotations

from pathlib import Path

from vpt_edge.runtime.errors import VptError

LONGEST = 8192  # bytes of an address


def read_address(text: str) -> str:
    """The one line in FILE for "@FILE"; any other text as it is.

    Raises VptError, which names the file and never quotes it.
    """
    if not text.startswith("@"):
        return text
    path = Path(text[1:])
    fix = f"write the address into {path} as its one line"
    lines = read_secret(path, "the address", LONGEST, fix)
    addresses = [line.strip() for line in lines if line.strip()]
    if len(addresses) != 1:
        raise VptError(f"{path} has {len(addresses)} lines, expected one address", fix)
    return addresses[0]


def read_secret(path: Path, content: str, longest: int, fix: str) -> list[str]:
    """The lines of a file of UTF-8 that holds ``content``, at most ``longest`` bytes.

    Raises VptError, which names the file and never quotes it.
    """
    try:
        with path.open("rb") as file:
            data = file.read(longest + 1)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise VptError(f"cannot read {content} in {path}: {reason}", fix) from None
    if len(data) > longest:
        raise VptError(f"{path} has more than {longest} bytes, expected {content}", fix)
    try:
        return data.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError:
        raise VptError(f"{path} is not UTF-8, expected {content}", fix) from None
