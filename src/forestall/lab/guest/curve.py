"""Day curves: how much there is to do at which time of a day that may last minutes only."""

from __future__ import annotations

import math
import random

DAYS_PER_WEEK = 7
WORKING_DAYS = 5
WEEKEND_SHARE = 0.5
STEPS_PER_DAY = 96

# (hour of the day, level) of each role, joined by cosine pieces; the day closes on itself.
SHAPES: dict[str, tuple[tuple[float, float], ...]] = {
    "redis": ((0, 0.25), (4, 0.05), (8, 0.3), (13, 0.55), (16, 0.45), (20, 1.0)),
    "web": ((0, 0.1), (4, 0.05), (9, 0.8), (12, 0.6), (15, 1.0), (19, 0.5), (22, 0.25)),
    "database": ((0, 0.05), (6, 0.05), (9, 0.9), (12.5, 0.5), (14, 1.0), (17, 0.7), (19, 0.1)),
    "postgres": ((0, 0.1), (6, 0.1), (10, 0.7), (13, 1.0), (18, 0.6), (21, 0.2)),
    "stream": ((0, 0.4), (3, 0.1), (12, 0.3), (18, 0.6), (21, 1.0)),
    "batch": ((0, 1.0), (4, 1.0), (5.5, 0.0), (21, 0.0), (22, 0.8)),
    "idle": ((0, 0.02), (12, 0.02)),
}


def shape(role: str, hour: float) -> float:
    """Level (0-1) of a role at an hour (0-24) of an ordinary day."""
    points = SHAPES[role]
    following = next((i for i, (at, _) in enumerate(points) if at > hour), len(points)) % len(points)
    (start, low), (end, high) = points[following - 1], points[following]
    share = ((hour - start) % 24) / (((end - start) % 24) or 24)
    return low + (high - low) * (1 - math.cos(math.pi * share)) / 2


def level(role: str, seconds: float, day_seconds: float) -> float:
    """Level (0-1) that a role has, ``seconds`` after the first midnight; the same each time it is asked.

    On top of the day's shape every day has its own height, the last two of seven are quieter (batch and idle work
    excepted), and every quarter of an hour has its own small deviation.
    """
    day, within = divmod(seconds / day_seconds, 1.0)
    level = shape(role, within * 24) * random.Random(f"{role} {day}").uniform(0.85, 1.0)
    if day % DAYS_PER_WEEK >= WORKING_DAYS and role not in {"batch", "idle"}:
        level *= WEEKEND_SHARE
    step = int(within * STEPS_PER_DAY)
    return min(1.0, level * random.Random(f"{role} {day} {step}").uniform(0.85, 1.15))
