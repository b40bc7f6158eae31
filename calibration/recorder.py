"""Runs a float bundle through the runtime's own loop and watches what flows into its matrix
products."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime

from vpt_edge.calibration.ranges import Statistics

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vpt_edge.runtime.bundle import Bundle
    from vpt_edge.runtime.sessions import Arrays, Session

Key = tuple[str, str]  # graph and weight, such as ("decoder", "layers.0.mlp.down_proj.weight")

PRODUCTS = ("MatMul", "Gemm")
TURNED = ".transposed"
ROWS, ROWS_A_RUN = 256, 32  # of an activation, that sensitivity is measured on


def products(model: onnx.ModelProto) -> dict[str, str]:
    """Weight -> the tensor that it is multiplied with, for every matrix product with a stored
    weight."""
    stored = {item.name for item in model.graph.initializer}
    nodes = [
        node for node in model.graph.node if node.op_type in PRODUCTS and node.input[1] in stored
    ]
    return {node.input[1].removesuffix(TURNED): node.input[0] for node in nodes}


class Observer:
    """Opens sessions that watch; ``statistics`` grows with each run.

    ``divisors`` are smoothing scales: what is observed is divided by them, as the folded weights
    will do it. ``session`` makes a session of a bundle's graph that tells the observer; the usual
    one runs ONNX Runtime. ``largest`` are the keys and values of largest magnitude, by part
    ("0.key") and channel (kv_heads * head_dim,)."""

    def __init__(
        self,
        divisors: Mapping[Key, NDArray[np.floating]] | None = None,
        session: Callable[[Bundle, str, Observer], Session] | None = None,
    ) -> None:
        self.divisors = divisors or {}
        self.statistics: dict[Key, Statistics] = {}
        self.largest: dict[str, NDArray[np.float32]] = {}
        self._session = session or ObservingSession

    def __call__(self, bundle: Bundle, name: str, /) -> Session:
        return self._session(bundle, name, self)

    def watch(self, key: Key, tensor: NDArray[np.float32]) -> None:
        """``tensor`` (..., inputs) goes into the product ``key``."""
        divisor = self.divisors.get(key)
        statistics = self.statistics.setdefault(key, Statistics(tensor.shape[-1]))
        statistics.observe(tensor if divisor is None else tensor / divisor)

    def remember(self, inputs: Arrays, outputs: Arrays) -> None:
        """What a run of the decoder has written into a cache of either layout.

        The rotary embedding turns two channels of a key into each other: they share the largest
        length of both, which holds at every position."""
        count, half = inputs["embeds"].shape[1], inputs["cos"].shape[1]
        for name in (name for name in outputs if name.startswith("present.")):
            rows = outputs[name][0]
            if (
                "total_sequence_length" in inputs
            ):  # a shared cache holds what was there before, and room
                end = int(inputs["total_sequence_length"])
                rows = rows[:, end - count : end].transpose(1, 0, 2)
            halves = np.abs(rows.reshape(count, -1, 2, half))
            if name.endswith(".key"):
                halves = np.repeat(np.hypot(halves[:, :, :1], halves[:, :, 1:]), 2, axis=2)
            largest, part = halves.max(0).ravel(), name.removeprefix("present.")
            self.largest[part] = np.maximum(self.largest.get(part, largest), largest)


class Sensitivity(Observer):
    """Keeps some rows of what flows into each product, to measure what rounding does to its output.

    ``thresholds`` clip the activations of the products that round them too. Memory does not grow
    with the samples, and no more than one weight is held at a time."""

    def __init__(
        self,
        divisors: Mapping[Key, NDArray[np.floating]],
        thresholds: Mapping[Key, float],
        session: Callable[[Bundle, str, Observer], Session] | None = None,
    ) -> None:
        super().__init__(divisors, session)
        self._thresholds = thresholds
        self._rows: dict[Key, list[NDArray[np.float32]]] = {}

    def watch(self, key: Key, tensor: NDArray[np.float32]) -> None:
        kept = self._rows.setdefault(key, [])
        room = ROWS - sum(len(rows) for rows in kept)
        if room > 0:
            rows = tensor.reshape(-1, tensor.shape[-1])[-min(room, ROWS_A_RUN) :]
            kept.append(rows / self.divisors[key] if key in self.divisors else rows.copy())

    def error(self, key: Key, weight: NDArray[np.float32], rounded: NDArray[np.float32]) -> float:
        """Mean square of the output's change over its own, for a weight (inputs, outputs) and as it
        is stored."""
        rows = np.concatenate(self._rows[key]).astype(np.float32)
        step = self._thresholds[key] / 127 if key in self._thresholds else 0.0
        seen = np.clip(np.round(rows / step), -127, 127) * step if step else rows
        exact = rows @ weight
        return float(np.square(seen @ rounded - exact).sum() / max(np.square(exact).sum(), 1e-30))

    @property
    def keys(self) -> list[Key]:
        """The products that were run."""
        return list(self._rows)


class ObservingSession:
    """One graph of a float bundle, with the inputs of its matrix products as further outputs."""

    def __init__(self, bundle: Bundle, name: str, observer: Observer) -> None:
        model = onnx.load(str(bundle.file(bundle.graph(name).file)), load_external_data=False)
        self._inputs = products(model)
        self._name, self._observer = name, observer
        known = {value.name for value in (*model.graph.input, *model.graph.output)}
        self._watched = [
            tensor for tensor in dict.fromkeys(self._inputs.values()) if tensor not in known
        ]
        model.graph.output.extend(
            onnx.helper.make_empty_tensor_value_info(tensor) for tensor in self._watched
        )
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.add_session_config_entry(
            "session.model_external_initializers_file_folder_path", str(bundle.path)
        )
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
        if self._name == "decoder":
            self._observer.remember(inputs, outputs)

    def _observe(self, tensors: Arrays) -> None:
        for weight, tensor in self._inputs.items():
            self._observer.watch((self._name, weight), tensors[tensor])

    def zeros(self, shape: tuple[int, ...], dtype: Any, /) -> NDArray[Any]:
        return np.zeros(shape, dtype)

    def close(self) -> None:
        self._session = None
