"""Opens the bundle in a folder and asks it, once for each line that it reads: python -m fuzz.asker
FOLDER. Native code runs here, and may end this process.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

from pictures import noise

from vpt_edge.runtime import Pipeline
from vpt_edge.runtime.errors import VptError
from vpt_edge.runtime.sessions.ort import silence_log

MEMORY = 8 << 30  # bytes of addresses
REGION = "<|region_token_start|><|x_1|><|y_1|><|region_token_end|>"
PICTURE = noise(60, 40)


def ask(folder: Path) -> str:
    """The text with which the bundle is refused; empty where it answers."""
    try:
        with Pipeline(folder) as pipeline:
            pipeline.ask(PICTURE, "What?", assistant_prefix=REGION, max_new_tokens=2)
            pipeline.ask(PICTURE, "Who?", perception="reencode", max_new_tokens=3)
    except VptError as error:
        return str(error)
    return ""


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    silence_log()  # as vpt-run does
    folder = Path(sys.argv[1])
    with open(int(sys.argv[2]), "w", encoding="utf-8") as answers:  # noqa: PTH123
        for _ in sys.stdin:
            print(ascii(ask(folder)), file=answers, flush=True)


if __name__ == "__main__":
    main()
