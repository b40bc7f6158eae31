"""A model that speaks from a script, a token at a time, when it is told to."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from serving import Served

from vpt_edge.runtime import Pipeline
from vpt_edge.runtime.testing import Script

if TYPE_CHECKING:
    from vpt_edge.runtime import Bundle
    from vpt_edge.runtime.bundle import Model
    from vpt_edge.runtime.sessions import Arrays, Session

LONG = 30.0


class Gate:
    """Lets steps of the decoder pass; ``steps`` counts those that have begun."""

    def __init__(self) -> None:
        self.steps = 0
        self._open = threading.Event()
        self._permits = threading.Semaphore(0)
        self._begun = threading.Condition()

    def let(self, steps: int) -> None:
        """Let so many pass."""
        for _ in range(steps):
            self._permits.release()

    def open(self) -> None:
        """Let everything pass from now on."""
        self._open.set()
        self._permits.release()

    def wait_for(self, steps: int) -> None:
        """Until so many have begun."""
        with self._begun:
            assert self._begun.wait_for(lambda: self.steps >= steps, LONG)

    def pass_by(self) -> None:
        """Of a step: wait until it may."""
        with self._begun:
            self.steps += 1
            self._begun.notify_all()
        if not self._open.is_set():
            assert self._permits.acquire(timeout=LONG)
        if self._open.is_set():
            self._permits.release()


class GatedScript(Script):
    def __init__(self, gate: Gate, *turns: str) -> None:
        super().__init__(*turns)
        self._gate = gate

    def __call__(self, model: Model, name: str, /) -> Session:
        session = super().__call__(model, name)
        if name == "decoder":
            return GatedSession(session, self._gate)
        return session


class GatedSession:
    def __init__(self, session: Session, gate: Gate) -> None:
        self._session = session
        self._gate = gate

    def run(self, inputs: Arrays, outputs: Arrays) -> None:
        self._gate.pass_by()
        self._session.run(inputs, outputs)

    def zeros(self, shape: tuple[int, ...], dtype: Any, /) -> Any:
        return self._session.zeros(shape, dtype)

    def close(self) -> None:
        self._session.close()


class GatedServer(Served):
    """A server whose model waits at a ``gate``."""

    def __init__(self, bundle: Bundle, *turns: str, **options: Any) -> None:
        self.gate = Gate()
        self.script = GatedScript(self.gate, *turns)

        def open_pipeline() -> Pipeline:
            return Pipeline(bundle, opener=self.script)

        self._start(open_pipeline, options)

    def close(self) -> None:
        self.gate.open()
        super().close()
