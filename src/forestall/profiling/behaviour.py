"""How a guest behaves, as one vector every so often: levels, peaks, the mix of its operations, its rhythm.

A vector is made from the windows of an interval (ten seconds as a rule); its rhythm from the last minute as well. All
VMs have the same features, in the same order; what is not known is NaN.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

import numpy as np
import pywt
from scipy import fft

from forestall.model.samples import Float32Array, FloatArray
from forestall.ports.guest_channel import LONG_FIELDS, OPERATIONS, SHORT_FIELDS, GuestWindow
from forestall.ports.vectors import VectorBatch, VectorKind

RHYTHM_WINDOWS = 512
BAND_WINDOWS = (np.inf, 100.0, 30.0, 10.0, 0.0)
"""Edges of the bands of periods, in windows of 100 ms: above ten seconds, three, one, below."""
WAVELET, WAVELET_LEVELS = "db2", 5
PEAKS = (
    "cpu",
    "faults_per_s",
    "disk_read_bytes_per_s",
    "disk_write_bytes_per_s",
    "net_rx_bytes_per_s",
    "net_tx_bytes_per_s",
)
"""What has a peak as well as a mean."""
SLOW_FIELDS = tuple(
    name for name in LONG_FIELDS if name not in SHORT_FIELDS and not name.startswith(("agent_", "late_"))
)
CPU_FIELDS = ("cpu_user_cores", "cpu_system_cores", "cpu_interrupt_cores")
NAMES: tuple[str, ...] = (
    *SHORT_FIELDS,
    *(f"peak_{name}" for name in PEAKS),
    *SLOW_FIELDS,
    *(f"often_{name}" for name in OPERATIONS),
    *(f"class_{name}" for name in OPERATIONS),
    *(f"cpu_periods_{band}" for band in range(len(BAND_WINDOWS) - 1)),
    *(f"cpu_wavelet_{level}" for level in range(WAVELET_LEVELS)),
)
"""Features: means, peaks, slow values, share of windows with each operation, its mean class, rhythm of the CPU."""
_CPU = [SHORT_FIELDS.index(name) for name in CPU_FIELDS]
_PEAKED = [SHORT_FIELDS.index(name) for name in PEAKS[1:]]
_SLOW = [LONG_FIELDS.index(name) for name in SLOW_FIELDS]


class Seen:
    """What was seen of one VM since its last vector, and its CPU for longer."""

    def __init__(self) -> None:
        self.windows: list[GuestWindow] = []
        self.slow: list[FloatArray] = []
        self.cpu: deque[float] = deque(maxlen=RHYTHM_WINDOWS)

    def add(self, window: GuestWindow) -> None:
        """See a window."""
        if window.long:
            self.slow.append(window.values[_SLOW])
        else:
            self.windows.append(window)
            self.cpu.append(float(window.values[_CPU].sum()))

    def vector(self) -> Float32Array | None:
        """The vector of everything since the last, which is then forgotten; None if there was nothing."""
        windows, slow, self.windows, self.slow = self.windows, self.slow, [], []
        if not windows:
            return None
        values = np.stack([window.values for window in windows])
        seconds = np.array([window.seconds for window in windows])
        often, size = np.zeros((2, len(OPERATIONS)))
        for window in windows:
            for kind, degree in window.operations:
                often[kind] += 1.0
                size[kind] += degree
        parts: list[FloatArray] = [
            _mean(values, seconds),
            np.array([_peak(values[:, _CPU].sum(axis=1)), *(_peak(values[:, place]) for place in _PEAKED)]),
            _mean(np.stack(slow), np.ones(len(slow))) if slow else np.full(len(SLOW_FIELDS), np.nan),
            often / len(windows),
            size / np.maximum(often, 1.0),
            rhythm(np.array(self.cpu)),
        ]
        vector: Float32Array = np.concatenate(parts).astype(np.float32)
        return vector


class Behaviour:
    """Makes vectors of all VMs."""

    def __init__(self) -> None:
        self._seen: dict[str, Seen] = {}

    def observe(self, windows: Iterable[GuestWindow]) -> None:
        """See windows, in order of each VM."""
        for window in windows:
            if (seen := self._seen.get(window.vm_id)) is None:
                seen = self._seen[window.vm_id] = Seen()
            seen.add(window)

    def vectors(self, at: int) -> VectorBatch:
        """A vector of each VM that was seen since the last call, dated ``at``; who was not seen is forgotten."""
        made = {vm_id: vector for vm_id, seen in self._seen.items() if (vector := seen.vector()) is not None}
        self._seen = {vm_id: seen for vm_id, seen in self._seen.items() if vm_id in made}
        return batch_of(made, at)


def batch_of(vectors: Mapping[str, Float32Array], at: int) -> VectorBatch:
    """Vectors of some VMs at one instant."""
    values = np.stack(list(vectors.values())) if vectors else np.zeros((0, len(NAMES)), np.float32)
    return VectorBatch(VectorKind.PROFILE, NAMES, tuple(vectors), np.full(len(vectors), at, np.int64), values)


def rhythm(samples: FloatArray) -> FloatArray:
    """Shares of the variance of a series of windows: by bands of periods, then by scales of wavelets.

    Source: Mallat, *A Wavelet Tour of Signal Processing*, 3rd ed., 7.
    """
    known = np.isfinite(samples)
    if known.sum() < 16:
        return np.full(len(BAND_WINDOWS) - 1 + WAVELET_LEVELS, np.nan)
    centred = np.where(known, samples - samples[known].mean(), 0.0)
    power = np.abs(fft.rfft(centred)[1:]) ** 2
    periods = len(samples) / np.arange(1, len(power) + 1)
    bands = [power[(periods <= longest) & (periods > shortest)].sum() for longest, shortest in pairwise(BAND_WINDOWS)]
    levels = min(WAVELET_LEVELS, pywt.dwt_max_level(len(centred), WAVELET))
    scales = np.zeros(WAVELET_LEVELS)
    if levels > 0:
        details = pywt.wavedec(centred, WAVELET, mode="periodization", level=levels)[1:]
        scales[-levels:] = [np.square(detail).sum() for detail in details]
    return np.concatenate([_shares(np.array(bands)), _shares(scales)])


def _shares(energy: FloatArray) -> FloatArray:
    total = energy.sum()
    return energy / total if total > 0 else energy


def _mean(values: FloatArray, weight: FloatArray) -> FloatArray:
    """Mean of each column over the rows in which it is known; NaN where it never is."""
    known = np.isfinite(values)
    total = (known * weight[:, None]).sum(axis=0)
    summed = (np.where(known, values, 0.0) * weight[:, None]).sum(axis=0)
    return np.asarray(np.where(total > 0, summed / np.where(total > 0, total, 1.0), np.nan))


def _peak(values: FloatArray) -> float:
    known: Sequence[float] = values[np.isfinite(values)]  # type: ignore[assignment]
    return float(max(known)) if len(known) else float("nan")
