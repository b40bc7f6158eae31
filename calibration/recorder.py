"""Records what flows into a float model's matmuls while the runtime's own loop asks it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from vpt_edge.calibration.cpu_session import open_cpu_session
from vpt_edge.calibration.ranges import Statistics
from vpt_edge.runtime.names import utf8_name

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vpt_edge.calibration.encoder_runs import EncoderRuns
    from vpt_edge.runtime.bundle import Bundle
    from vpt_edge.runtime.sessions import Arrays

Key = tuple[str, str]  # graph and weight, such as ("decoder", "layers.0.mlp.down_proj.weight")

MATMULS = ("MatMul", "Gemm")
TRANSPOSED = ".transposed"  # ends the name of a weight that is not stored as the module has it
ROWS = 256  # of an activation, that sensitivity is measured on
ROWS_A_RUN = 32


def weight_name(stored: str) -> str:
    """The name in the module of the weight that a graph stores as ``stored``."""
    return stored.removesuffix(TRANSPOSED)


def matmul_inputs(model: onnx.ModelProto) -> dict[str, str]:
    """Weight -> the tensor that it is multiplied with, for every matmul with a stored weight."""
    stored = {item.name for item in model.graph.initializer}
    inputs = {}
    for node in model.graph.node:
        if node.op_type in MATMULS and node.input[1] in stored:
            inputs[weight_name(node.input[1])] = node.input[0]
    return inputs


class ActivationRecorder:
    """Grows ``statistics`` of the activations that it is told.

    ``divisors`` are smoothing scales: an activation is divided by them, as the folded weights will
    do it. ``largest`` are the keys and values of largest magnitude, by part ("0.key") and channel
    (kv_heads * head_dim,). What the encoders are given is kept in ``runs``.
    """

    def __init__(
        self,
        divisors: Mapping[Key, NDArray[np.floating]] | None = None,
        runs: EncoderRuns | None = None,
    ) -> None:
        self.divisors = divisors or {}
        self._runs = runs
        self.statistics: dict[Key, Statistics] = {}
        self.largest: dict[str, NDArray[np.float32]] = {}

    def record(self, key: Key, tensor: NDArray[np.float32]) -> None:
        """``tensor`` (..., inputs) goes into the matmul ``key``."""
        statistics = self.statistics.setdefault(key, Statistics(tensor.shape[-1]))
        statistics.observe(tensor, self.divisors.get(key))

    def record_run(self, graph: str, inputs: Arrays, outputs: Arrays) -> None:
        """A whole run of ``graph``."""
        if graph == "decoder":
            self._record_cache(inputs, outputs)
        elif self._runs is not None:
            self._runs.add(graph, inputs, outputs)

    def _record_cache(self, inputs: Arrays, outputs: Arrays) -> None:
        """What a run of the decoder has written into a cache of either layout."""
        count = inputs["embeds"].shape[1]
        half = inputs["cos"].shape[1]
        for name in outputs:
            if name.startswith("present."):
                rows = _last_rows(inputs, outputs[name][0], count)
                pairs = rows.reshape(count, -1, 2, half)
                largest = _largest_magnitudes(pairs, rotated=name.endswith(".key"))
                part = name.removeprefix("present.")
                self.largest[part] = np.maximum(self.largest.get(part, largest), largest)


def _last_rows(inputs: Arrays, present: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """The ``count`` tokens that a run of the decoder has computed, first in the result."""
    if "total_sequence_length" not in inputs:
        return present
    end = int(inputs["total_sequence_length"])  # a shared cache holds what was there before
    return present[:, end - count : end].transpose(1, 0, 2)


def _largest_magnitudes(pairs: NDArray[np.float32], rotated: bool) -> NDArray[np.float32]:
    """Of each channel (kv_heads * head_dim,) of keys or values (tokens, kv_heads, 2, half).

    The rotary embedding turns the two channels of a pair into each other: they share the largest
    length of both, which holds at every position.
    """
    magnitudes = np.abs(pairs)
    if rotated:
        lengths = np.hypot(magnitudes[:, :, :1], magnitudes[:, :, 1:])
        magnitudes = np.repeat(lengths, 2, axis=2)
    return magnitudes.max(0).ravel()


class RowRecorder(ActivationRecorder):
    """Keeps some rows of each activation, to measure what rounding does to a matmul's output.

    ``thresholds`` clip the activations of the matmuls that round them too. Memory does not grow
    with the samples, and no more than one weight is held at a time.
    """

    def __init__(
        self, divisors: Mapping[Key, NDArray[np.floating]], thresholds: Mapping[Key, float]
    ) -> None:
        super().__init__(divisors)
        self._thresholds = thresholds
        self._rows: dict[Key, list[NDArray[np.float32]]] = {}

    def record(self, key: Key, tensor: NDArray[np.float32]) -> None:
        parts = self._rows.setdefault(key, [])
        remaining = ROWS - sum(len(rows) for rows in parts)
        if remaining > 0:
            rows = tensor.reshape(-1, tensor.shape[-1])[-min(remaining, ROWS_A_RUN) :]
            divisor = self.divisors.get(key)
            parts.append(rows.copy() if divisor is None else rows / divisor)

    def error(self, key: Key, weight: NDArray[np.float32], rounded: NDArray[np.float32]) -> float:
        """Mean square of the output's change over its own, for a weight (inputs, outputs) and as it
        is stored.
        """
        rows: NDArray[np.floating] = np.concatenate(self._rows[key]).astype(np.float32)
        exact = rows @ weight
        step = self._thresholds.get(key, 0.0) / 127
        if step:
            rows = np.clip(np.round(rows / step), -127, 127) * step
        change = np.square(rows @ rounded - exact).sum()
        return float(change / max(np.square(exact).sum(), 1e-30))

    @property
    def keys(self) -> list[Key]:
        """The matmuls that were run."""
        return list(self._rows)


class RecordingSession:
    """One graph of a float bundle, with the inputs of its matmuls as further outputs."""

    def __init__(self, bundle: Bundle, name: str, recorder: ActivationRecorder) -> None:
        self._name = name
        self._recorder = recorder
        file = bundle.file(bundle.graph(name).file)
        model = onnx.load(str(file), load_external_data=False)
        self._inputs = matmul_inputs(model)
        interface = {value.name for value in (*model.graph.input, *model.graph.output)}
        tensors = dict.fromkeys(self._inputs.values())
        self._watched = [tensor for tensor in tensors if tensor not in interface]
        for tensor in self._watched:
            model.graph.output.append(onnx.helper.make_empty_tensor_value_info(tensor))
        with utf8_name(file) as place:
            folder = str(Path(place).parent)
            entries = {"session.model_external_initializers_file_folder_path": folder}
            self._session: Any = open_cpu_session(model.SerializeToString(), entries)

    def run(self, inputs: Arrays, outputs: Arrays) -> None:
        binding = self._session.io_binding()
        for arrays, bind in ((inputs, binding.bind_input), (outputs, binding.bind_output)):
            for name, array in arrays.items():
                bind(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        for tensor in self._watched:
            binding.bind_output(tensor, "cpu")
        self._session.run_with_iobinding(binding)
        values = [value.numpy() for value in binding.get_outputs()[len(outputs) :]]
        tensors = {**inputs, **outputs, **dict(zip(self._watched, values, strict=True))}
        for weight, tensor in self._inputs.items():
            self._recorder.record((self._name, weight), tensors[tensor])
        self._recorder.record_run(self._name, inputs, outputs)

    def zeros(self, shape: tuple[int, ...], dtype: Any, /) -> NDArray[Any]:
        return np.zeros(shape, dtype)

    def close(self) -> None:
        self._session = None
