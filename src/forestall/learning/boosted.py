"""Global gradient-boosted quantile model: one for all VMs of a trust group, trained on the past only.

One lightgbm booster for each target and quantile level learns :math:`(y - y_{last}) / s` from the features of
:mod:`forestall.learning.features`. Training rows are collected as time passes in a reservoir of bounded size, so that
training never needs more than what has been seen. Retraining follows a schedule: whenever the past has
doubled, then every ten days.

Source: Ke et al., "LightGBM", NeurIPS 2017; pinball objective: Koenker & Bassett, 1978.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import lightgbm
import numpy as np

from forestall.learning.expert import realised
from forestall.learning.features import feature_matrix
from forestall.learning.levels import logit
from forestall.learning.past import Past
from forestall.learning.residuals import ResidualQuantiles
from forestall.learning.rules import SeasonalNaive
from forestall.learning.schedule import Schedule
from forestall.model.forecast import Target
from forestall.model.samples import BoolArray, Float32Array, FloatArray, IntArray
from forestall.profiling.window import Window, retained


@dataclass(frozen=True)
class BoostedSettings:
    """How the boosted model is trained.

    Attributes
    ----------
    levels
        Quantile levels that get a booster of their own; the first is the median.
    max_rows
        Size of the reservoir of training rows, for each target.
    collect_days
        Days over which the reservoir is filled: rows are sampled so that about that many days fit.
    first_training_seconds, retrain_seconds
        Length of the past at the first training, and the longest time between trainings.
    threads
        Threads of training and prediction. One is quickest for batches of this size: lightgbm's threads wait for each
        other in busy loops, which on a host with other work costs ten times what they gain.
    """

    levels: tuple[float, ...] = (0.5, 0.9, 0.97, 0.99, 0.998)
    max_rows: int = 200_000
    collect_days: float = 35.0
    first_training_seconds: int = 6 * 3_600
    retrain_seconds: int = 10 * 86_400
    min_rows: int = 500
    rounds: int = 80
    leaves: int = 15
    learning_rate: float = 0.085
    threads: int = 1
    seed: int = 0


class Reservoir:
    """Bounded sample of training rows: when it is full, new rows replace random old ones."""

    def __init__(self, rows: int, generator: np.random.Generator) -> None:
        self._rows = rows
        self._generator = generator
        self.filled = 0
        self.features: Float32Array = np.zeros((0, 0), np.float32)
        self.values: Float32Array = np.zeros((2, 0), np.float32)

    def add(self, features: Float32Array, values: FloatArray) -> None:
        """Add rows: features (row, feature) and values (2, row): target, weight."""
        if self.features.shape[1] != features.shape[1]:
            self.features = np.zeros((min(self._rows, 4096), features.shape[1]), np.float32)
            self.values = np.zeros((2, len(self.features)), np.float32)
        free = min(self._rows - self.filled, len(features))
        self._make_room(self.filled + free)
        place = np.concatenate(
            [
                np.arange(self.filled, self.filled + free),
                self._generator.integers(0, self._rows, len(features) - free),
            ]
        )
        self.features[place] = features
        self.values[:, place] = values
        self.filled += free

    def _make_room(self, rows: int) -> None:
        have = len(self.features)
        if rows > have:
            more = min(max(2 * have, rows), self._rows) - have
            self.features = np.concatenate([self.features, np.zeros((more, self.features.shape[1]), np.float32)])
            self.values = np.concatenate([self.values, np.zeros((2, more), np.float32)], axis=1)


class TargetModel:
    """Reservoir and boosters of one target and trust group."""

    def __init__(self, target: Target, settings: BoostedSettings, group: int = 0) -> None:
        self.target = target
        self.settings = settings
        self._generator = np.random.default_rng([settings.seed, target.steps, len(target.statistic), group])
        self._reservoir = Reservoir(settings.max_rows, self._generator)
        self._pending: deque[tuple[Float32Array, FloatArray, FloatArray, FloatArray]] = deque(maxlen=target.steps)
        self._boosters: list[lightgbm.Booster] = []

    @property
    def trained(self) -> bool:
        """Whether there are boosters to forecast with."""
        return bool(self._boosters)

    def collect(self, window: Window, features: Float32Array, members: IntArray) -> None:
        """Remember a sample of the rows of ``members`` until their outcome is known; store those that are due now."""
        if len(self._pending) == self.target.steps:
            rows, due, base, scale = self._pending[0]
            index = due.astype(np.int64)
            outcome = realised(window, self.target)[index]
            outcome = np.where(outcome > window.limit[index], window.limit[index], outcome)
            ratio = (outcome - base) / scale
            known = np.flatnonzero(np.isfinite(ratio))
            if len(known):
                self._reservoir.add(rows[known], np.stack([ratio[known], np.sqrt(scale[known])]))
        steps = self.settings.collect_days * window.day
        share = min(1.0, self.settings.max_rows / max(len(members) * steps, 1.0))
        chosen = members[self._generator.random(len(members)) < share]
        self._pending.append((features[chosen], chosen.astype(np.float64), window.last[chosen], window.scale()[chosen]))

    def keep(self, rows: IntArray) -> None:
        """Wait no longer for outcomes of VMs that are not in ``rows``; what they have taught stays."""
        self._pending = deque((_of_rows(rows, *due) for due in self._pending), self._pending.maxlen)

    def train(self) -> bool:
        """Fit all boosters on what has been collected; False when that is too little."""
        n = self._reservoir.filled
        if n < self.settings.min_rows:
            return False
        target, weight = self._reservoir.values[:, :n]
        data = lightgbm.Dataset(
            self._reservoir.features[:n],
            target,
            weight=weight / weight.mean(),
            params={"max_bin": 127, "verbose": -1, "num_threads": self.settings.threads},
            free_raw_data=True,
        )
        self._boosters = [
            lightgbm.train(self._parameters(level, n), data, self.settings.rounds) for level in self.settings.levels
        ]
        return True

    def _parameters(self, level: float, rows: int) -> dict[str, object]:
        return {
            "objective": "quantile",
            "alpha": level,
            "learning_rate": self.settings.learning_rate,
            "num_leaves": self.settings.leaves,
            "min_data_in_leaf": int(np.clip(rows // 400, 20, 100)),
            "bagging_fraction": 0.7,
            "bagging_freq": 1,
            "feature_fraction": 0.6,
            "max_bin": 127,
            "seed": self.settings.seed,
            "deterministic": True,
            "force_col_wise": True,
            "num_threads": self.settings.threads,
            "verbose": -1,
        }

    def predict(self, features: Float32Array) -> FloatArray:
        """Scaled quantiles (vm, level of the settings), non-decreasing."""
        columns = [b.predict(features, num_threads=self.settings.threads) for b in self._boosters]
        return np.maximum.accumulate(np.stack(columns, axis=1), axis=1)


class GroupModels:
    """The models of a trust group, one for each boosted target, and when they are trained."""

    def __init__(self, targets: tuple[Target, ...], settings: BoostedSettings, group: int) -> None:
        self.models = [TargetModel(target, settings, group) for target in targets]
        self._schedule = Schedule(settings.first_training_seconds, settings.retrain_seconds)

    def train_when_due(self, window: Window, drifts: int) -> bool:
        """Train if it is time and enough has been collected; whether there are new models."""
        if not self._schedule.due(window, drifts):
            return False
        trained = [model.train() for model in self.models]
        if any(trained):
            self._schedule.trained(window, drifts)
        return any(trained)


class Boosted:
    """The boosted model as a forecaster; NaN until its first training.

    Parameters
    ----------
    targets
        All targets of the learner; ``boosted_targets`` are those that this model forecasts.
    levels
        Quantile levels to give; those under the median come from the residuals of the median.
    past
        What is known of the VMs; filled by its owner.
    """

    name = "boosted"

    def __init__(
        self,
        targets: tuple[Target, ...],
        boosted_targets: tuple[Target, ...],
        levels: tuple[float, ...],
        half_life_steps: float,
        settings: BoostedSettings,
        past: Past,
    ) -> None:
        self._targets = targets
        self._levels = np.asarray(levels)
        self._boosted_targets = boosted_targets
        self._trust = past.trust
        self._groups: dict[int, GroupModels] = {}
        self._residuals = ResidualQuantiles(len(boosted_targets), half_life_steps, trust=past.trust)
        self._medians: list[deque[FloatArray]] = [deque(maxlen=target.steps) for target in boosted_targets]
        self._settings = settings
        self._week, self._season = past.week, SeasonalNaive(past.periods)
        self._features: list[Float32Array] = []
        self._resting: BoolArray = np.zeros(0, dtype=bool)

    def observe(self, window: Window, now: int) -> None:
        """Compute features, collect training rows, count the median's residuals, retrain when due."""
        self._residuals.grow(window.vms)
        scale = window.scale()
        self._features = [
            feature_matrix(window, self._week, target, now, self._season.point(window, target))
            for target in self._boosted_targets
        ]
        for group, members in self._trust.members(window.vms):
            for model, features in zip(self._of_group(group).models, self._features, strict=True):
                model.collect(window, features, members)
        for place, target in enumerate(self._boosted_targets):
            if len(self._medians[place]) == target.steps:
                median = self._medians[place][0]
                error = realised(window, target)[: len(median)] - median
                self._residuals.update(place, error / scale[: len(median)])
        self._residuals.advance()

    def train_when_due(self, window: Window, drifts: int = 0) -> bool:
        """Retrain when the past has doubled since the last training, ten days have gone by, or losses have risen."""
        trained = [group.train_when_due(window, drifts) for group in self._groups.values()]
        return any(trained)

    def rest(self, vms: BoolArray) -> None:
        """Say nothing about these VMs (vm,) until told otherwise: predicting them costs most, and did not help."""
        self._resting = vms

    def forecast(self, window: Window, now: int) -> FloatArray:
        """Quantiles (target, vm, level); NaN for targets without a model and for VMs without a sample."""
        result = np.full((len(self._targets), window.vms, len(self._levels)), np.nan)
        scale, last = window.scale()[:, None], window.last[:, None]
        residuals = self._residuals.quantiles(self._levels)
        for place, target in enumerate(self._boosted_targets):
            own = self._predicted(place)
            if own is None:
                continue
            self._medians[place].append(last[:, 0] + scale[:, 0] * own[:, 0])
            below = own[:, :1] + residuals[place]
            upper = self._interpolated(own)
            scaled = np.where(self._levels >= 0.5, upper, np.fmin(below, own[:, :1]))
            result[self._targets.index(target)] = np.maximum(last + scale * np.maximum.accumulate(scaled, axis=1), 0.0)
        return result

    def keep(self, rows: IntArray) -> None:
        """Forget all VMs but those of ``rows``; the boosters, and the rows that they learn from, stay."""
        self._resting = retained(self._resting, rows, 0)
        self._residuals.keep(rows)
        for group in self._groups.values():
            for model in group.models:
                model.keep(rows)
        self._features = [retained(features, rows, 0) for features in self._features]
        self._medians = [
            deque((retained(median, rows, 0) for median in issued), issued.maxlen) for issued in self._medians
        ]

    def _of_group(self, group: int) -> GroupModels:
        if group not in self._groups:
            self._groups[group] = GroupModels(self._boosted_targets, self._settings, group)
        return self._groups[group]

    def _predicted(self, place: int) -> FloatArray | None:
        """Scaled quantiles (vm, booster) of a target; NaN for VMs that rest, None while there is no model."""
        features = self._features[place]
        if not any(group.models[place].trained for group in self._groups.values()):
            return None
        rests = np.zeros(len(features), dtype=bool)
        rests[: len(self._resting)] = self._resting[: len(features)]
        result = np.full((len(features), len(self._settings.levels)), np.nan)
        for group, members in self._trust.members(len(features)):
            model, asked = self._of_group(group).models[place], members[~rests[members]]
            if model.trained and len(asked):
                result[asked] = model.predict(features[asked])
        return result

    def _interpolated(self, own: FloatArray) -> FloatArray:
        """Quantiles at the wanted levels from those that have boosters, straight in tail coordinates."""
        knots = logit(np.asarray(self._settings.levels))
        wanted = logit(self._levels)
        j = np.clip(np.searchsorted(knots, wanted, side="right") - 1, 0, len(knots) - 2)
        share = (wanted - knots[j]) / (knots[j + 1] - knots[j])
        return own[:, j] + np.maximum(share, 0.0) * (own[:, j + 1] - own[:, j])


def _of_rows(
    rows: IntArray, features: Float32Array, vm: FloatArray, base: FloatArray, scale: FloatArray
) -> tuple[Float32Array, FloatArray, FloatArray, FloatArray]:
    """What waits for its outcome, of the VMs ``rows`` alone, which are numbered by their place in it."""
    there = np.isin(vm, rows)
    return features[there], np.searchsorted(rows, vm[there]).astype(np.float64), base[there], scale[there]
