"""Answers questions about pictures with an exported model that looks again.

It needs numpy, Pillow, tokenizers and one inference library.
"""

from vpt_edge.runtime.bundle import Bundle
from vpt_edge.runtime.errors import VptError
from vpt_edge.runtime.perception.actions import Crop, Reencode
from vpt_edge.runtime.pipeline import Pipeline
from vpt_edge.runtime.result import Answer, Finished, Looked, Text

__all__ = [
    "Answer",
    "Bundle",
    "Crop",
    "Finished",
    "Looked",
    "Pipeline",
    "Reencode",
    "Text",
    "VptError",
]
