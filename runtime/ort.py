"""ONNX Runtime on the CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vpt_edge.runtime.errors import SessionError

if TYPE_CHECKING:
    import numpy as np

    from vpt_edge.runtime.bundle import Bundle
    from vpt_edge.runtime.session import Arrays

PROVIDER = "CPUExecutionProvider"


class OrtSession:
    """One graph on ONNX Runtime. Arrays are bound where they lie: nothing is copied in or out."""

    def __init__(self, bundle: Bundle, name: str) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise SessionError(f"onnxruntime cannot be imported ({error}); pip install vpt-edge") from error
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        path = bundle.file(bundle.graph(name).file)
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=[PROVIDER])
        except Exception as error:  # ONNX Runtime has no public tree of errors
            raise SessionError(f"ONNX Runtime cannot open {path}: {error}; export the checkpoint again") from error
        self._name = name
        self._binding: Any = self._session.io_binding()
        self._bound: dict[str, np.ndarray[Any, Any]] = {}

    def run(self, inputs: Arrays, outputs: Arrays) -> None:
        for arrays, bind in ((inputs, self._binding.bind_input), (outputs, self._binding.bind_output)):
            for name, array in arrays.items():
                if self._bound.get(name) is array:
                    continue
                if not array.flags.c_contiguous:
                    raise SessionError(f"{name} of {self._name} is not contiguous: {array.shape}, {array.strides}")
                bind(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
                self._bound[name] = array  # keeps the memory alive, and spares the next run the binding
        try:
            self._session.run_with_iobinding(self._binding)
        except Exception as error:  # see above
            shapes = ", ".join(f"{name} {array.shape}" for name, array in inputs.items())
            raise SessionError(f"ONNX Runtime failed in {self._name} ({shapes}): {error}") from error

    def close(self) -> None:
        self._bound.clear()
        self._binding = self._session = None
