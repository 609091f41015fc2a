"""An ONNX graph that is written node by node, with onnx's own helper."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from forestall.model.samples import Float32Array, IntArray

OPSET, IR_VERSION = 17, 9
HALF = ".half"

Shape = Sequence[str | int]


class Graph:
    """Collects nodes and constants, each method giving the name of what it made."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}

    def constant(self, name: str, value: Float32Array | IntArray | Sequence[int] | float) -> str:
        """A constant; a plain number has single precision."""
        array = np.asarray(value, np.float32 if isinstance(value, float) else None)
        self._constants[name] = numpy_helper.from_array(array, name)
        return name

    def weight(self, name: str, value: Float32Array) -> str:
        """A constant that is kept half as wide as it is used."""
        self._constants[f"{name}{HALF}"] = numpy_helper.from_array(value.astype(np.float16), f"{name}{HALF}")
        return self.node("Cast", [f"{name}{HALF}"], name, to=TensorProto.FLOAT)

    def node(self, kind: str, inputs: Sequence[str], output: str | Sequence[str], **attributes: Any) -> str:
        """A node; the name of its first output."""
        outputs = [output] if isinstance(output, str) else list(output)
        self._nodes.append(helper.make_node(kind, list(inputs), outputs, **attributes))
        return outputs[0]

    def part(self, source: str, start: int, end: int, axis: int, output: str) -> str:
        """What stands from ``start`` to ``end`` on an axis."""
        bounds = [
            self.constant(f"{output}.{name}", np.array([v], np.int64))
            for name, v in (("from", start), ("to", end), ("axis", axis))
        ]
        return self.node("Slice", [source, *bounds], output)

    def build(self, name: str, inputs: dict[str, Shape], outputs: dict[str, Shape]) -> bytes:
        """The whole graph, checked."""

        def values(shapes: dict[str, Shape]) -> list[onnx.ValueInfoProto]:
            kinds = {n: TensorProto.INT64 if n == "wanted" else TensorProto.FLOAT for n in shapes}
            return [helper.make_tensor_value_info(n, kinds[n], list(s)) for n, s in shapes.items()]

        graph = helper.make_graph(self._nodes, name, values(inputs), values(outputs), [*self._constants.values()])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
        onnx.checker.check_model(model, full_check=True)
        return bytes(model.SerializeToString())
