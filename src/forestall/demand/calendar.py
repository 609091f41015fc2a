"""Calendar windows: the days and the times of day at which a policy rule holds.

A window is meant in the wall-clock time of its zone, so it keeps its place in the day when the clocks change.
The hour that is skipped in spring is in no window; the hour that comes twice in autumn is in it twice.
A window over midnight belongs to the day on which it begins: ``fri 22:00-06:00`` ends on Saturday morning.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MINUTES_PER_DAY = 24 * 60
_CYCLE_DAYS = 28 * 366
"""After 28 years each day of the year has been each day of the week."""


@dataclass(frozen=True)
class TimeRange:
    """Time of day from minute ``start`` (included) to minute ``end`` (excluded); over midnight if it ends earlier."""

    start: int
    end: int

    @property
    def over_midnight(self) -> bool:
        """Whether it ends on the day after the one on which it begins."""
        return self.end <= self.start

    def __str__(self) -> str:
        """``08:00-18:00``."""
        return f"{self.start // 60:02}:{self.start % 60:02}-{self.end // 60:02}:{self.end % 60:02}"


@dataclass(frozen=True)
class DateRange:
    """Days from ``first`` to ``last``, both included."""

    first: date
    last: date

    def __contains__(self, day: date) -> bool:
        """Whether ``day`` is one of them."""
        return self.first <= day <= self.last

    def __str__(self) -> str:
        """``2026-12-24..2026-12-26``, or one day alone."""
        return f"{self.first}" if self.first == self.last else f"{self.first}..{self.last}"


@dataclass(frozen=True)
class AnnualRange:
    """Days of every year, from (month, day) ``first`` to ``last``, both included; may run over New Year."""

    first: tuple[int, int]
    last: tuple[int, int]

    def __contains__(self, day: date) -> bool:
        """Whether ``day`` is one of them."""
        at = (day.month, day.day)
        if self.first <= self.last:
            return self.first <= at <= self.last
        return at >= self.first or at <= self.last

    def __str__(self) -> str:
        """``12-24..01-01``, or one day alone."""
        first, last = ("{:02}-{:02}".format(*day) for day in (self.first, self.last))
        return first if first == last else f"{first}..{last}"


@dataclass(frozen=True)
class Calendar:
    """When a rule holds; every condition that is given must be met.

    Attributes
    ----------
    zone
        The zone in whose wall-clock time everything is meant.
    weekdays
        0 is Monday; empty for every day of the week.
    times
        Ranges of the time of day; empty for the whole day.
    dates
        The days on which it holds at all; empty for every day.
    except_dates
        The days on which it does not hold: holidays.
    """

    zone: tzinfo
    weekdays: frozenset[int] = frozenset()
    times: tuple[TimeRange, ...] = ()
    dates: tuple[DateRange | AnnualRange, ...] = ()
    except_dates: tuple[DateRange | AnnualRange, ...] = ()

    def holds_at(self, now: int) -> bool:
        """Whether the instant ``now``, seconds UTC, lies in a window."""
        local = datetime.fromtimestamp(now, self.zone)
        today, minute = local.date(), local.hour * 60 + local.minute
        if not self.times:
            return self.holds_on(today)
        return any(self._within(time, today, minute) for time in self.times)

    def holds_on(self, day: date) -> bool:
        """Whether a window begins on ``day``."""
        if self.weekdays and day.weekday() not in self.weekdays:
            return False
        if self.dates and not any(day in dates for dates in self.dates):
            return False
        return not any(day in dates for dates in self.except_dates)

    def ever_holds(self) -> bool:
        """Whether there is a day on which a window begins."""
        return any(self.holds_on(day) for day in self._candidates())

    def __str__(self) -> str:
        """In one line, for tables and messages."""
        parts = [",".join(WEEKDAYS[day] for day in sorted(self.weekdays))]
        parts += [",".join(str(part) for part in group) for group in (self.times, self.dates)]
        parts += [f"except {','.join(str(dates) for dates in self.except_dates)}" if self.except_dates else ""]
        return " ".join([part for part in parts if part] + [str(self.zone)])

    def _within(self, time: TimeRange, today: date, minute: int) -> bool:
        if not time.over_midnight:
            return time.start <= minute < time.end and self.holds_on(today)
        if minute >= time.start:
            return self.holds_on(today)
        return minute < time.end and self.holds_on(today - timedelta(days=1))

    def _candidates(self) -> Iterator[date]:
        """Days among which one must be if there is any at all."""
        for dates in self.dates or (AnnualRange((1, 1), (12, 31)),):
            first = dates.first if isinstance(dates, DateRange) else date(2024, 1, 1)
            days = (dates.last - dates.first).days + 1 if isinstance(dates, DateRange) else _CYCLE_DAYS
            for offset in range(min(days, _CYCLE_DAYS)):
                yield first + timedelta(days=offset)
