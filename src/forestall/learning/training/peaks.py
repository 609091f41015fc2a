r"""The network that forecasts peaks within the next tenths of a second, and its training on generated worlds.

One recurrent cell walks along every VM, and along the sum of every pool as one more series. A VM's own quantiles are
read off its state. A pool's are read off what its VMs say together, a sum over them whatever their number and order,
beside the pool's own state, so that it is learned what peaks at once and what does not:

.. math:: h_i = \operatorname{GRU}(x_i), \qquad
          q_i = Q(A\, [h_i; x_i]), \qquad
          q_{pool} = Q\Big(\rho\big(\textstyle\sum_i r_i \phi(h_i, x_i, r_i),\ \sum_i \phi(h_i, x_i, r_i),
          h_{pool}, x_{pool}\big)\Big)

with :math:`r_i` the VM's scale over the pool's, and :math:`Q` quantiles as a sum of positive steps, so that they never
cross. The loss is the pinball loss, divided by :math:`\sqrt{1-p}` so that tails count.

Source: Cho et al. (GRU), EMNLP 2014; sums over members: Zaheer et al., "Deep Sets", NeurIPS 2017.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor, nn

from forestall.learning.peaks.beats import FEATURES, Beats
from forestall.learning.peaks.model import HORIZON_BEATS, LEVELS
from forestall.learning.training.graph import Graph
from forestall.learning.training.worlds import FINE, pool
from forestall.model.samples import Float32Array, FloatArray, IntArray

HIDDEN, MEMBER, WIDE, NARROW = 48, 48, 96, 64
FIRST_STEP, LEAST_RATIO, MOST_OUTCOME = -2.0, 1e-3, 3.0
TELL_UPDATES, LATELY = 50, 200
OUTPUTS = len(HORIZON_BEATS) * len(LEVELS)


@dataclass(frozen=True)
class PeakFit:
    """How the network is trained.

    Attributes
    ----------
    updates
        Batches of worlds; each is walked through in chunks, with an update after each chunk.
    pools, most_vms, beats
        Pools in a batch, VMs in a pool, and how long a world lasts.
    chunk, unseen
        Beats between updates, and at the start of a world that do not count.
    pool_weight
        How much more a pool's loss counts than a VM's.
    averaging
        Decay of the exponential mean of the weights, which is what is kept.
    """

    updates: int = 2600
    pools: int = 16
    most_vms: int = 8
    beats: int = 1600
    chunk: int = 400
    unseen: int = 150
    learning_rate: float = 2.5e-3
    weight_decay: float = 1e-4
    most_gradient: float = 1.0
    pool_weight: float = 2.0
    averaging: float = 0.997
    threads: int = 1
    seed: int = 0


class PeakNetwork(nn.Module):
    """See the module."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRU(FEATURES + 1, HIDDEN)
        seen = HIDDEN + FEATURES + 1
        self.own_hidden, self.own_out = nn.Linear(seen, MEMBER), nn.Linear(MEMBER, OUTPUTS)
        self.member_hidden, self.member_out = nn.Linear(seen + 2, MEMBER), nn.Linear(MEMBER, MEMBER)
        self.pool_wide, self.pool_narrow = nn.Linear(2 * MEMBER + seen, WIDE), nn.Linear(WIDE, NARROW)
        self.pool_out = nn.Linear(NARROW, OUTPUTS)

    def forward(
        self, inputs: Tensor, ratio: Tensor, member: Tensor, state: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Quantiles of the peaks of rows and pools, in units of each one's scale.

        Parameters
        ----------
        inputs
            Array (time, row, feature): the pools, then the VMs; the last feature is 1 for a pool.
        ratio
            Array (time, vm): scale of each VM over that of its pool.
        member
            Array (pool, vm): 1 where a VM is in a pool.
        state
            Array (1, row, cell).

        Returns
        -------
        tuple
            Arrays (time, row, output), (time, pool, output), and the state after the last step.
        """
        cells, after = self.cell(inputs, state)
        seen = torch.cat([cells, inputs], dim=-1)
        own = quantiles(self.own_out(torch.relu(self.own_hidden(seen))))
        pools = len(member)
        sizes = torch.stack([ratio, torch.log(ratio + LEAST_RATIO)], dim=-1)
        hidden = torch.relu(self.member_hidden(torch.cat([seen[:, pools:], sizes], dim=-1)))
        says = torch.relu(self.member_out(hidden))
        together = torch.cat([member @ (says * ratio[..., None]), member @ says, seen[:, :pools]], dim=-1)
        narrow = torch.relu(self.pool_narrow(torch.relu(self.pool_wide(together))))
        return own, quantiles(self.pool_out(narrow)), after

    def settle(self) -> None:
        """Round the weights to half precision, in which they are kept."""
        with torch.no_grad():
            for weight in self.parameters():
                weight.copy_(weight.half().float())

    def graph(self) -> bytes:
        """Some steps of all rows as an ONNX graph; see :class:`~forestall.learning.peaks.model.PeakModel`."""
        return _graph({name: value.detach().numpy() for name, value in self.state_dict().items()})


def quantiles(raw: Tensor) -> Tensor:
    """Outputs (..., horizon x level) as quantiles that rise over levels, all above zero."""
    parts = raw.reshape(*raw.shape[:-1], len(HORIZON_BEATS), len(LEVELS))
    return nn.functional.softplus(parts + FIRST_STEP).cumsum(-1).reshape(raw.shape)


@dataclass(frozen=True)
class Batch:
    """Worlds as the network sees them; see :meth:`PeakNetwork.forward`. ``peaks`` (time, row, horizon) is what came."""

    inputs: Tensor
    ratio: Tensor
    member: Tensor
    peaks: Tensor


def batch(rng: np.random.Generator, settings: PeakFit) -> Batch:
    """Generate pools, seen in windows of a beat or in windows of a fifth of it."""
    sizes = rng.integers(1, settings.most_vms + 1, settings.pools)
    use = [pool(rng, int(size), settings.beats * FINE) for size in sizes]
    if rng.random() < 0.5:
        windows = [fine.reshape(settings.beats, FINE, -1).mean(axis=1, keepdims=True) for fine in use]
    else:
        windows = [fine.reshape(settings.beats, FINE, -1) for fine in use]
        if rng.random() < 0.5:  # a thread runs or does not
            whole = [np.ceil(w) for w in windows]
            windows = [np.where(rng.random(w.shape) * c < w, c, 0.0) for w, c in zip(windows, whole, strict=True)]
    rows = np.concatenate([*(w.sum(axis=2, keepdims=True) for w in windows), *windows], axis=2)
    return seen(rows.mean(axis=1), rows.max(axis=1), sizes)


def seen(mean: FloatArray | Float32Array, peak: FloatArray | Float32Array, sizes: IntArray) -> Batch:
    """Means and peaks (beat, row) of pools with so many VMs each: the pools, then the VMs of each."""
    beats, rows = mean.shape
    walk, features, scale = Beats(), np.ones((beats, rows, FEATURES + 1), np.float32), np.empty((beats, rows))
    walk.grow(rows)
    for t in range(beats):
        features[t, :, :FEATURES] = walk.step(mean[t].astype(np.float64), peak[t].astype(np.float64))
        scale[t] = walk.scale
    pools, pool_of_vm = len(sizes), np.repeat(np.arange(len(sizes)), sizes)
    features[:, pools:, FEATURES] = 0.0
    longest = max(HORIZON_BEATS)
    coming = np.full((beats, rows, len(HORIZON_BEATS)), np.nan)
    for k, horizon in enumerate(HORIZON_BEATS):
        highest = sliding_window_view(peak, horizon, axis=0).max(axis=-1)
        coming[: beats - longest, :, k] = highest[1 : beats - longest + 1]
    return Batch(
        inputs=torch.from_numpy(features),
        ratio=torch.from_numpy((scale[:, pools:] / scale[:, pool_of_vm]).astype(np.float32)),
        member=torch.from_numpy(np.eye(pools, dtype=np.float32)[:, pool_of_vm]),
        peaks=torch.from_numpy((coming / scale[..., None]).clip(max=MOST_OUTCOME).astype(np.float32)),
    )


Tell = Callable[[int, float, float, float, "PeakNetwork"], None]
"""Called now and then: updates so far, seconds, loss of VMs, loss of pools, and the network as it would be kept."""


def fit_peaks(settings: PeakFit, tell: Tell = lambda *how: None) -> PeakNetwork:
    """Train a network on worlds that are generated as they are needed."""
    torch.manual_seed(settings.seed)
    torch.set_num_threads(settings.threads)
    rng = np.random.default_rng(settings.seed)
    network = PeakNetwork()
    kept = copy.deepcopy(network)
    optimiser = torch.optim.AdamW(network.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
    began, losses = time.monotonic(), []
    for update in range(settings.updates):
        warm = min(1.0, (update + 1) / 40)
        cosine = 0.5 * (1 + np.cos(np.pi * update / settings.updates))
        for group in optimiser.param_groups:
            group["lr"] = settings.learning_rate * warm * (0.02 + 0.98 * cosine)
        losses += _walk(network, kept, optimiser, batch(rng, settings), settings)
        if (update + 1) % TELL_UPDATES == 0:
            of_vms, of_pools = map(float, np.mean(losses[-LATELY:], axis=0))
            tell(update + 1, time.monotonic() - began, of_vms, of_pools, kept)
    kept.settle()
    return kept


def _walk(
    network: PeakNetwork,
    kept: PeakNetwork,
    optimiser: torch.optim.Optimizer,
    worlds: Batch,
    settings: PeakFit,
) -> list[tuple[float, float]]:
    """Walk through a batch, with an update after each chunk; the losses of VMs and pools."""
    state, losses = None, []
    end = settings.beats - max(HORIZON_BEATS)
    pools = len(worlds.member)
    for first in range(0, end, settings.chunk):
        part = slice(first, min(first + settings.chunk, end))
        own, shared, after = network(worlds.inputs[part], worlds.ratio[part], worlds.member, state)
        state = after.detach()
        skip = max(settings.unseen - first, 0)
        peaks = worlds.peaks[part][skip:]
        of_vms, of_pools = loss(own[skip:, pools:], peaks[:, pools:]), loss(shared[skip:], peaks[:, :pools])
        optimiser.zero_grad()
        (of_vms + settings.pool_weight * of_pools).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), settings.most_gradient)
        optimiser.step()
        with torch.no_grad():
            for mean, weight in zip(kept.parameters(), network.parameters(), strict=True):
                mean.lerp_(weight, 1.0 - settings.averaging)
        losses.append((of_vms.item(), of_pools.item()))
    return losses


def loss(said: Tensor, came: Tensor) -> Tensor:
    """Weighted pinball loss of quantiles (..., output) for peaks (..., horizon)."""
    levels = torch.tensor(LEVELS)
    error = came[..., None] - said.reshape(*came.shape, len(LEVELS))
    weight = (1 - levels) ** -0.5
    return (torch.maximum(levels * error, (levels - 1) * error) * weight / weight.mean()).mean()


def _graph(weights: dict[str, Float32Array]) -> bytes:
    graph = Graph()

    def linear(name: str, source: str, *, positive: bool = True) -> str:
        weight = graph.weight(f"{name}.weight", np.ascontiguousarray(weights[f"{name}.weight"].T))
        graph.node("MatMul", [source, weight], f"{name}.product")
        graph.node("Add", [f"{name}.product", graph.weight(f"{name}.bias", weights[f"{name}.bias"])], f"{name}.sum")
        return graph.node("Relu", [f"{name}.sum"], f"{name}.out") if positive else f"{name}.sum"

    def ordered(source: str, output: str) -> str:
        shape = graph.constant(f"{output}.shape", np.array([-1, len(HORIZON_BEATS), len(LEVELS)], np.int64))
        graph.node("Reshape", [source, shape], f"{output}.parts")
        graph.node("Add", [f"{output}.parts", graph.constant(f"{output}.first", FIRST_STEP)], f"{output}.moved")
        graph.node("Softplus", [f"{output}.moved"], f"{output}.steps")
        return graph.node(
            "CumSum", [f"{output}.steps", graph.constant(f"{output}.axis", np.array(-1, np.int64))], output
        )

    cells = _cell(graph, weights)
    newest = graph.node("Gather", ["inputs", graph.constant("newest", np.array(-1, np.int64))], "inputs.newest", axis=0)
    seen = graph.node("Concat", [cells, newest], "seen", axis=-1)
    ordered(linear("own_out", linear("own_hidden", seen), positive=False), "own")
    count = graph.node("Shape", ["member"], "count")
    pools = graph.part(count, 0, 1, 0, "pools")
    zero, axis = graph.constant("zero", np.array([0], np.int64)), graph.constant("rows", np.array([0], np.int64))
    last = graph.constant("last", np.array([np.iinfo(np.int64).max], np.int64))
    of_vms = graph.node("Slice", [seen, pools, last, axis], "seen.vms")
    of_pools = graph.node("Slice", [seen, zero, pools, axis], "seen.pools")
    one = graph.constant("one", np.array([1], np.int64))
    wide = graph.node("Unsqueeze", ["ratio", one], "ratio.wide")
    shifted = graph.node("Add", [wide, graph.constant("least_ratio", LEAST_RATIO)], "ratio.shifted")
    sizes = graph.node("Concat", [of_vms, wide, graph.node("Log", [shifted], "ratio.log")], "sized", axis=-1)
    says = linear("member_out", linear("member_hidden", sizes))
    heavy = graph.node("MatMul", ["member", graph.node("Mul", [says, wide], "weighted")], "together.weighted")
    light = graph.node("MatMul", ["member", says], "together.plain")
    together = graph.node("Concat", [heavy, light, of_pools], "together", axis=-1)
    ordered(linear("pool_out", linear("pool_narrow", linear("pool_wide", together)), positive=False), "shared")
    horizons, levels = len(HORIZON_BEATS), len(LEVELS)
    return graph.build(
        "peaks",
        {
            "inputs": ("beat", "row", FEATURES + 1),
            "state": (1, "row", HIDDEN),
            "ratio": ("vm",),
            "member": ("pool", "vm"),
        },
        {
            "own": ("row", horizons, levels),
            "shared": ("pool", horizons, levels),
            "state_after": (1, "row", HIDDEN),
        },
    )


def _cell(graph: Graph, weights: dict[str, Float32Array]) -> str:
    """The cell (row, cell) after all beats of ``inputs``, from ``state`` on; it makes ``state_after``.

    Gates stand as reset, update, new where it was trained (torch), and as update, reset, new in ONNX.
    """

    def gates(name: str) -> Float32Array:
        reset, update, new = np.split(weights[f"cell.{name}_l0"], 3)
        return np.concatenate([update, reset, new])

    biases = np.concatenate([gates("bias_ih"), gates("bias_hh")])
    sides = [graph.weight(f"cell.{name}", gates(name)[None]) for name in ("weight_ih", "weight_hh")]
    inputs = ["inputs", *sides, graph.weight("cell.bias", biases[None]), "", "state"]
    graph.node("GRU", inputs, ["", "state_after"], hidden_size=HIDDEN, linear_before_reset=1)
    return graph.node("Squeeze", ["state_after", graph.constant("layer", np.array([0], np.int64))], "cells")
