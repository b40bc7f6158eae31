"""INT8 and INT4 in a graph: which products are quantized, and how each target writes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import onnx_ir as ir

from vpt_edge.export.quantization.fusion import fuse_qkv
from vpt_edge.export.quantization.matmuls import Product, products
from vpt_edge.export.quantization.rounding import Rounded, int4_weight, int8_weight, packed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vpt_edge.calibration.recorder import Key
    from vpt_edge.calibration.smoothing import Smoothing
    from vpt_edge.export.quantization.recipe import Recipe

    Array = NDArray[np.float32]

EVERY = "*"
HEAD = "lm_head.weight"  # the product that chooses tokens
MANY, NAMED = (
    4096,
    64,
)  # outputs from which on it pays that INT4 names some, and how many it names for INT8 to judge
INT4_OPSET = 21  # the first with INT4 and blocks


def _int4(product: Product, block: int, importance: Array) -> Rounded:
    return Rounded(
        lambda: int4_weight(
            product.read() if product.axis == 1 else product.read().T, block, importance
        )
    )


class Quantizer:
    """Rewrites the products of one graph.

    ``dtype`` is what the graph computes in: float32 or float16.
    """

    def __init__(self, model: ir.Model, target: str, dtype: str) -> None:
        self._model, self._target, self._dtype = model, target, np.dtype(dtype)
        self._activations: dict[tuple[str, float], list[ir.Value]] = {}
        self._dequantized: dict[str, ir.Value] = {}

    def int8(self, product: Product, threshold: float) -> None:
        """Signed Q/DQ around the activation and DQ behind the weight for TensorRT; one operator for
        ONNX Runtime.

        ONNX Runtime's x86 kernels want unsigned activations, with the zero point in the middle: the
        same numbers. Its operators are written as it would fuse them, because it fuses Q/DQ only
        where no other fusion comes first."""
        node, name, axis = product.node, product.name, product.axis
        rounded = Rounded(lambda: int8_weight(product.read(), axis))
        weight = self._stored(
            f"{name}.int8", ir.DataType.INT8, product.weight.shape, lambda: rounded.take(0)
        )
        scale = self._stored(
            f"{name}.scale", self._scale_type, [product.sizes[1]], lambda: rounded.take(1)
        )
        activation = self._activation(node, threshold)
        if self._target == "onnxruntime":
            zero = self._constant(f"{name}.zero", np.zeros(product.sizes[1], np.int8))
            quantized, step, point = activation
            if node.op_type == "Gemm":
                operator, inputs = "QGemm", [quantized, step, point, weight, scale, zero]
            else:
                operator, inputs = (
                    "MatMulIntegerToFloat",
                    [quantized, weight, step, scale, point, zero],
                )
                inputs += self._take_bias(product)
            attributes = {"transB": 1 - axis} if node.op_type == "Gemm" else {}
            self._put(
                product,
                ir.node(
                    operator, inputs, attributes, domain="com.microsoft", name=f"{name}.matmul"
                ),
            )
            return
        if (key := activation[0].name or "") not in self._dequantized:
            self._dequantized[key] = self._dequantize(node, activation)
        self._replace(
            product, self._dequantized[key], self._dequantize(node, [weight, scale], axis=axis)
        )

    def int4(self, product: Product, block: int, importance: Array) -> None:
        """Weights in blocks of ``block``: MatMulNBits of ONNX Runtime, DQ with blocks for TensorRT."""
        node, name, (inputs, outputs) = product.node, product.name, product.sizes
        if self._target == "onnxruntime":
            self._put(product, self._blocks(product, block, importance))
            return
        blocks = -(-inputs // block)
        rounded = _int4(product, block, importance)
        self._model.graph.opset_imports[""] = INT4_OPSET
        weight = self._stored(
            f"{name}.int4",
            ir.DataType.INT4,
            [inputs, outputs],
            lambda: rounded.take(0).astype(ml_dtypes.int4),
        )
        scale = self._stored(
            f"{name}.scale", self._scale_type, [blocks, outputs], lambda: rounded.take(1)
        )
        self._replace(
            product,
            node.inputs[0],
            self._dequantize(node, [weight, scale], axis=0, block_size=block),
        )

    def shortlist(self, product: Product, block: int, threshold: float) -> None:
        """Of many outputs only the largest count: INT4 names NAMED of them, and those are what INT8
        makes of them.

        It reads half of the bytes, and the int8 rows stay on disk but for those that are named. For
        ONNX Runtime, of a weight (outputs, inputs) and an activation (1, inputs)."""
        node, name, (inputs, outputs) = product.node, product.name, product.sizes
        rounded = Rounded(lambda: int8_weight(product.read(), 0))
        weight = self._stored(
            f"{name}.int8", ir.DataType.INT8, [outputs, inputs], lambda: rounded.take(0)
        )
        scale = self._stored(f"{name}.scale", self._scale_type, [outputs], lambda: rounded.take(1))
        x = self._dequantize(node, self._activation(node, threshold))

        def add(
            operator: str, inputs: list[ir.Value], output: int = 0, **attributes: int
        ) -> ir.Value:
            made = ir.node(operator, inputs, attributes, num_outputs=output + 1)
            for place, value in enumerate(made.outputs):
                value.name = f"{name}.{operator}.{inputs[0].name}.{place}"
            self._model.graph.insert_before(node, made)
            return made.outputs[output]

        rough = self._blocks(product, block, np.ones(inputs, np.float32))
        rough.outputs[0].name = f"{name}.rough"
        self._model.graph.insert_before(node, rough)
        count = self._constant(f"{name}.named", np.array([min(NAMED, outputs)], np.int64))
        last = self._constant(f"{name}.last", np.array([2], np.int64))
        named = add("TopK", [rough.outputs[0], count], 1)  # (1, named)
        rows = add(
            "Cast", [add("Gather", [weight, named])], to=ir.DataType.FLOAT
        )  # (1, named, inputs)
        fine = add(
            "ReduceSum", [add("Mul", [rows, x]), last], keepdims=0
        )  # a MatMul of so few would want to be fused
        fine = add("Mul", [fine, add("Gather", [scale, named])])
        self._put(
            product,
            ir.node("ScatterElements", [rough.outputs[0], named, fine], {"axis": 1}, name=name),
        )

    def _blocks(self, product: Product, block: int, importance: Array) -> ir.Node:
        """ONNX Runtime's product with a weight in INT4 blocks."""
        name, (inputs, outputs) = product.name, product.sizes
        blocks, rounded = -(-inputs // block), _int4(product, block, importance)
        weight = self._stored(
            f"{name}.int4",
            ir.DataType.UINT8,
            [outputs, blocks, block // 2],
            lambda: packed(rounded.take(0), block),
        )
        scale = self._stored(
            f"{name}.int4.scale",
            self._scale_type,
            [outputs * blocks],
            lambda: rounded.take(1).T.reshape(-1),
        )
        attributes = {
            "K": inputs,
            "N": outputs,
            "bits": 4,
            "block_size": block,
            "accuracy_level": 4,
        }
        inputs_of, bias = [product.node.inputs[0], weight, scale], self._take_bias(product)
        inputs_of += (
            [None, None, *bias] if bias else []
        )  # neither zero points nor an order of groups
        return ir.node(
            "MatMulNBits", inputs_of, attributes, domain="com.microsoft", name=f"{name}.matmul"
        )

    def int8_cache(self, scales: Mapping[str, Array]) -> None:
        """Keys and values of int8 in the cache that ONNX Runtime's attention shares: ``scales`` by
        part and channel."""
        for node in self._model.graph:
            if node.op_type != "GroupQueryAttention":
                continue
            pasts = [value for value in node.inputs[3:5] if value is not None]
            node.resize_inputs(
                14
            )  # between the rotations and the scales there are three that stay empty
            for place, past in enumerate(pasts, 12):
                part = (past.name or "").removeprefix("past.")
                node.replace_input_with(place, self._constant(f"cache.{part}.scale", scales[part]))
            for value in (*pasts, *node.outputs[1:3]):
                value.dtype = ir.DataType.INT8
            how = (
                ir.AttrInt64("kv_cache_bit_width", 8),
                *(ir.AttrString(f"{part}_quant_type", "PER_CHANNEL") for part in "kv"),
            )
            node.attributes.update({attribute.name: attribute for attribute in how})

    def _take_bias(self, product: Product) -> list[ir.Value]:
        """The bias that is added to the product, if it has one; the addition, a pass over the
        outputs, is gone."""
        out = product.node.outputs[0]
        add = next(iter(out.consumers()), None)
        if add is None or add.op_type != "Add" or len(out.uses()) > 1:
            return []
        (bias,) = (value for value in add.inputs if value is not out)
        stored = bias is not None and bias.name in self._model.graph.initializers
        if bias is None or not stored or bias.shape != ir.Shape([product.sizes[1]]):
            return []
        total = add.outputs[0]
        out.type, out.shape = total.type, total.shape
        total.replace_all_uses_with(out, replace_graph_outputs=True)
        self._model.graph.remove(add, safe=True)
        out.name, total.name = total.name, f"{total.name}.float"
        return [bias]

    def _put(self, product: Product, fused: ir.Node) -> None:
        """``fused`` in the place of the product's node."""
        node, graph = product.node, self._model.graph
        graph.opset_imports["com.microsoft"] = 1
        graph.insert_before(node, fused)
        old, new = node.outputs[0], fused.outputs[0]
        new.type, new.shape = old.type, old.shape
        old.replace_all_uses_with(new, replace_graph_outputs=True)
        new.name, old.name = old.name, f"{old.name}.float"
        graph.remove(node, safe=True)
        self._forget(product.weight)

    @property
    def _scale_type(self) -> ir.DataType:
        return ir.DataType.from_numpy(self._dtype)

    def _activation(self, node: ir.Node, threshold: float) -> list[ir.Value]:
        """The quantized activation of ``node``, its scale and zero point; products of one
        activation share them."""
        value = node.inputs[0]
        assert value is not None
        key = value.name or "", threshold
        if key not in self._activations:
            zero = (
                np.array(128, np.uint8) if self._target == "onnxruntime" else np.array(0, np.int8)
            )
            step = max(threshold / 127, float(np.finfo(np.float16).tiny))
            scale = self._constant(f"{value.name}.step", np.array(step, self._dtype))
            point = self._constant(f"{value.name}.zero", zero)
            quantize = ir.node(
                "QuantizeLinear", [value, scale, point], name=f"{value.name}.quantize"
            )
            quantize.outputs[0].name = f"{value.name}.quantized"
            self._model.graph.insert_before(node, quantize)
            self._activations[key] = [quantize.outputs[0], scale, point]
        return self._activations[key]

    def _dequantize(self, before: ir.Node, inputs: list[ir.Value], **attributes: int) -> ir.Value:
        node = ir.node("DequantizeLinear", inputs, attributes, name=f"{inputs[0].name}.dequantize")
        node.outputs[0].name = f"{inputs[0].name}.dequantized"
        self._model.graph.insert_before(before, node)
        return node.outputs[0]

    def _replace(self, product: Product, activation: ir.Value | None, weight: ir.Value) -> None:
        product.node.replace_input_with(0, activation)
        product.node.replace_input_with(1, weight)
        self._forget(product.weight)

    def _forget(self, weight: ir.Value) -> None:
        if not weight.uses():
            del self._model.graph.initializers[weight.name or ""]

    def _constant(self, name: str, array: NDArray[Any]) -> ir.Value:
        if name in self._model.graph.initializers:
            return self._model.graph.initializers[name]
        return self._stored(name, ir.DataType.from_numpy(array.dtype), array.shape, lambda: array)

    def _stored(
        self, name: str, dtype: ir.DataType, shape: Any, make: Callable[[], NDArray[Any]]
    ) -> ir.Value:
        sizes = ir.Shape([int(size) for size in shape])
        value = ir.Value(name=name, shape=sizes, type=ir.TensorType(dtype))
        value.const_value = ir.LazyTensor(
            lambda: ir.tensor(np.ascontiguousarray(make(), dtype.numpy()), dtype=dtype),
            dtype=dtype,
            shape=sizes,
            name=name,
        )
        self._model.graph.register_initializer(value)
        return value


@dataclass(frozen=True)
class Plan:
    """What a quantized export does to each product, by (graph, weight).

    ``smoothing`` by graph; ``thresholds`` clip the activations of int8 products; ``importance`` is
    the mean square of what each row of an int4 weight is multiplied with, ``block`` the int4 block;
    ``floats`` are the products that stay in float, with the reason; the weight "*" stands for every
    product of a graph. ``cache_scales`` has one for each channel (kv_heads * head_dim,) of an int8
    cache, by part such as "0.key"; nothing where the cache is of floats."""

    recipe: Recipe
    smoothing: Mapping[str, Smoothing]
    thresholds: Mapping[Key, float]
    importance: Mapping[Key, Array]
    floats: Mapping[Key, str]
    block: int
    cache_scales: Mapping[str, Array] = field(default_factory=dict)

    def kind(self, key: Key, inputs: int) -> str | None:
        """ "int8", "int4" or None; an int4 product whose inputs do not part into blocks becomes
        int8."""
        kept = key in self.floats or (key[0], EVERY) in self.floats
        kind = None if kept else self.recipe.kind(*key)
        return "int8" if kind == "int4" and inputs % self.block else kind

    def apply(self, model: ir.Model, graph: str, target: str, dtype: str) -> None:
        """Quantize the products of ``model``, the graph ``graph`` written for ``target``, computing
        in ``dtype``."""
        quantizer = Quantizer(model, target, dtype)
        for product in products(model):
            key = graph, product.name
            kind = self.kind(key, product.sizes[0])
            if kind == "int8" and target == "onnxruntime" and self._is_shortlisted(product):
                quantizer.shortlist(product, self.block, self.thresholds[key])
            elif kind == "int8":
                quantizer.int8(product, self.thresholds[key])
            elif kind == "int4":
                quantizer.int4(product, self.block, self.importance[key])
        if graph == "decoder" and self.cache_scales:
            quantizer.int8_cache(self.cache_scales)
        fuse_qkv(model)

    def _is_shortlisted(self, product: Product) -> bool:
        inputs, outputs = product.sizes
        return (
            product.name == HEAD
            and product.axis == 0
            and outputs >= MANY
            and inputs % self.block == 0
        )

    def to_dict(self) -> dict[str, Any]:
        """What ``ranges.json`` has: thresholds and strengths of smoothing by graph, and the steps
        of an int8 cache."""
        thresholds: dict[str, dict[str, float]] = {}
        for (graph, weight), threshold in self.thresholds.items():
            thresholds.setdefault(graph, {})[weight] = threshold
        strengths = {graph: part.strengths for graph, part in self.smoothing.items()}
        cache = {part: scales.tolist() for part, scales in self.cache_scales.items()}
        return {"thresholds": thresholds, "smoothing": strengths} | (
            {"cache": cache} if cache else {}
        )
