"""The network as ONNX graphs, node by node.

Written with onnx's own helper and not exported by torch: its exporter traces the number of steps into the graph, needs
a package more, and takes ten seconds. The graphs are the formulae of :mod:`forestall.learning.training.network`;
a test holds them against it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import numpy_helper

from forestall.learning.recurrent.inputs import INPUTS, RATIOS
from forestall.learning.recurrent.model import About, RecurrentModel
from forestall.learning.training.graph import HALF, Graph
from forestall.learning.training.network import FIRST_STEP, LOG_SHIFT, MOST_DEVIATIONS, MOST_LINEAR, Network
from forestall.model.samples import Float32Array, IntArray

_CELL = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
_ORDER = {"lstm": (0, 3, 1, 2), "gru": (1, 0, 2)}
"""Where ONNX's gates stand among torch's: input, output, forget, cell; and update, reset, new."""


def as_model(network: Network) -> RecurrentModel:
    """Both graphs of a network."""
    weights = network.arrays()
    return RecurrentModel(network.about, _step(network.about, weights), _window(network.about, weights))


def weights_of(model: RecurrentModel) -> dict[str, Float32Array]:
    """The network's weights, read back from the graph of a step, as they are after training."""
    graph = onnx.load_model_from_string(model.step).graph
    stored = {value.name: numpy_helper.to_array(value) for value in graph.initializer}
    weights = {
        name.removeprefix("net.").removesuffix(HALF): value.astype(np.float32)
        for name, value in stored.items()
        if name.startswith("net.")
    }
    targets, hidden = len(model.about.targets), model.about.hidden
    weights["mixer.weight"] = weights["mixer.weight"].reshape(targets * hidden, 2 * hidden)
    weights["mixer.bias"] = weights["mixer.bias"].reshape(targets * hidden)
    back = np.argsort(_ORDER[model.about.kind])
    for name in _CELL:
        own = weights[f"cell.{name}"]
        weights[f"cell.{name}"] = _arranged(own if name.startswith("bias") else own[0], back)
    return weights


def _arranged(weight: Float32Array, order: Sequence[int] | IntArray) -> Float32Array:
    """Blocks of rows, one for each gate, in another order."""
    parts = np.split(weight, len(order))
    return np.concatenate([parts[k] for k in order])


def _encode(graph: Graph, weights: dict[str, Float32Array], source: str) -> str:
    """relu(A x' + a) of inputs (..., input)."""
    ratios = graph.part(source, 0, RATIOS, -1, "ratios")
    rest = graph.part(source, RATIOS, INPUTS, -1, "rest")
    graph.node("Min", [ratios, graph.constant("most", MOST_LINEAR)], "clipped")
    graph.node("Add", [ratios, graph.constant("shift", LOG_SHIFT)], "shifted")
    graph.node("Log", ["shifted"], "logarithm")
    graph.node("Concat", ["clipped", "logarithm", rest], "wide", axis=-1)
    graph.node("Sub", ["wide", graph.constant("net.mean", weights["mean"])], "centred")
    graph.node("Div", ["centred", graph.constant("net.deviation", weights["deviation"])], "unbounded")
    bounds = [graph.constant("fewest_deviations", -MOST_DEVIATIONS), graph.constant("most_deviations", MOST_DEVIATIONS)]
    graph.node("Clip", ["unbounded", *bounds], "standard")
    return _linear(graph, weights, "encoder", "standard")


def _linear(graph: Graph, weights: dict[str, Float32Array], name: str, source: str) -> str:
    weight = graph.weight(f"net.{name}.weight", weights[f"{name}.weight"])
    bias = graph.weight(f"net.{name}.bias", weights[f"{name}.bias"])
    graph.node("Transpose", [weight], f"{name}.transposed", perm=[1, 0])
    graph.node("MatMul", [source, f"{name}.transposed"], f"{name}.product")
    out = graph.node("Add", [f"{name}.product", bias], f"{name}.out")
    return graph.node("Relu", [out], f"{name}.positive")


