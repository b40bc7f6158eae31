"""The emulator as the kernel's interpreter of AArch64 programs."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

BINFMT = Path("/proc/sys/fs/binfmt_misc")
ENTRY = BINFMT / "qemu-aarch64"
LINE = Path("/usr/lib/binfmt.d/qemu-aarch64.conf")  # of Debian's qemu-user-static


@contextlib.contextmanager
def interpret_arm64() -> Iterator[None]:
    """AArch64 programs run inside, other file systems' too; what was not registered or mounted
    before is neither afterwards.
    """
    with contextlib.ExitStack() as stack:
        if not (BINFMT / "register").exists():
            _mount()
            stack.callback(subprocess.run, ["umount", str(BINFMT)], check=True)
        if not ENTRY.exists():
            (BINFMT / "register").write_text(LINE.read_text("ascii"), "ascii")
            stack.callback(ENTRY.write_text, "-1", "ascii")
        flags = ENTRY.read_text("ascii").partition("flags: ")[2].split()[0]
        if "F" not in flags:
            raise SystemExit(
                f"error: {ENTRY} is registered with the flags {flags}, without F the emulator is "
                f"not seen from another root; take the entry away with `echo -1 > {ENTRY}`"
            )
        yield


def _mount() -> None:
    if not BINFMT.is_dir():
        raise SystemExit(
            f"error: {BINFMT} does not exist: this kernel was built without CONFIG_BINFMT_MISC, "
            "or its module is missing; try `modprobe binfmt_misc`"
        )
    subprocess.run(["mount", "-t", "binfmt_misc", "binfmt_misc", str(BINFMT)], check=True)
