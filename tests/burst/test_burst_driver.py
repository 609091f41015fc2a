from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from burst_fakes import FakeGuard, FakeOriginals

from forestall.adapters.clock.virtual import VirtualClock
from forestall.adapters.simulated.core_host import SimulatedCoreHost
from forestall.burst.driver import BurstDriver
from forestall.burst.lending import LendingSettings
from forestall.burst.place import Place
from forestall.burst.settings import BurstSettings
from forestall.ports.cores import CoreUse, Guest, Part
from forestall.ports.hypervisor import VmSettings

BEAT_SECONDS, CORES = 0.025, 4.0
LENDER, OTHER, BORROWER = "web", "db", "batch"


def place(vm_id: str, part: Part = Part.LENDER, *, acting: bool = True, run: str = "1") -> Place:
    return Place(Guest(vm_id, run, 1, part), CORES, acting=acting)


class Rig:
    """A driver on a simulated host: two lenders, and a borrower that takes all it can get."""

    def __init__(self, wishes: np.ndarray, kind: type[SimulatedCoreHost] = SimulatedCoreHost) -> None:
        self.clock = VirtualClock(0.0)
        self.host = kind((LENDER, OTHER, BORROWER), wishes, 25_000, self.clock, total_cores=CORES)
        self.guard, self.originals = FakeGuard(), FakeOriginals()
        settings = BurstSettings(CORES, budgets=(0.05,))
        self.driver = BurstDriver(self.host, self.guard, self.originals, self.clock, settings, LendingSettings(), None)

    def attach(self, *places: Place) -> None:
        self.driver.attach(places or (place(LENDER), place(OTHER), place(BORROWER, Part.BORROWER)))

    def run(self, beats: int, late: float = 0.0) -> None:
        for _ in range(beats):
            self.clock.sleep_until(self.clock.now() + BEAT_SECONDS)
            self.driver.tick(late)

    def limit(self) -> float:
        """Cores that the borrower may use now."""
        found = self.host.settings(BORROWER).values["limit"]
        return math.inf if found is None else float(found)


def steady(beats: int = 4000, used: float = 0.5) -> np.ndarray:
    """Lenders that use the same all the time."""
    return np.column_stack([np.full(beats, used), np.full(beats, used), np.full(beats, CORES)])


def test_what_nobody_reserves_is_lent() -> None:
    rig = Rig(steady())
    rig.attach()
    rig.run(1200)
    status = rig.driver.status(0.01)
    assert status.loan.lent == pytest.approx(3.0, abs=0.25)
    assert rig.limit() == pytest.approx(status.loan.lent)
    assert sum(status.reserved.values()) == pytest.approx(status.loan.reserved)
    assert status.misses == 0


def test_until_something_is_known_nothing_is_lent() -> None:
    rig = Rig(steady())
    rig.attach()
    rig.run(5)
    assert rig.limit() == rig.host.least_cores()


def test_a_lender_that_wants_more_has_it_back_within_a_beat() -> None:
    wishes = steady()
    wishes[1200:, 0] = 3.0
    rig = Rig(wishes)
    rig.attach()
    rig.run(1200)
    before = rig.limit()
    rig.run(2)
    assert before > 2.0
    assert rig.limit() == rig.host.least_cores()
    assert rig.driver.status(0.0).misses == 1


def test_the_borrower_gives_way_before_it_is_limited_and_its_settings_are_safe() -> None:
    rig = Rig(steady())
    rig.attach()
    rig.run(60)
    kept = rig.originals.entries[BORROWER]
    assert kept.values == {"limit": None, "behind": False}
    assert rig.guard.covered[BORROWER] == kept
    assert rig.host.settings(BORROWER).values["behind"] is True


def test_without_room_for_the_originals_nothing_is_touched() -> None:
    rig = Rig(steady())
    rig.originals.full = True
    rig.attach()
    rig.run(600)
    assert rig.limit() == math.inf
    assert "no space" in rig.driver.status(0.0).refusals[BORROWER]


def test_a_borrower_that_may_not_be_touched_is_only_told_of() -> None:
    rig = Rig(steady())
    rig.attach(place(LENDER), place(OTHER), place(BORROWER, Part.BORROWER, acting=False))
    rig.run(1200)
    assert rig.limit() == math.inf
    assert rig.driver.status(0.0).limits[BORROWER] > 2.0
    assert not rig.originals.entries


def test_at_the_end_everything_is_as_it_was() -> None:
    rig = Rig(steady())
    rig.attach()
    rig.run(600)
    assert rig.driver.stop() == {}
    assert rig.host.settings(BORROWER).values == {"limit": None, "behind": False}
    assert not rig.originals.entries
    assert not rig.guard.covered


