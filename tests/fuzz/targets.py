"""The targets by name."""

from __future__ import annotations

from fuzz.checkpoint_targets import CHECKPOINT
from fuzz.graph_targets import GRAPH
from fuzz.runtime_targets import RUNTIME

TARGETS = {**RUNTIME, **CHECKPOINT, **GRAPH}
