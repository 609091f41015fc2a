"""Instants as people write them."""

from __future__ import annotations

from datetime import UTC, datetime

from forestall.model.errors import WrongUse

CALENDAR_FROM = 366 * 86400
"""An instant before this one (a year after the epoch) is no date, but counts from the start of a hidden calendar."""


def parse_instant(text: str, *, what: str = "instant") -> int:
    """Seconds since the epoch from a number of seconds or an ISO 8601 date; UTC where no zone is named.

    Raises
    ------
    WrongUse
        It is neither; ``what`` names the option or value in the message.
    """
    try:
        return int(text)
    except ValueError:
        pass
    try:
        instant = datetime.fromisoformat(text)
    except ValueError as error:
        raise WrongUse(f"{what} {text}: neither seconds nor an ISO 8601 date") from error
    return int((instant if instant.tzinfo else instant.replace(tzinfo=UTC)).timestamp())


def format_instant(seconds: int) -> str:
    """An instant as seconds and as a date, or as day and hour where it is no date."""
    if seconds < CALENDAR_FROM:
        return f"{seconds} ({day_and_hour(seconds)})"
    return f"{seconds} ({datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC)"


def day_and_hour(seconds: int) -> str:
    """Day and hour of an instant without a date: ``day 4, 13:00``."""
    return f"day {seconds // 86_400}, {seconds % 86_400 // 3600:02d}:{seconds % 3600 // 60:02d}"
