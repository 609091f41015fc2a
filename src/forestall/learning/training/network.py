r"""The recurrent network.

.. math:: z = \operatorname{relu}(A x' + a), \quad h = \operatorname{LSTM}(z), \quad
          u_k = \operatorname{relu}(B_k [z; h] + b_k), \quad (m_k, \delta_k) = C_k u_k + c_k

``x'`` are the inputs, clipped, their logarithms beside them, standardised and clipped again. For each target :math:`k`
the median is :math:`m`, and every quantile above or below it is one step :math:`\operatorname{softplus}(\delta)`
further on, so that quantiles never cross. All are differences from the last sample in units of the VM's scale.

Source: Hochreiter & Schmidhuber, "Long Short-Term Memory", 1997; Cho et al. (GRU), EMNLP 2014; quantile outputs: Wen et
al., "A Multi-Horizon Quantile Recurrent Forecaster", 2017; non-crossing: Gasthaus et al., AISTATS 2019.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from forestall.learning.recurrent.inputs import INPUTS, RATIOS
from forestall.learning.recurrent.model import About
from forestall.model.samples import Float32Array

MOST_LINEAR = 8.0
LOG_SHIFT = 0.02
FIRST_STEP = -2.0
LEAST_DEVIATION = 1e-3
MOST_DEVIATIONS = 5.0
"""What the training hardly saw, as yesterday in a fleet of one day, must not count beyond all measure."""
WIDER = 1.5
EXPANDED = INPUTS + RATIOS

State = tuple[Tensor, ...]


class Network(nn.Module):
    """The network that ``about`` describes.

    Parameters
    ----------
    about
        Kind, cells and the axes of the output.
    dropout
        Share of activations left out in training.
    """

    def __init__(self, about: About, dropout: float = 0.0) -> None:
        super().__init__()
        self.about = about
        self.middle = about.levels.index(0.5)
        self.mean = nn.Buffer(torch.zeros(EXPANDED))
        self.deviation = nn.Buffer(torch.ones(EXPANDED))
        self.encoder = nn.Linear(EXPANDED, about.hidden)
        self.cell = {"lstm": nn.LSTM, "gru": nn.GRU}[about.kind](about.hidden, about.hidden)
        targets, levels = len(about.targets), len(about.levels)
        self.mixer = nn.Linear(2 * about.hidden, targets * about.hidden)
        reach = about.hidden**-0.5
        self.head = nn.Parameter(torch.empty(targets, about.hidden, levels).uniform_(-reach, reach))
        self.base = nn.Parameter(torch.empty(targets, 1, levels).uniform_(-reach, reach))
        self.dropout = nn.Dropout(dropout)

    def standardise(self, inputs: Tensor) -> None:
        """Take mean and deviation from a sample of inputs (row, input)."""
        deviation, mean = torch.std_mean(expand(inputs), dim=0)
        varies = deviation > LEAST_DEVIATION
        self.mean.copy_(mean)
        self.deviation.copy_(torch.where(varies, deviation, 1.0))
        # Of what does not vary, as a resource that is not observed, nothing is learned; elsewhere it may, and must not
        # count.
        with torch.no_grad():
            self.encoder.weight[:, ~varies] = 0.0

    def widen(self, inputs: Tensor) -> None:
        """Standardise anew what varies more in a sample of inputs (row, input) than in what was learned from before."""
        deviation, mean = torch.std_mean(expand(inputs), dim=0)
        unknown = (self.deviation == 1.0) & (deviation > LEAST_DEVIATION)
        wider = unknown | (deviation > WIDER * self.deviation)
        self.mean.copy_(torch.where(wider, mean, self.mean))
        self.deviation.copy_(torch.where(wider, deviation, self.deviation))

    def forward(self, inputs: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Quantiles (time, vm, target, level) of ``inputs`` (time, vm, input), and the state after the last of them."""
        standard = ((expand(inputs) - self.mean) / self.deviation).clamp(-MOST_DEVIATIONS, MOST_DEVIATIONS)
        encoded = self.dropout(torch.relu(self.encoder(standard)))
        one = None if state is None else (state if self.about.kind == "lstm" else state[0])
        out, after = self.cell(encoded, one)
        mixed = torch.relu(self.mixer(torch.cat([encoded, self.dropout(out)], dim=-1)))
        targets, hidden = len(self.about.targets), self.about.hidden
        # A product for each target, not one for each VM.
        by_target = mixed.reshape(-1, targets, hidden).transpose(0, 1)
        raw = torch.baddbmm(self.base, by_target, self.head).transpose(0, 1)
        return self._ordered(raw.reshape(*mixed.shape[:-1], targets, -1)), self._as_state(after)

    def _as_state(self, after: Tensor | State) -> State:
        return (after,) if isinstance(after, Tensor) else after

    def _ordered(self, raw: Tensor) -> Tensor:
        """Quantiles from the median and the steps away from it."""
        k = self.middle
        median = raw[..., k : k + 1]
        steps = nn.functional.softplus(raw + FIRST_STEP)
        above = steps[..., k + 1 :].cumsum(-1)
        below = steps[..., :k].flip(-1).cumsum(-1).flip(-1)
        return torch.cat([median - below, median, median + above], dim=-1)

    def settle(self) -> None:
        """Round the weights to half precision, in which they are kept."""
        with torch.no_grad():
            for weight in self.parameters():
                weight.copy_(weight.half().float())

    def arrays(self) -> dict[str, Float32Array]:
        """All weights by name."""
        return {name: np.asarray(value.detach().cpu().numpy()) for name, value in self.state_dict().items()}


def expand(inputs: Tensor) -> Tensor:
    """Ratios clipped, their logarithms, and the rest (..., EXPANDED) of inputs (..., input)."""
    ratios = inputs[..., :RATIOS]
    return torch.cat([ratios.clamp(max=MOST_LINEAR), torch.log(ratios + LOG_SHIFT), inputs[..., RATIOS:]], dim=-1)
