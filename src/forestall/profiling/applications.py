"""What kind of application runs in a VM, by how it behaves.

From a vector of behaviour (:mod:`~forestall.profiling.behaviour`) come features that do not say how large or how
quick a VM is, as far as that can be; a gradient-boosted classifier of one-against-the-rest gives each category its
probability. Where none of them claims the VM it is unknown. The same classifier serves VMs without an agent: of these
only what the host sees is known, and it was trained with the rest left out as well.
"""

from __future__ import annotations

from collections.abc import Sequence

import lightgbm
import numpy as np

from forestall.model.applications import CATEGORIES, CLAIMS
from forestall.model.samples import BoolArray, FloatArray
from forestall.profiling.behaviour import CPU_FIELDS, NAMES, PEAKS

CPU = "cpu_cores"
OUTSIDE = (CPU, "disk_read_bytes_per_s", "disk_write_bytes_per_s", "net_rx_bytes_per_s", "net_tx_bytes_per_s")
"""What a host knows of a VM without an agent."""
RATES = (
    *OUTSIDE,
    *("switches_per_s", "forks_per_s", "faults_per_s", "major_faults_per_s", "page_in_bytes_per_s"),
    *("disk_reads_per_s", "disk_writes_per_s", "disk_flushes_per_s"),
    *("net_rx_packets_per_s", "net_tx_packets_per_s", "loopback_bytes_per_s"),
)
"""What grows with how much there is to do, and how quick the machine is."""
RATIOS: tuple[tuple[str, str], ...] = (
    ("cpu_system_cores", CPU),
    ("cpu_interrupt_cores", CPU),
    ("cpu_iowait_cores", CPU),
    ("switches_per_s", CPU),
    ("faults_per_s", CPU),
    ("disk_write_bytes_per_s", CPU),
    ("disk_read_bytes_per_s", CPU),
    ("net_tx_bytes_per_s", CPU),
    ("net_rx_bytes_per_s", CPU),
    ("net_tx_bytes_per_s", "net_rx_bytes_per_s"),
    ("net_tx_bytes_per_s", "disk_write_bytes_per_s"),
    ("net_rx_bytes_per_s", "disk_write_bytes_per_s"),
    ("net_tx_bytes_per_s", "disk_read_bytes_per_s"),
    ("net_rx_bytes_per_s", "net_rx_packets_per_s"),
    ("net_tx_bytes_per_s", "net_tx_packets_per_s"),
    ("net_tx_packets_per_s", "net_rx_packets_per_s"),
    ("disk_write_bytes_per_s", "disk_writes_per_s"),
    ("disk_flushes_per_s", "disk_writes_per_s"),
    ("loopback_bytes_per_s", "net_tx_bytes_per_s"),
    *((f"peak_{name}", name) for name in PEAKS[1:]),
)
_SHAPES = tuple(name for name in NAMES if name.startswith(("often_", "cpu_periods_", "cpu_wavelet_")))
FEATURES = (*RATES, *(f"{above}/{below}" for above, below in RATIOS), *_SHAPES)
LEAST = 1e-3
MOST_LOG = 30.0


def features_of(names: Sequence[str], values: FloatArray) -> FloatArray:
    """Features (vm, feature), in the order of :data:`FEATURES`, of vectors (vm, name); NaN where nothing is known.

    Rates and their ratios are logarithms.
    """
    column = {name: np.asarray(values[:, place], np.float64) for place, name in enumerate(names)}
    nothing = np.full(len(values), np.nan)
    if CPU not in column and all(name in column for name in CPU_FIELDS):
        column[CPU] = sum((column[name] for name in CPU_FIELDS), np.zeros(len(values)))

    def log(name: str) -> FloatArray:
        return np.clip(np.log(np.maximum(column.get(name, nothing), 0.0) + LEAST), -MOST_LOG, MOST_LOG)

    parts = [log(name) for name in RATES]
    parts += [log(above) - log(below) for above, below in RATIOS]
    parts += [column.get(name, nothing) for name in _SHAPES]
    return np.stack(parts, axis=1)


def visible_outside() -> BoolArray:
    """Which of :data:`FEATURES` a host knows of a VM without an agent."""
    pairs = [above in OUTSIDE and below in OUTSIDE for above, below in RATIOS]
    return np.array([*(name in OUTSIDE for name in RATES), *pairs, *(False for _ in _SHAPES)])


class ApplicationModel:
    """The classifier.

    Parameters
    ----------
    text
        As LightGBM writes it, trained on :data:`FEATURES`; labels are the numbers of
        :data:`~forestall.model.applications.CATEGORIES`, and one more for what is nothing.
    """

    def __init__(self, text: str) -> None:
        self._booster = lightgbm.Booster(model_str=text)
        if self._booster.num_feature() != len(FEATURES):
            raise ValueError(f"a model of {self._booster.num_feature()} features, not {len(FEATURES)}")

    def probabilities(self, features: FloatArray) -> FloatArray:
        """Probability (vm, claim) of each of :data:`CLAIMS`, from features (vm, feature).

        A VM of which not even :data:`OUTSIDE` is known is unknown.
        """
        if not len(features):
            return np.zeros((0, len(CLAIMS)))
        claims = claims_of(np.asarray(self._booster.predict(features, num_threads=1))[:, : len(CATEGORIES)])
        seen = np.isfinite(features[:, : len(OUTSIDE)]).all(axis=1, keepdims=True)
        nothing = np.append(np.zeros(len(CATEGORIES)), 1.0)
        return np.where(seen, claims, nothing)


def claims_of(each: FloatArray) -> FloatArray:
    """From what each category claims for itself (vm, category) to probabilities (vm, claim), with what nobody claims.

    The product of all denials is the unknown; the rest is shared by odds, as if exactly one claim were true.
    """
    each = np.clip(each, 1e-6, 1.0 - 1e-6)
    odds = each / (1.0 - each)
    unknown = np.prod(1.0 - each, axis=1, keepdims=True)
    shared = odds / odds.sum(axis=1, keepdims=True) * (1.0 - unknown)
    return np.concatenate([shared, unknown], axis=1)
