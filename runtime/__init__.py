"""Answers questions about pictures with an exported model that looks again.

It needs numpy, Pillow, tokenizers and one inference library.
"""

import os

from vpt_edge.runtime.bundle import Bundle
from vpt_edge.runtime.errors import VptError
from vpt_edge.runtime.frames import Frames
from vpt_edge.runtime.options import Exchange
from vpt_edge.runtime.perception.actions import Crop, Reencode
from vpt_edge.runtime.pipeline import Pipeline
from vpt_edge.runtime.result import Answer, Finished, Looked, Refused, Text, Thought

# Else ONNX Runtime looks for its makers' server with every session. It heeds this when it is
# loaded, which no module of ours does while it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__all__ = [
    "Answer",
    "Bundle",
    "Crop",
    "Exchange",
    "Finished",
    "Frames",
    "Looked",
    "Pipeline",
    "Reencode",
    "Refused",
    "Text",
    "Thought",
    "VptError",
]
