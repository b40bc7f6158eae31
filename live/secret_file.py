"""An address in a file: the arguments of a command can be read by every user of the machine."""

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
    try:
        with path.open("rb") as file:
            data = file.read(LONGEST + 1)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise VptError(f"cannot read the address in {path}: {reason}", fix) from None
    if len(data) > LONGEST:
        raise VptError(f"{path} has more than {LONGEST} bytes, expected an address", fix)
    try:
        lines = data.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError:
        raise VptError(f"{path} is not UTF-8, expected an address", fix) from None
    addresses = [line.strip() for line in lines if line.strip()]
    if len(addresses) != 1:
        raise VptError(f"{path} has {len(addresses)} lines, expected one address", fix)
    return addresses[0]
