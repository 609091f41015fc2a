"""The loop over disks on tiers: it counts, forecasts by the hour, moves one disk at a time, and remembers."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from tier_rigs import DISK, GIB, Book, two_tiers

from forestall.model.errors import WrongUse
from forestall.ports.tiers import DiskName, State, TierDisk
from forestall.staging.tiers.frequency import Frequency
from forestall.staging.tiers.loop import MOVING_SECONDS, TierLoop
from forestall.staging.tiers.plan import TierSettings

HOUR = 3600
SETTINGS = TierSettings(bytes_per_s=100 << 20, keep_free_bytes=0, least_seen_hours=2)


class Uses:
    kept: Any = None

    def read(self) -> Any:
        return self.kept

    def write(self, value: Any) -> None:
        self.kept = json.loads(json.dumps(value))


@dataclass
class Rig:
    moves: bool = True
    may: bool = True
    settings: TierSettings = SETTINGS
    now: float = 0.0
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.host, self.book, self.uses = two_tiers(), Book(), Uses()
        self.busy = self.host.add(DISK, "/slow/a.img")
        self.idle = self.host.add(DiskName("b", "vda"), "/slow/b.img")
        self.anew()

    def anew(self) -> None:
        self.loop = TierLoop(
            self.host,
            self.book,
            self.uses,
            self.settings,
            lambda: self.now,
            lambda _: self.may,
            self.said.append,
            moves=self.moves,
        )

    def hours(self, count: float, per_s: float = 5.0) -> None:
        until = self.now + count * HOUR
        while self.now < until:
            self.busy.requests += int(per_s * 300)
            self.busy.wait_seconds += per_s * 300 * 0.008
            self.now += 300
            self.loop.beat()


def test_a_disk_that_is_asked_often_is_moved_once_it_is_known() -> None:
    rig = Rig()
    rig.hours(1.5)
    assert not rig.book.moves()
    rig.hours(2)
    (move,) = rig.book.moves()
    assert (move.source, move.destination, move.why) == ("/slow/a.img", "/fast/a.img", "is asked often")
    rig.hours(1)
    assert rig.busy.path == rig.busy.starts_on == "/fast/a.img"
    assert rig.idle.path == "/slow/b.img"
    assert len(rig.book.moves()) == 1
    assert any("a:vda is moved from slow to fast, 10 s: is asked often" in line for line in rig.said)
    assert rig.said[-1] == "disk a:vda is on fast now"


def test_while_a_disk_moves_it_is_looked_at_every_second() -> None:
    rig = Rig()
    rig.loop.beat()
    assert rig.loop.order("a", "vda", "fast").state is State.COPYING
    assert rig.loop.beat() == MOVING_SECONDS
    views = {view.vm_id: view for view in rig.loop.disk_views()}
    assert (views["a"].to_tier, views["a"].why) == ("fast", "is being moved: by order")
    assert [view.disks for view in rig.loop.tier_views()] == [0, 2]


def test_advice_moves_nothing_but_what_is_ordered() -> None:
    rig = Rig(moves=False)
    rig.hours(6)
    assert not rig.book.moves()
    (view,) = (view for view in rig.loop.disk_views() if view.vm_id == "a")
    assert (view.to_tier, view.why) == ("fast", "is asked often")
    assert view.requests_per_s == pytest.approx(5, rel=0.01)
    assert view.wait_ms == pytest.approx(8, rel=0.01)
    assert view.gain_seconds > view.cost_seconds > 0
    rig = Rig(may=False)
    rig.hours(6)
    assert not rig.book.moves()


def test_orders_that_cannot_be_meant() -> None:
    rig = Rig(moves=False)
    for words, why in (
        (("c", "vda", "fast"), "no VM named 'c'"),
        (("a", "vda", "quick"), "none of the tiers fast, slow"),
        (("a", "vda", "slow"), "lies on slow already"),
    ):
        with pytest.raises(WrongUse, match=why):
            rig.loop.order(*words)
    rig.busy.size_bytes = 200 * GIB
    with pytest.raises(WrongUse, match="bytes left"):
        rig.loop.order("a", "vda", "fast")
    rig.busy.size_bytes = GIB
    rig.loop.order("a", "vda", "fast")
    with pytest.raises(WrongUse, match="one is moved at a time"):
        rig.loop.order("b", "vda", "fast")


def test_what_is_open_is_gone_on_with_or_given_up() -> None:
    rig = Rig(moves=False)
    rig.loop.order("a", "vda", "fast")
    rig.anew()
    for _ in range(5):
        rig.loop.beat()
    assert rig.busy.path == "/fast/a.img"
    rig.loop.order("b", "vda", "fast")
    assert rig.loop.give_up("its VM is left alone", ["a"]) is None
    given_up = rig.loop.give_up("its VM is left alone", ["b"])
    assert given_up is not None
    assert (given_up.state, rig.idle.path, "/fast/b.img" in rig.host.images) == (State.FAILED, "/slow/b.img", False)


def test_a_disk_that_could_not_be_moved_is_left_alone_for_a_day() -> None:
    rig = Rig()
    rig.host.images["/fast/a.img"] = 1  # somebody's
    rig.hours(20)
    assert [move.state for move in rig.book.moves()] == [State.FAILED]
    rig.anew()
    rig.hours(1)
    assert len(rig.book.moves()) == 1
    del rig.host.images["/fast/a.img"]
    rig.hours(8)
    assert rig.busy.path == "/fast/a.img"


def test_what_is_known_outlives_the_process() -> None:
    rig = Rig(moves=False)
    rig.hours(5)
    rig.anew()
    rig.loop.beat()
    (view,) = (view for view in rig.loop.disk_views() if view.vm_id == "a")
    assert (view.seen_hours, view.requests_per_s) == (5, pytest.approx(5, rel=0.01))
    rig.uses.kept[0]["day"] = [1.0]
    rig.anew()
    assert "learned anew: day of a has another length" in rig.said[-1]


def test_errors_are_said_once() -> None:
    rig = Rig(moves=False)
    rig.loop.order("a", "vda", "fast")
    rig.host.failing = "standing"
    for _ in range(3):
        rig.loop.beat()
    assert rig.said[1:] == ["disks on tiers: standing was refused"]


def observed(rates: list[float]) -> Frequency:
    """A disk that was asked so often a second, hour by hour from a Thursday midnight on."""
    frequency, disk = Frequency(), TierDisk(DISK, "1", "u", "/slow/a", "slow", GIB, 0, 0.0)
    for look in range(12 * len(rates)):
        frequency.observe([disk], look * 300.0)
        disk = replace(disk, requests=disk.requests + int(rates[look // 12] * 300))
    frequency.observe([disk], len(rates) * HOUR)
    return frequency


def test_a_nightly_burst_is_expected_at_night() -> None:
    day = [0.1] * 2 + [40.0] * 2 + [0.1] * 20
    said = observed(day * 5).forecast(DISK, 5 * 24 * HOUR, 24)
    assert said[2:4].min() > 30
    assert said[6:].max() < 5


def test_a_weekend_is_told_from_a_working_day() -> None:
    weeks = [0.1 if (hour // 24) % 7 in (2, 3) else 20.0 for hour in range(5 * 168)]
    said = observed(weeks).forecast(DISK, 5 * 168 * HOUR, 7 * 24).reshape(7, 24).mean(axis=1)
    assert said[[2, 3]].max() < 8 < 14 < said[[0, 1, 4, 5, 6]].min()


def test_a_new_habit_is_believed_after_days() -> None:
    said = observed([20.0] * 24 * 7 + [0.0] * 24 * 3).forecast(DISK, 10 * 24 * HOUR, 24)
    assert said.mean() < 2


def looked_at(frequency: Frequency, disk: TierDisk, since: float, until: float, requests: int, ms: float) -> TierDisk:
    """A disk that is asked evenly, looked at each minute; as it is in the end."""
    looks = round((until - since) / 60)
    for look in range(looks + 1):
        done = requests * look // looks
        seen = replace(disk, requests=disk.requests + done, wait_seconds=disk.wait_seconds + done * ms / 1000)
        frequency.observe([seen], since + look * 60.0)
    return seen


def test_counts_that_begin_anew_are_not_taken_for_requests() -> None:
    frequency, disk = Frequency(), TierDisk(DISK, "1", "u", "/slow/a", "slow", GIB, 1000, 8.0)
    looked_at(frequency, disk, 0.0, 1740.0, 0, 0.0)
    # Another run, and one that has the same name, after the host was started anew.
    later = looked_at(frequency, replace(disk, run="2", requests=5, wait_seconds=0.0), 1800.0, 2400.0, 0, 0.0)
    looked_at(frequency, replace(later, requests=0), 2460.0, 3540.0, 3540, 10.0)
    frequency.observe([disk], 3601.0)
    assert frequency.forecast(DISK, 3601.0, 2) == pytest.approx([3540 / 3420] * 2, rel=0.01)
    assert frequency.wait_ms(DISK) == pytest.approx(10)


def test_how_long_requests_wait_on_another_tier_is_learned_there() -> None:
    frequency, disk = Frequency(), TierDisk(DISK, "1", "u", "/slow/a", "slow", GIB, 0, 0.0)
    disk = looked_at(frequency, disk, 0.0, 3300.0, 55_000, 8.0)
    there = looked_at(frequency, replace(disk, path="/fast/a"), 3360.0, 3540.0, 3000, 0.1)
    assert np.isnan(frequency.wait_ms(DISK))
    frequency.observe([there], 3601.0)
    assert frequency.wait_ms(DISK) == pytest.approx(0.1)


def test_what_happened_while_nobody_looked_is_of_no_hour() -> None:
    frequency, disk = Frequency(), TierDisk(DISK, "1", "u", "/slow/a", "slow", GIB, 0, 0.0)
    disk = looked_at(frequency, disk, 0.0, 3540.0, 3540, 8.0)
    disk = replace(disk, requests=disk.requests + 10**6)  # a night
    looked_at(frequency, disk, 36_000.0, 39_540.0, 3540, 8.0)
    frequency.observe([disk], 39_600.0)
    assert frequency.forecast(DISK, 39_600.0, 24).max() < 1.1


def test_a_vm_that_did_not_answer_is_looked_at_the_next_time() -> None:
    frequency, disk = Frequency(), TierDisk(DISK, "1", "u", "/slow/a", "slow", GIB, 0, 0.0)
    silent = replace(disk, counted=False)
    for look in range(0, 60, 2):
        frequency.observe([replace(disk, requests=look * 60)], look * 60.0)
        frequency.observe([silent], look * 60.0 + 60.0)
    frequency.observe([disk], 3601.0)
    assert frequency.forecast(DISK, 3601.0, 1) == pytest.approx([1.0], rel=0.01)
