"""How Forestall is to be set for a lab: its libvirtd, and the time that its guests live in."""

from __future__ import annotations

from forestall.lab.place import Place
from forestall.lab.plan import Pace

DAY_SECONDS, HOUR_SECONDS = 86_400, 3_600
STEP_SECONDS = 5.0
"""Length of a cycle that is aimed at, in the host's seconds."""
TEXT = """\
# Forestall on the lab in this folder: forestall run --config {file}
# A day of the guests lasts {day:g} s; all seconds in this file are theirs, of which {pace:g} pass in one of the host's.
connect = "{uri}"
state_folder = "{state}"
step_seconds = {step}
cold_seconds = {cold}

[safety]
lease_seconds = {lease}
clock_jump_seconds = {jump}
recover_seconds = {recover}

[time_lapse]
pace = {pace!r}
midnight_at = {midnight!r}
"""


def settings_text(place: Place, pace: Pace, epoch: float) -> str:
    """The settings file of a lab, as TOML.

    Parameters
    ----------
    epoch
        Midnight of the guests' first day, a Monday, seconds of the host's clock.
    """
    faster = max(DAY_SECONDS / pace.day_seconds, 1.0)
    step = _step_seconds(faster)
    return TEXT.format(
        file=place.settings,
        uri=place.uri,
        state=place.folder / "forestall",
        day=pace.day_seconds,
        step=step,
        cold=12 * step,
        lease=5 * step,
        jump=float(2 * step),
        recover=12 * step,
        pace=faster,
        midnight=epoch,
    )


def _step_seconds(faster: float) -> int:
    """The longest step, in the guests' seconds, that divides an hour and is no longer than aimed at."""
    return max(s for s in range(1, HOUR_SECONDS + 1) if HOUR_SECONDS % s == 0 and s <= max(STEP_SECONDS * faster, 1))
