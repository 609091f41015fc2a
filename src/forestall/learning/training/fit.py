r"""Training of the recurrent model on a tape.

Truncated back-propagation through time with the state carried on: streams of some hundred steps start at random
moments of random VMs from an empty state and are walked through in chunks; the state goes from chunk to chunk, the
gradient does not. So a step at work costs one cell evaluation, however far back the network remembers.

The loss is the pinball loss of every level, divided by :math:`\sqrt{p(1-p)}` so that tails count, times the square
root of the VM's scale: between what a VM needs in its own measure and what it needs of the host. The weights that
are kept are an exponential mean over the steps of training (Polyak & Juditsky, 1992), which costs nothing and was
better than the mean of three networks.

Source: Werbos, "Backpropagation through time", 1990; Williams & Peng, 1990 (truncation); Loshchilov & Hutter, 2019.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from forestall.learning.recurrent.model import About, RecurrentModel
from forestall.learning.recurrent.tape import Tape
from forestall.learning.training.graphs import as_model, weights_of
from forestall.learning.training.network import Network
from forestall.model.forecast import LEVELS, Target
from forestall.model.samples import IntArray


@dataclass(frozen=True)
class FitSettings:
    """How the recurrent model is trained.

    Attributes
    ----------
    passes, refresh_passes
        How often the tape is walked through, at most: by a new model, and by one that goes on.
    most_rows, refresh_most_rows
        And how many steps of VMs that may be in all.
    stream_steps, chunk_steps
        Length of a stream and of a chunk.
    streams
        Streams side by side, in each step of the optimiser.
    first_target_weight
        How much more the first target counts than each of the others.
    averaging
        Decay of the exponential mean of the weights.
    threads
        Of torch.
    """

    kind: str = "lstm"
    hidden: int = 64
    passes: int = 20
    refresh_passes: int = 5
    most_rows: int = 10_000_000
    refresh_most_rows: int = 2_000_000
    stream_steps: int = 504
    chunk_steps: int = 42
    streams: int = 50
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    dropout: float = 0.2
    most_gradient: float = 1.0
    first_target_weight: float = 6.0
    averaging: float = 0.998
    warm_up_updates: int = 50
    threads: int = 1
    seed: int = 0


def fit(
    tape: Tape,
    targets: tuple[Target, ...],
    settings: FitSettings | None = None,
    start: RecurrentModel | None = None,
) -> RecurrentModel:
    """Train a model.

    Parameters
    ----------
    tape
        What to train on.
    targets
        What to forecast, the most important first.
    start
        A model to go on with, if it is of the same kind; what it does not forecast is learned from the beginning.
    """
    settings = settings or FitSettings()
    torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    about = About(settings.kind, settings.hidden, tape.resource, targets, LEVELS)
    network = Network(about, settings.dropout).to(_device())
    if start and _alike(start.about, about):
        _go_on(network, start)
        network.widen(_sample(tape))
    else:
        start = None
        network.standardise(_sample(tape))
    goes_on = start is not None and set(targets) <= set(start.about.targets)
    passes, most_rows = (
        (settings.refresh_passes, settings.refresh_most_rows) if goes_on else (settings.passes, settings.most_rows)
    )
    affordable = most_rows / max(tape.steps * tape.vms, 1)
    trained = _Fitting(network, tape, targets, settings).run(min(passes, affordable))
    trained.settle()
    trained.about = replace(
        about,
        data_hash=tape.digest(),
        vms=tape.vms,
        steps=tape.steps,
        step_seconds=tape.step_seconds,
        until=tape.until,
        seed=settings.seed,
    )
    return as_model(trained)


def train(tape: Tape, targets: tuple[Target, ...], seed: int, start: RecurrentModel | None) -> RecurrentModel:
    """Train with the default settings; see :func:`fit`."""
    return fit(tape, targets, FitSettings(seed=seed), start)


def train_gru(tape: Tape, targets: tuple[Target, ...], seed: int, start: RecurrentModel | None) -> RecurrentModel:
    """Train a GRU with the default settings; see :func:`fit`."""
    return fit(tape, targets, FitSettings(kind="gru", seed=seed), start)


def _alike(one: About, other: About) -> bool:
    axes = ("kind", "hidden", "resource", "levels", "inputs")
    return all(getattr(one, axis) == getattr(other, axis) for axis in axes)


def _go_on(network: Network, start: RecurrentModel) -> None:
    """Take the weights of a model: all that is common to all targets, and those of the targets that it knows."""
    weights = {name: torch.from_numpy(value) for name, value in weights_of(start).items()}
    own, hidden = network.state_dict(), network.about.hidden
    by_target = ("mixer.weight", "mixer.bias", "head", "base")
    own.update({name: value for name, value in weights.items() if name not in by_target})
    for k, target in enumerate(network.about.targets):
        if target in start.about.targets:
            j = start.about.targets.index(target)
            for name in by_target:
                size = hidden if name.startswith("mixer") else 1
                own[name][k * size : (k + 1) * size] = weights[name][j * size : (j + 1) * size]
    network.load_state_dict(own)


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _sample(tape: Tape, rows: int = 200_000) -> Tensor:
    """Inputs (row, input) of every n-th step."""
    every = max(1, tape.steps * tape.vms // rows)
    known = np.isfinite(tape.last[::every])
    return torch.from_numpy(tape.inputs[::every][known].astype(np.float32)).to(_device())


class _Fitting:
    """One training."""

    def __init__(self, network: Network, tape: Tape, targets: tuple[Target, ...], settings: FitSettings) -> None:
        self._network, self._settings = network, settings
        self._device = next(network.parameters()).device
        self._generator = np.random.default_rng([settings.seed, tape.steps])
        self._inputs = torch.from_numpy(tape.inputs)
        self._outcomes = torch.from_numpy(tape.outcomes(targets))
        size = np.sqrt(np.nan_to_num(tape.scale))
        self._weight = torch.from_numpy((size / max(float(size.mean()), 1e-30)).astype(np.float32))
        self._known = np.isfinite(tape.last)
        levels = torch.tensor(LEVELS, device=self._device)
        tails = 1.0 / torch.sqrt(levels * (1.0 - levels))
        self._levels, self._tails = levels, tails / tails.mean()
        share = torch.ones(len(targets), device=self._device)
        share[0] = settings.first_target_weight
        self._share = (share / share.sum())[:, None]
        self._length = int(min(settings.stream_steps, tape.steps))

    def run(self, passes: float) -> Network:
        """Walk through the tape; the network with the mean weights."""
        network, settings = self._network, self._settings
        mean = copy.deepcopy(network)
        optimiser = torch.optim.AdamW(
            network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        batches = self._batches(passes)
        chunks = -(-self._length // settings.chunk_steps)
        total, update = len(batches) * chunks, 0
        network.train()
        for first, vm in batches:
            state = None
            for begin in range(0, self._length, settings.chunk_steps):
                update += 1
                for group in optimiser.param_groups:
                    group["lr"] = settings.learning_rate * _schedule(update, total, settings.warm_up_updates)
                steps = first[None] + np.arange(begin, min(begin + settings.chunk_steps, self._length))[:, None]
                state = self._update(optimiser, torch.from_numpy(steps), torch.from_numpy(vm), state)
                with torch.no_grad():
                    keep = min(settings.averaging, update / (update + 10.0))
                    for kept, new in zip(mean.parameters(), network.parameters(), strict=True):
                        kept.lerp_(new, 1.0 - keep)
        return mean.eval()

    def _batches(self, passes: float) -> list[tuple[IntArray, IntArray]]:
        """First step and VM of the streams of each batch."""
        steps, vms = self._known.shape
        born = np.where(self._known.any(axis=0), self._known.argmax(axis=0), steps)
        alive = np.maximum(steps - born, 0)
        share = passes * alive / self._length
        count = np.floor(share + self._generator.random(vms)).astype(np.int64)
        vm = self._generator.permutation(np.repeat(np.arange(vms), count))
        latest = steps - self._length
        first = self._generator.integers(np.minimum(born[vm], latest), latest + 1)
        size = self._settings.streams
        return [(first[i : i + size], vm[i : i + size]) for i in range(0, len(vm), size)]

    def _update(
        self,
        optimiser: torch.optim.Optimizer,
        steps: Tensor,
        vm: Tensor,
        state: tuple[Tensor, ...] | None,
    ) -> tuple[Tensor, ...]:
        """One step of the optimiser on a chunk; the state after it."""
        inputs = self._inputs[steps, vm].float().to(self._device)
        quantiles, after = self._network(inputs, state)
        error = self._outcomes[steps, vm].to(self._device)[..., None] - quantiles
        known = torch.isfinite(error)
        loss = torch.maximum(self._levels * error, (self._levels - 1.0) * error) * self._tails * self._share
        weight = self._weight[steps, vm].to(self._device)[..., None, None]
        total = (torch.where(known, loss, 0.0) * weight).sum() / known[..., 0].sum().clamp(min=1) / len(LEVELS)
        optimiser.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._network.parameters(), self._settings.most_gradient)
        optimiser.step()
        return tuple(part.detach() for part in after)


def _schedule(update: int, total: int, warm_up: int) -> float:
    """Share of the learning rate: up, level, and down twice."""
    return min(1.0, update / warm_up) * (1.0 if update < 0.7 * total else 0.3 if update < 0.9 * total else 0.1)