@pytest.mark.parametrize(
    "places",
    [
        (place(LENDER), place(OTHER)),
        (place(LENDER), place(OTHER), place(BORROWER, Part.BORROWER, acting=False)),
        (place(LENDER), place(OTHER), place(BORROWER, Part.LENDER)),
    ],
    ids=["gone from the roster", "no longer to be touched", "lends now"],
)
def test_who_no_longer_borrows_is_put_back(places: tuple[Place, ...]) -> None:
    rig = Rig(steady())
    rig.attach()
    rig.run(600)
    rig.driver.attach(places)
    assert not rig.guard.covered
    assert not rig.originals.entries
    rig.driver.attach((place(BORROWER, Part.BORROWER),))
    assert rig.host.settings(BORROWER).values == {"limit": None, "behind": False}


def test_a_dead_guard_is_replaced_and_what_it_has_put_back_is_set_again() -> None:
    rig = Rig(steady())
    rig.attach()
    rig.run(1200)
    rig.guard.dead = True
    assert not rig.host.put_back(rig.guard.covered.pop(BORROWER))  # as it does at its end
    rig.run(8)
    assert rig.guard.begun == 2
    assert BORROWER in rig.guard.covered
    assert rig.host.settings(BORROWER).values["behind"] is True
    assert 2.0 < rig.limit() < CORES


def test_without_a_guard_nobody_is_touched() -> None:
    rig = Rig(steady())
    rig.attach()
    rig.run(1200)
    rig.guard.dead = rig.guard.stillborn = True
    rig.run(8)
    assert rig.host.settings(BORROWER).values == {"limit": None, "behind": False}
    assert "guard" in rig.driver.status(0.0).loan.reason
    assert not rig.originals.entries


def test_three_late_ticks_and_reservations_are_back_to_the_frame() -> None:
    rig = Rig(steady())
    rig.attach()
    rig.run(1200)
    rig.run(2, late=0.03)
    rig.run(2)
    assert rig.limit() > 2.0
    rig.run(8, late=0.03)
    assert rig.limit() == rig.host.least_cores()
    status = rig.driver.status(0.0)
    assert "late" in status.loan.reason
    assert status.timing.late == 10
    assert status.timing.late_now
    rig.run(200)
    assert rig.limit() > 2.0


def test_lenders_come_and_go_and_what_is_known_of_the_others_stays() -> None:
    wishes = steady()
    wishes[1400:, 1] = np.nan
    rig = Rig(wishes)
    rig.attach()
    rig.run(1300)
    before = rig.driver.status(0.0)
    rig.run(100)
    rig.attach(place(LENDER), place(BORROWER, Part.BORROWER))
    rig.run(600)
    after = rig.driver.status(0.0)
    assert set(before.reserved) == {LENDER, OTHER}
    assert set(after.reserved) == {LENDER}
    assert after.loan.lent > before.loan.lent + 0.3


def test_a_lender_that_is_gone_reads_as_nothing() -> None:
    wishes = steady()
    wishes[1300:, 1] = np.nan
    rig = Rig(wishes)
    rig.attach()
    rig.run(2000)
    status = rig.driver.status(0.0)
    assert math.isfinite(status.loan.lent)
    assert status.loan.lent >= 2.9


def test_the_latency_of_waking_up_is_measured() -> None:
    wishes = steady()
    wishes[1200:, :2] = 2.5  # more than there is, whoever gives way
    rig = Rig(wishes)
    rig.attach()
    rig.run(1200)
    assert rig.driver.status(0.0).wake_us == pytest.approx(0.0, abs=1.0)
    rig.run(100)
    assert rig.driver.status(0.0).wake_us == pytest.approx(250.0, rel=0.1)


class Counting(SimulatedCoreHost):
    """Knows faults and operations too: a hundred and ten a second, of each VM."""

    def read(self, *, all_counters: bool = True) -> CoreUse:
        use = super().read(all_counters=all_counters)
        return replace(use, faults=np.full(3, 100.0 * use.at), operations=np.full(3, 10.0 * use.at))


def test_what_lenders_do_beside_computing_is_expected() -> None:
    rig = Rig(steady(), Counting)
    rig.attach()
    rig.run(400)
    rates = rig.driver.status(0.0).rates
    assert rates.keys() == {LENDER, OTHER}
    assert rates[LENDER]["faults_per_s"] == pytest.approx(100.0, rel=0.4)
    assert rates[OTHER]["operations_per_s"] == pytest.approx(10.0, rel=0.4)


