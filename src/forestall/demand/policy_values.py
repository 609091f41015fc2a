"""Reading the single values of a policy document: numbers, names, weekdays, times, dates.

Each reader takes a value as TOML has it and returns what it means, or raises ``ValueError`` with what is wrong
with it, as the end of a sentence that begins with the key.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from datetime import date, datetime, tzinfo
from difflib import get_close_matches
from reprlib import Repr
from typing import Any

from forestall.demand.calendar import MINUTES_PER_DAY, WEEKDAYS, AnnualRange, DateRange, TimeRange
from forestall.model.resources import Resource

Reader = Callable[[Any], Any]

LONGEST_NAME = 200
_LEAP_YEAR = 2024
_FULL_NAMES = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_TIMES = re.compile(r"(\d\d):([0-5]\d)-(\d\d):([0-5]\d)", re.ASCII)
_KINDS = {bool: "true or false", str: "text", list: "a list", dict: "a table", int: "a number", float: "a number"}
_short = Repr()
_short.maxstring = _short.maxother = _short.maxlong = 60


def shown(value: object) -> str:
    """``value`` in a message: quoted, on one line, not too long."""
    return str(value) if isinstance(value, date) else _short.repr(value)


def hint(word: str, known: Iterable[str]) -> str:
    """``, did you mean ...?`` if something known is close, else an empty text."""
    close = get_close_matches(word, list(known), n=1)
    if not close:
        folded = {name.lower(): name for name in known}
        close = [folded[word.lower()]] if word.lower() in folded else []
    return f", did you mean {close[0]!r}?" if close else ""


def number(
    low: float, high: float = math.inf, *, low_too: bool = False, high_too: bool = True
) -> Callable[[object], float]:
    """Read a finite number between ``low`` and ``high``; the ends count or not."""
    words = f"{'at least' if low_too else 'above'} {low:g}"
    if high < math.inf:
        words += f" and {'at most' if high_too else 'below'} {high:g}"

    def read(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"must be a number, not {_kind(value)}")
        above = value >= low if low_too else value > low
        below = value <= high if high_too else value < high
        if not (above and below and abs(value) < 1e300):
            raise ValueError(f"must be {words}, not {shown(value)}")
        return float(value)

    return read


def integer(value: object) -> int:
    """Read a whole number."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"must be a whole number, not {shown(value) if isinstance(value, float) else _kind(value)}")
    return value


def flag(value: object) -> bool:
    """Read true or false."""
    if not isinstance(value, bool):
        raise ValueError(f"must be true or false, not {_kind(value)}")
    return value


def text(value: object) -> str:
    """Read a text that can name something: not empty, printable, not too long."""
    if not isinstance(value, str):
        raise ValueError(f"must be text, not {_kind(value)}")
    if not value.strip() or not value.isprintable() or len(value) > LONGEST_NAME:
        raise ValueError(f"must be printable text of at most {LONGEST_NAME} characters, not {shown(value)}")
    return value


def several(read: Reader, *, may_be_empty: bool = False) -> Callable[[object], tuple[Any, ...]]:
    """Read a list of what ``read`` reads."""

    def read_all(value: object) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise ValueError(f"must be a list, not {_kind(value)}")
        if not value and not may_be_empty:
            raise ValueError("is an empty list; leave the key out if it does not matter")
        return tuple(dict.fromkeys(read(item) for item in value))

    return read_all


def one_of(known: Iterable[str], what: str) -> Callable[[object], str]:
    """Read a name that must be among ``known``."""
    names = tuple(known)

    def read(value: object) -> str:
        name = text(value)
        if name not in names:
            raise ValueError(f"names the unknown {what} {shown(name)}{hint(name, names)}")
        return name

    return read


def resource(value: object) -> Resource:
    """Read the name of a resource."""
    return Resource(one_of([r.value for r in Resource], "resource")(value))


def zone(find: Callable[[str], tzinfo]) -> Callable[[object], tzinfo]:
    """Read the IANA name of a time zone, which ``find`` looks up; it raises as a reader does."""
    return lambda value: find(text(value))


def weekdays(value: object) -> frozenset[int]:
    """Read ``["mon-fri", "sun"]``; a range may run over the end of the week."""
    days: set[int] = set()
    for entry in several(text)(value):
        first, dash, last = entry.lower().partition("-")
        start = _weekday(first)
        length = (_weekday(last) - start) % 7 if dash else 0
        days |= {(start + offset) % 7 for offset in range(length + 1)}
    return frozenset(days)


def time_range(value: object) -> TimeRange:
    """Read ``"08:00-18:00"``; one that ends before it begins runs over midnight."""
    found = _TIMES.fullmatch(text(value))
    if found is None:
        raise ValueError(f"must be times as '08:00-18:00', not {shown(value)}")
    start, end = (int(found[i]) * 60 + int(found[i + 1]) for i in (1, 3))
    if start >= MINUTES_PER_DAY or end > MINUTES_PER_DAY:
        raise ValueError(f"has a time after the end of the day: {shown(value)}")
    if start == end:
        raise ValueError(f"has an empty range of times: {shown(value)}; the whole day is '00:00-24:00'")
    return TimeRange(start, end)


def date_range(value: object) -> DateRange | AnnualRange:
    """Read ``2026-12-24``, ``"2026-12-24..2027-01-01"``, ``"12-25"`` or ``"12-24..01-01"`` of every year."""
    if isinstance(value, date) and not isinstance(value, datetime):
        return DateRange(value, value)
    first, dots, last = (part.strip() for part in text(value).partition(".."))
    if not dots:
        last = first
    begin, end = _day(first, value), _day(last, value)
    if len(first) != len(last):
        raise ValueError(f"mixes a day with and a day without its year: {shown(value)}")
    if len(first) == len("12-24"):
        return AnnualRange((begin.month, begin.day), (end.month, end.day))
    if end < begin:
        raise ValueError(f"has a range of dates that ends before it begins: {shown(value)}")
    return DateRange(begin, end)


def _day(written: str, value: object) -> date:
    """A day with its year, or one of every year as a day of a leap year."""
    full = f"{_LEAP_YEAR}-{written}" if re.fullmatch(r"\d\d-\d\d", written, re.ASCII) else written
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", full, re.ASCII):
        raise ValueError(f"must be dates as '2026-12-24', '12-24' or '12-24..12-26', not {shown(value)}")
    try:
        return date.fromisoformat(full)
    except ValueError as error:
        raise ValueError(f"has a date that does not exist: {shown(value)}") from error


def _weekday(name: str) -> int:
    short, full = name.strip(), _FULL_NAMES
    if short in WEEKDAYS:
        return WEEKDAYS.index(short)
    if short in full:
        return full.index(short)
    raise ValueError(f"names the unknown weekday {shown(short)}{hint(short, (*WEEKDAYS, *full))}")


def _kind(value: object) -> str:
    return _KINDS.get(type(value), "a date or time")