def _cell(graph: Graph, about: About, weights: dict[str, Float32Array], source: str, state: Sequence[str]) -> str:
    """The recurrent cell over ``source`` (time, vm, cell): outputs (time, 1, vm, cell), and states, ``after.*``."""
    for name in _CELL:
        own = _arranged(weights[f"cell.{name}"], _ORDER[about.kind])
        graph.weight(f"net.cell.{name}", own if name.startswith("bias") else own[None])
    biases = [f"net.cell.{name}" for name in _CELL if name.startswith("bias")]
    graph.node("Concat", biases, "cell.biases", axis=0)
    graph.node("Unsqueeze", ["cell.biases", graph.constant("cell.direction", np.array([0], np.int64))], "cell.bias")
    named = [*(f"net.cell.{name}" for name in _CELL if name.startswith("weight")), "cell.bias"]
    kind = {"lstm": "LSTM", "gru": "GRU"}[about.kind]
    after = ["after.0", "after.1"][: len(state) or (2 if about.kind == "lstm" else 1)]
    extra = {} if about.kind == "lstm" else {"linear_before_reset": 1}
    return graph.node(
        kind,
        [source, *named, *(["", *state] if state else [])],
        ["over_time", *after],
        hidden_size=about.hidden,
        **extra,
    )


def _step(about: About, weights: dict[str, Float32Array]) -> bytes:
    graph = Graph()
    layers = 2 if about.kind == "lstm" else 1
    encoded = _encode(graph, weights, "inputs")
    before = [graph.part("state", i, i + 1, 0, f"before.{i}") for i in range(layers)]
    first = graph.constant("first", np.array([0], np.int64))
    graph.node("Unsqueeze", [encoded, first], "one_step")
    _cell(graph, about, weights, "one_step", before)
    graph.node("Concat", [f"after.{i}" for i in range(layers)], "state_after", axis=0)
    graph.part("after.0", 0, 1, 0, "hidden")
    graph.node("Squeeze", ["hidden", first], "cells")
    graph.node("Concat", [encoded, "cells"], "both", axis=-1)
    levels = len(about.levels)
    _heads(graph, about, weights)
    _order(graph, about.levels.index(0.5), levels)
    return graph.build(
        "step",
        {"inputs": ("vm", INPUTS), "state": (layers, "vm", about.hidden), "wanted": ("wanted",)},
        {"quantiles": ("wanted", "vm", levels), "state_after": (layers, "vm", about.hidden)},
    )


def _heads(graph: Graph, about: About, weights: dict[str, Float32Array]) -> None:
    """Outputs (target, vm, level) of the targets that are wanted, from ``both`` (vm, 2 cell)."""
    targets, hidden = len(about.targets), about.hidden
    mixer = weights["mixer.weight"].reshape(targets, hidden, 2 * hidden)
    chosen = {
        "mixer.weight": graph.weight("net.mixer.weight", mixer),
        "mixer.bias": graph.weight("net.mixer.bias", weights["mixer.bias"].reshape(targets, 1, hidden)),
        "head": graph.weight("net.head", weights["head"]),
        "base": graph.weight("net.base", weights["base"]),
    }
    for name, weight in chosen.items():
        graph.node("Gather", [weight, "wanted"], f"{name}.wanted", axis=0)
    graph.node("Transpose", ["mixer.weight.wanted"], "mixer.transposed", perm=[0, 2, 1])
    graph.node("MatMul", ["both", "mixer.transposed"], "mixer.product")
    graph.node("Add", ["mixer.product", "mixer.bias.wanted"], "mixer.sum")
    graph.node("Relu", ["mixer.sum"], "mixed")
    graph.node("MatMul", ["mixed", "head.wanted"], "product")
    graph.node("Add", ["product", "base.wanted"], "raw")


def _order(graph: Graph, middle: int, levels: int) -> None:
    """Quantiles from the median and the steps away from it; see ``Network``."""
    median = graph.part("raw", middle, middle + 1, -1, "median")
    graph.node("Add", ["raw", graph.constant("first_step", FIRST_STEP)], "moved")
    graph.node("Softplus", ["moved"], "steps")
    graph.part("steps", middle + 1, levels, -1, "steps_up")
    graph.part("steps", 0, middle, -1, "steps_down")
    axis = graph.constant("last_axis", np.array(-1, np.int64))
    graph.node("CumSum", ["steps_up", axis], "up")
    graph.node("CumSum", ["steps_down", axis], "down", reverse=1)
    graph.node("Add", [median, "up"], "above")
    graph.node("Sub", [median, "down"], "below")
    graph.node("Concat", ["below", median, "above"], "quantiles", axis=-1)


def _window(about: About, weights: dict[str, Float32Array]) -> bytes:
    graph = Graph()
    encoded = _encode(graph, weights, "inputs")
    _cell(graph, about, weights, encoded, ())
    layers = ["after.0", "after.1"][: 2 if about.kind == "lstm" else 1]
    graph.node("Concat", layers, "state_after", axis=0)
    return graph.build("window", {"inputs": ("time", "vm", INPUTS)}, {"state_after": (len(layers), "vm", about.hidden)})