def test_rates_that_nobody_knows_are_none() -> None:
    rig = Rig(steady())
    rig.attach()
    rig.run(400)
    assert max(rig.driver.status(0.0).rates[LENDER].values()) < 1.0


def test_what_is_reserved_elsewhere_is_not_lent() -> None:
    rig = Rig(steady())
    rig.driver.attach((place(LENDER), place(OTHER), place(BORROWER, Part.BORROWER)), 2.0)
    rig.run(1200)
    assert rig.limit() == pytest.approx(1.0, abs=0.25)


def test_for_a_lender_that_cannot_be_watched_its_frame_is_reserved() -> None:
    rig = Rig(steady())
    unseen = Place(Guest("nobody", "1", 1, Part.LENDER), 1.5)
    rig.attach(place(LENDER), unseen, place(BORROWER, Part.BORROWER))
    rig.run(1200)
    assert rig.limit() == pytest.approx(2.0, abs=0.25)
    assert "nobody" in rig.driver.status(0.0).refusals


def test_unless_it_is_said_again_who_there_is_everybody_is_put_back() -> None:
    rig = Rig(steady())
    places = (place(LENDER), place(OTHER), place(BORROWER, Part.BORROWER))
    rig.driver.attach(places, lease_seconds=10.0)
    rig.run(300)
    rig.driver.renew(10.0)
    rig.run(300)
    assert not rig.driver.lapsed
    rig.run(200)
    assert rig.driver.lapsed
    assert not rig.guard.covered
    rig.driver.attach(places)
    assert rig.host.settings(BORROWER).values == {"limit": None, "behind": False}
    assert not rig.driver.lapsed


def test_who_was_put_back_by_somebody_else_is_put_back_at_the_end_all_the_same() -> None:
    rig = Rig(steady())
    rig.attach()
    rig.run(600)
    rig.originals.entries.clear()
    assert rig.driver.stop() == {}
    assert rig.host.settings(BORROWER).values == {"limit": None, "behind": False}


class Stubborn(SimulatedCoreHost):
    """Does not put back while ``stubborn``."""

    stubborn = False

    def put_back(self, settings: VmSettings) -> str:
        return "busy" if self.stubborn else super().put_back(settings)


def test_who_cannot_be_put_back_is_not_limited_further_and_tried_again() -> None:
    rig = Rig(steady(), Stubborn)
    rig.attach()
    rig.run(1200)
    assert isinstance(rig.host, Stubborn)
    rig.host.stubborn = True
    advised = (place(LENDER), place(OTHER), place(BORROWER, Part.BORROWER, acting=False))
    rig.driver.attach(advised)
    before = rig.limit()
    rig.run(100)
    assert rig.limit() == before
    assert "not as it was: busy" in rig.driver.status(0.0).refusals[BORROWER]
    rig.driver.attach((place(LENDER),))  # and it may go altogether
    rig.run(8)
    rig.host.stubborn = False
    rig.run(8)
    assert not rig.guard.covered
    assert not rig.originals.entries


def test_an_entry_that_cannot_be_dropped_hinders_nothing_and_goes_later() -> None:
    rig = Rig(steady())
    rig.attach()
    rig.run(600)
    rig.originals.stuck = True
    rig.driver.attach((place(LENDER), place(OTHER), place(BORROWER, Part.LENDER)))
    assert not rig.guard.covered
    rig.run(8)
    assert rig.originals.entries
    rig.originals.stuck = False
    rig.run(8)
    assert not rig.originals.entries


def test_a_lender_that_leaves_is_no_miss() -> None:
    rig = Rig(steady())
    rig.attach()
    rig.run(1202)  # in the middle of a window
    rig.attach(place(LENDER), place(BORROWER, Part.BORROWER))
    rig.run(2)
    assert rig.driver.status(0.0).misses == 0


def test_the_same_roster_again_forgets_nothing() -> None:
    rig = Rig(steady(), Counting)
    rig.attach()
    rig.run(1200)
    before = rig.driver.status(0.0)
    rig.attach()
    after = rig.driver.status(0.0)
    assert after.rates == before.rates
    assert after.reserved == before.reserved


def test_a_guard_that_does_not_hear_covers_nobody() -> None:
    rig = Rig(steady())
    rig.guard.deaf = True
    rig.attach()
    rig.run(100)
    assert rig.host.settings(BORROWER).values == {"limit": None, "behind": False}


def test_the_guard_has_its_pulse_whatever_the_length_of_a_window() -> None:
    rig = Rig(steady())
    rig.attach()
    rig.run(400)
    assert rig.guard.beats >= 40
