"""Serve the demo's bundle: an endpoint for OpenAI's clients, a page, and moving scenes.

python demo/serve.py build/demo-bundle-fp32
"""

from __future__ import annotations

import argparse
import sys

from vpt_edge import runtime
from vpt_edge.commands.console import exit_code
from vpt_edge.server import Settings
from vpt_edge.server.listener import Listener

SCENES = "scenes://signs?seed=26&rate=12&hold=8&side=768&tag=red"
HINTS = """\
Choose "scenes-signs" there, and ask: What does the red sign say?
The demo's model has learned single questions: for a second one about a picture, untick "Follow up".
Ctrl-C ends it."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve the demo's bundle, with moving scenes.")
    parser.add_argument("bundle")
    parser.add_argument("--port", type=int, default=8000, help="0 for one that is free")
    options = parser.parse_args()

    def notify(address: str) -> None:
        print(f"The page is at {address}", HINTS, sep="\n", flush=True)

    def open_pipeline() -> runtime.Pipeline:
        return runtime.Pipeline(options.bundle)

    settings = Settings(model="vpt-demo", perception="region", watch=(SCENES,))
    Listener(open_pipeline, settings, port=options.port, notify=notify).run()


if __name__ == "__main__":
    sys.exit(exit_code(main))
