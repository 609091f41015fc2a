r"""How often each disk is asked, hour by hour, and how often it will be in the hours to come.

Four forecasts of an hour are combined, each with a weight inversely proportional to the mean of its squared errors on
that disk (Bates & Granger, "The combination of forecasts", OR Quarterly, 1969): the same hour of the day before, the
mean of that hour of the day, the mean of that hour of the week, and the mean of late. None of them needs what happens
within the next day, so that they are judged by the next hour for any of the next 24.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from forestall.model.samples import FloatArray
from forestall.ports.tiers import DiskName, TierDisk

HOUR, DAY, WEEK = 3600, 24, 168
LEAST_SECONDS, MOST_PAUSE_SECONDS = 600.0, 300.0
"""An hour of which less was seen says nothing; and what happened while nobody looked for longer is of no hour."""
_FORGET = 1.0 / 4.0
"""Weight of the newest of the same hours of days, or of weeks, once there are four."""
_LATELY = 1.0 / DAY
FORECASTS = 4


@dataclass
class _Disk:
    """What is known of one disk; rates in requests/s, arrays by hour of the week, of the day, of the last day."""

    path: str = ""
    seen_hours: int = 0
    hour: int = 0
    run: str = ""
    requests: int = 0
    wait_seconds: float = 0.0
    at: float = 0.0
    hour_seconds: float = 0.0
    hour_requests: float = 0.0
    hour_waited: float = 0.0
    hour_wait_seconds: float = 0.0
    lately: float = float("nan")
    wait_ms: float = float("nan")
    week: FloatArray = field(default_factory=lambda: np.full(WEEK, np.nan))
    week_times: FloatArray = field(default_factory=lambda: np.zeros(WEEK))
    day: FloatArray = field(default_factory=lambda: np.full(DAY, np.nan))
    day_times: FloatArray = field(default_factory=lambda: np.zeros(DAY))
    last: FloatArray = field(default_factory=lambda: np.full(DAY, np.nan))
    squared_error: FloatArray = field(default_factory=lambda: np.full(FORECASTS, np.nan))


class Frequency:
    """Of all disks of a host."""

    def __init__(self) -> None:
        self._disks: dict[DiskName, _Disk] = {}

    def observe(self, disks: Iterable[TierDisk], at: float) -> bool:
        """Take in what was asked of disks until an instant (seconds UTC); whether an hour has passed for one."""
        passed = False
        for disk in (disk for disk in disks if disk.counted):
            known = self._disks.setdefault(disk.name, _Disk())
            hour = int(at // HOUR)
            if known.hour != hour:
                passed |= _close_hour(known)
                known.hour = hour
            if known.path != disk.path:  # another tier, or another image: what requests waited for says nothing
                known.path, known.wait_ms, known.hour_waited, known.hour_wait_seconds = (
                    disk.path,
                    float("nan"),
                    0.0,
                    0.0,
                )
            same = known.run == disk.run and disk.requests >= known.requests
            if same and 0 < at - known.at <= MOST_PAUSE_SECONDS:
                known.hour_seconds += at - known.at
                known.hour_requests += disk.requests - known.requests
                known.hour_waited += disk.requests - known.requests
                known.hour_wait_seconds += max(disk.wait_seconds - known.wait_seconds, 0.0)
            known.run, known.at = disk.run, at
            known.requests, known.wait_seconds = disk.requests, disk.wait_seconds
        return passed

    def seen_hours(self, name: DiskName) -> int:
        """Of how many hours something is known."""
        return self._disks[name].seen_hours if name in self._disks else 0

    def wait_ms(self, name: DiskName) -> float:
        """How long a request waits where the disk lies now, in milliseconds; NaN where it is not known."""
        known = self._disks.get(name)
        return float("nan") if known is None else known.wait_ms

    def forecast(self, name: DiskName, at: float, hours: int) -> FloatArray:
        """Requests/s of a disk in the hour from an instant on and those after it, array (hour,); 0 where unknown."""
        known = self._disks.get(name)
        if known is None:
            return np.zeros(hours)
        first = int((at + HOUR / 2) // HOUR)
        said = _forecasts(known, first + np.arange(hours))
        return np.nan_to_num(_combined(said, known.squared_error))

    def keep(self, names: Iterable[DiskName]) -> None:
        """Forget all other disks."""
        wanted = set(names)
        self._disks = {name: known for name, known in self._disks.items() if name in wanted}

    def forget_before(self, at: float) -> None:
        """Forget disks that were not seen since."""
        self._disks = {name: known for name, known in self._disks.items() if known.at >= at}

    def kept(self) -> list[dict[str, Any]]:
        """All of it as plain values, rates to three digits."""
        return [
            {"vm_id": name.vm_id, "target": name.target}
            | {key: _short(value) if isinstance(value, np.ndarray) else value for key, value in vars(known).items()}
            for name, known in self._disks.items()
        ]

    @classmethod
    def of(cls, kept: Sequence[Mapping[str, Any]]) -> Frequency:
        """What :meth:`kept` returned.

        Raises
        ------
        ValueError, KeyError, TypeError
            It is something else.
        """
        found = cls()
        for row in kept:
            known = _Disk()
            for key, value in vars(known).items():
                read = np.array(row[key], np.float64) if isinstance(value, np.ndarray) else type(value)(row[key])
                if isinstance(value, np.ndarray) and np.shape(read) != value.shape:
                    raise ValueError(f"{key} of {row['vm_id']} has another length")
                setattr(known, key, read)
            found._disks[DiskName(str(row["vm_id"]), str(row["target"]))] = known
        return found


def _close_hour(known: _Disk) -> bool:
    """Learn from an hour that is over; whether enough of it was seen."""
    seconds, requests, waited, wait = (
        known.hour_seconds,
        known.hour_requests,
        known.hour_waited,
        known.hour_wait_seconds,
    )
    known.hour_seconds = known.hour_requests = known.hour_waited = known.hour_wait_seconds = 0.0
    if seconds < LEAST_SECONDS:
        return False
    rate, hour = requests / seconds, known.hour
    error = (_forecasts(known, np.array([hour]))[:, 0] - rate) ** 2
    known.squared_error = np.where(
        np.isnan(known.squared_error),
        error,
        known.squared_error + _LATELY * (np.where(np.isnan(error), known.squared_error, error) - known.squared_error),
    )
    for mean, times, at in ((known.week, known.week_times, hour % WEEK), (known.day, known.day_times, hour % DAY)):
        times[at] += 1
        mean[at] = rate if times[at] == 1 else mean[at] + max(_FORGET, 1.0 / times[at]) * (rate - mean[at])
    known.seen_hours += 1
    known.last[hour % DAY] = rate
    known.lately = rate if known.seen_hours == 1 else _nearer(known.lately, rate, known.seen_hours)
    if waited:
        now_ms = 1000.0 * wait / waited
        known.wait_ms = now_ms if np.isnan(known.wait_ms) else _nearer(known.wait_ms, now_ms, known.seen_hours)
    return True


def _short(values: FloatArray) -> list[float]:
    return [float(f"{value:.3g}") for value in values.tolist()]


def _nearer(mean: float, value: float, times: int) -> float:
    """A mean of late, one value later."""
    return mean + max(_LATELY, 1.0 / times) * (value - mean)


def _forecasts(known: _Disk, hours: Any) -> FloatArray:
    """Requests/s of each forecast for hours (hour,) since 1970; array (forecast, hour), NaN where it has none."""
    return np.stack(
        [known.last[hours % DAY], known.day[hours % DAY], known.week[hours % WEEK], np.full(len(hours), known.lately)]
    )


def _combined(said: FloatArray, squared_error: FloatArray) -> FloatArray:
    """Weighted mean of forecasts (forecast, hour); NaN where none has anything to say."""
    least = np.nanmin(squared_error, initial=np.inf)
    floor = 1e-3 * least + 1e-12 if np.isfinite(least) else 1.0
    # Who has not been judged yet is believed as little as who was worst.
    worst = np.nanmax(squared_error, initial=0.0)
    weight = 1.0 / (np.where(np.isnan(squared_error), worst, squared_error) + floor)
    weights = np.where(np.isnan(said), 0.0, weight[:, None])
    total = weights.sum(axis=0)
    return np.where(total > 0, np.nansum(weights * np.nan_to_num(said), axis=0) / np.maximum(total, 1e-300), np.nan)
