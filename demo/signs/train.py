"""Train the model that reads signs, from nothing: scenes, four stages, a checkpoint in the released
format.

PYTHONPATH=demo python -m signs.train --out build/demo-checkpoint

Stage "letters" teaches the vision encoder alone to read, in windows around signs; "see" what lies
in every token of whole views; "read" to read in these; and "speak" the language model, on features
that stay as they are. Ended at any moment, it goes on from where it was.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from network import save
from signs.recipe import FULL
from signs.state import stop_between_steps
from signs.training import Training
from signs.typefaces import find_typefaces

from vpt_edge.commands.bar import Bar
from vpt_edge.commands.console import exit_code

LOG = Path(__file__).parent.parent / "training.log"
TYPEFACES = Path("build/typefaces")  # of make


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the model that reads signs from nothing.")
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoint")
    parser.add_argument("--work", type=Path, default=Path("build/demo-training"))
    parser.add_argument("--log", type=Path, default=LOG)
    parser.add_argument("--threads", type=int, default=0, help="as many as cores by default")
    parser.add_argument("--compile", action="store_true", help="which needs a compiler of C++")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    faces = find_typefaces(TYPEFACES)
    training = Training(FULL, options.work, options.log, faces, is_compiled=options.compile)
    with stop_between_steps() as stop, Bar() as bar:
        training.run(stop, bar)
    workshop = training.workshop
    save(workshop.network, workshop.talk.tokenizer, options.out, torch.float16)
    print(f"checkpoint  {options.out}")


if __name__ == "__main__":
    sys.exit(exit_code(main))
