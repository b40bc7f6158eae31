"""Runs a float bundle through the runtime's own loop and watches what flows into its matrix products."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime

from vpt_edge.calibration.ranges import Statistics

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vpt_edge.runtime.bundle import Bundle
    from vpt_edge.runtime.session import Arrays, Session

Key = tuple[str, str]  # graph and weight, such as ("decoder", "layers.0.mlp.down_proj.weight")

PRODUCTS = ("MatMul", "Gemm")
TURNED = ".transposed"
ROWS = 64  # of an activation, that sensitivity is measured on


def products(model: onnx.ModelProto) -> dict[str, str]:
    """Weight -> the tensor that it is multiplied with, for every matrix product with a stored weight."""
    stored = {item.name for item in model.graph.initializer}
    nodes = [node for node in model.graph.node if node.op_type in PRODUCTS and node.input[1] in stored]
    return {node.input[1].removesuffix(TURNED): node.input[0] for node in nodes}


class Observer:
    """Opens sessions that watch; ``statistics`` grows with each run.

    ``divisors`` are smoothing scales: what is observed is divided by them, as the folded weights will do it.
    """

    def __init__(self, divisors: Mapping[Key, NDArray[np.floating]] | None = None) -> None:
        self.divisors = divisors or {}
        self.statistics: dict[Key, Statistics] = {}

    def __call__(self, bundle: Bundle, name: str, /) -> Session:
        return ObservingSession(bundle, name, self)

    def watch(self, key: Key, tensor: NDArray[np.float32]) -> None:
        """``tensor`` (..., inputs) goes into the product ``key``."""
        divisor = self.divisors.get(key)
        statistics = self.statistics.setdefault(key, Statistics(tensor.shape[-1]))
        statistics.observe(tensor if divisor is None else tensor / divisor)


class Sensitivity(Observer):
    """Measures instead what rounding does to each product's output.

    ``round_weight`` gives a product's weight (inputs, outputs) float and as it is stored, smoothing folded in;
    ``thresholds`` clip the activations of those that round them too. ``errors`` are relative mean squares.
    """

    def __init__(
        self,
        divisors: Mapping[Key, NDArray[np.floating]],
        thresholds: Mapping[Key, float],
        round_weight: Callable[[Key], tuple[NDArray[np.float32], NDArray[np.float32]]],
    ) -> None:
        super().__init__(divisors)
        self._thresholds, self._round_weight = thresholds, cache(round_weight)
        self._sums: dict[Key, NDArray[np.float64]] = {}

    def watch(self, key: Key, tensor: NDArray[np.float32]) -> None:
        rows = tensor.reshape(-1, tensor.shape[-1])[-ROWS:]
        rows = rows / self.divisors[key] if key in self.divisors else rows
        weight, rounded = self._round_weight(key)
        step = self._thresholds[key] / 127 if key in self._thresholds else 0.0
        seen = np.clip(np.round(rows / step), -127, 127) * step if step else rows
        exact = rows @ weight
        error = np.array([np.square(seen @ rounded - exact).sum(), np.square(exact).sum()], np.float64)
        self._sums[key] = self._sums.get(key, np.zeros(2)) + error

    @property
    def errors(self) -> dict[Key, float]:
        return {key: float(error / max(size, 1e-30)) for key, (error, size) in self._sums.items()}


class ObservingSession:
    """One graph of a float bundle, with the inputs of its matrix products as further outputs."""

    def __init__(self, bundle: Bundle, name: str, observer: Observer) -> None:
        model = onnx.load(str(bundle.file(bundle.graph(name).file)), load_external_data=False)
        self._inputs = products(model)
        self._name, self._observer = name, observer
        known = {value.name for value in (*model.graph.input, *model.graph.output)}
        self._watched = [tensor for tensor in dict.fromkeys(self._inputs.values()) if tensor not in known]
        model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(tensor) for tensor in self._watched)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(bundle.path))
        self._session: Any = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def run(self, inputs: Arrays, outputs: Arrays) -> None:
        binding = self._session.io_binding()
        for arrays, bind in ((inputs, binding.bind_input), (outputs, binding.bind_output)):
            for name, array in arrays.items():
                bind(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        for tensor in self._watched:
            binding.bind_output(tensor, "cpu")
        self._session.run_with_iobinding(binding)
        values = [value.numpy() for value in binding.get_outputs()[len(outputs) :]]
        self._observe({**inputs, **outputs, **dict(zip(self._watched, values, strict=True))})

    def _observe(self, tensors: Arrays) -> None:
        for weight, tensor in self._inputs.items():
            self._observer.watch((self._name, weight), tensors[tensor])

    def close(self) -> None:
        self._session = None
