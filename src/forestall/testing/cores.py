"""Contract of the cores of a host."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from forestall.model.errors import HypervisorError
from forestall.ports.cores import CoreHost, Guest, Part
from forestall.ports.hypervisor import VmSettings

NOBODY = "no-such-vm-8d1f"
COUNTERS = ("run_seconds", "wait_seconds", "runs", "faults", "operations")


class CoreHostContract:
    """Subclass, and give the fixtures; ``lender`` and ``borrower`` run, and want CPU time whenever ``work`` is called.

    Whatever a test sets it puts back, so that it can run on a real host.
    """

    @pytest.fixture
    def host(self) -> CoreHost:
        """The host under test, that watches nobody yet."""
        raise NotImplementedError

    @pytest.fixture
    def lender(self) -> Guest:
        """A guest that lends."""
        raise NotImplementedError

    @pytest.fixture
    def borrower(self) -> Guest:
        """A guest that borrows, and has no quota of its own."""
        raise NotImplementedError

    @pytest.fixture
    def gone(self) -> Guest:
        """A guest that has ended."""
        raise NotImplementedError

    @pytest.fixture
    def work(self) -> Callable[[], None]:
        """Lets both guests use some CPU time, and returns when the host must have noticed."""
        raise NotImplementedError

    @pytest.fixture
    def another_host(self, host: CoreHost) -> CoreHost:
        """The same host as another process has it, which has never watched anybody; where there is none, itself."""
        return host

    @pytest.fixture
    def watched(self, host: CoreHost, lender: Guest, borrower: Guest) -> CoreHost:
        """The host, watching both."""
        assert host.attach([lender, borrower]) == ()
        return host

    def test_the_smallest_limit_is_a_part_of_what_there_is(self, host: CoreHost) -> None:
        assert 0 < host.least_cores() <= 1.0
        assert host.total_cores() >= 1.0

    def test_nobody_is_watched_at_first(self, host: CoreHost) -> None:
        assert host.guests() == ()
        assert all(getattr(host.read(), name).shape == (0,) for name in COUNTERS)

    def test_arrays_are_in_the_order_of_guests(self, host: CoreHost, lender: Guest, borrower: Guest) -> None:
        for order in ([lender, borrower], [borrower, lender], [borrower]):
            host.attach(order)
            assert host.guests() == tuple(order)
            assert all(getattr(host.read(), name).shape == (len(order),) for name in COUNTERS)

    def test_counters_grow(self, watched: CoreHost, work: Callable[[], None]) -> None:
        before = watched.read()
        work()
        after = watched.read()
        assert after.at > before.at
        assert (after.run_seconds > before.run_seconds).all()
        assert (after.runs > before.runs).any()
        for name in COUNTERS:
            assert not (getattr(after, name) < getattr(before, name)).any(), name

    def test_a_reading_stays_as_it_was(self, watched: CoreHost, work: Callable[[], None]) -> None:
        seen = watched.read()
        kept = {name: getattr(seen, name).copy() for name in COUNTERS}
        work()
        watched.read()
        for name in COUNTERS:
            np.testing.assert_array_equal(getattr(seen, name), kept[name])

    def test_the_costly_counters_are_as_last_read(self, watched: CoreHost, work: Callable[[], None]) -> None:
        before = watched.read()
        work()
        after = watched.read(all_counters=False)
        np.testing.assert_array_equal(after.faults, before.faults)
        np.testing.assert_array_equal(after.operations, before.operations)
        assert (after.run_seconds > before.run_seconds).all()

    def test_watching_on_does_not_set_counters_back(
        self, watched: CoreHost, lender: Guest, borrower: Guest, work: Callable[[], None]
    ) -> None:
        work()
        before = watched.read()
        watched.attach([lender])
        assert watched.read().run_seconds[0] >= before.run_seconds[0]
        watched.attach([borrower, lender])
        after = watched.read()
        assert (after.run_seconds >= before.run_seconds[::-1]).all()
        assert after.wait_seconds[1] >= before.wait_seconds[0]

    def test_a_guest_that_is_gone_is_refused(self, host: CoreHost, lender: Guest, gone: Guest) -> None:
        (refusal,) = host.attach([gone, lender])
        assert refusal.vm_id == gone.vm_id
        assert refusal.reason
        assert lender in host.guests()

    def test_a_limit_shows_in_the_settings(self, watched: CoreHost, borrower: Guest) -> None:
        settings = watched.settings(borrower.vm_id)
        seen = []
        try:
            for cores in (0.5, 0.25, 0.25):
                assert watched.limit({borrower.vm_id: cores}) == ()
                seen.append(watched.settings(borrower.vm_id).values)
        finally:
            assert watched.put_back(settings) == ""
        assert seen[0] != settings.values
        assert seen[1] != seen[0]
        assert seen[2] == seen[1]

    def test_a_borrower_is_slowed_down_and_never_stopped(self, watched: CoreHost, borrower: Guest) -> None:
        settings = watched.settings(borrower.vm_id)
        try:
            watched.limit({borrower.vm_id: watched.least_cores()})
            least = watched.settings(borrower.vm_id)
            assert watched.limit({borrower.vm_id: 0.0}) == ()
            assert watched.settings(borrower.vm_id) == least
        finally:
            watched.put_back(settings)

    def test_what_cannot_be_is_refused_with_a_reason(self, watched: CoreHost, lender: Guest, borrower: Guest) -> None:
        settings = watched.settings(borrower.vm_id)
        try:
            refused = watched.limit({NOBODY: 1.0, lender.vm_id: 1.0, borrower.vm_id: 0.5})
            assert [refusal.vm_id for refusal in refused] == [NOBODY, lender.vm_id]
            assert all(refusal.reason for refusal in refused)
            half = watched.settings(borrower.vm_id)
            assert half.values != settings.values, "who can be limited is, whatever becomes of the others"
            for wrong in (math.nan, -1.0):
                (refusal,) = watched.limit({borrower.vm_id: wrong})
                assert refusal.reason
            assert watched.settings(borrower.vm_id) == half
            assert watched.make_way(NOBODY)
            assert watched.make_way(lender.vm_id)
            assert watched.limit({}) == ()
        finally:
            watched.put_back(settings)

    def test_an_unknown_guest_has_no_settings(self, watched: CoreHost) -> None:
        with pytest.raises(HypervisorError, match=NOBODY):
            watched.settings(NOBODY)

    def test_making_way_is_safe_to_repeat_and_put_back(self, watched: CoreHost, borrower: Guest) -> None:
        settings = watched.settings(borrower.vm_id)
        try:
            assert watched.make_way(borrower.vm_id) == ""
            behind = watched.settings(borrower.vm_id)
            assert behind.values != settings.values
            assert watched.make_way(borrower.vm_id) == ""
            assert watched.settings(borrower.vm_id) == behind
        finally:
            watched.put_back(settings)
        assert watched.settings(borrower.vm_id) == settings

    def test_settings_are_plain_values_that_stay_the_same(self, watched: CoreHost, borrower: Guest) -> None:
        settings = watched.settings(borrower.vm_id)
        assert (settings.vm_id, settings.incarnation) == (borrower.vm_id, borrower.incarnation)
        assert json.loads(json.dumps(dict(settings.values))) == dict(settings.values)
        assert watched.settings(borrower.vm_id) == settings

    def test_all_is_put_back_by_one_who_knows_only_what_was_kept(
        self, watched: CoreHost, another_host: CoreHost, borrower: Guest
    ) -> None:
        settings = watched.settings(borrower.vm_id)
        assert watched.put_back(settings) == ""
        watched.make_way(borrower.vm_id)
        watched.limit({borrower.vm_id: 0.25})
        kept = json.loads(json.dumps(dict(settings.values)))
        for _ in range(2):
            assert another_host.put_back(VmSettings(settings.vm_id, settings.incarnation, kept)) == ""
            assert watched.settings(borrower.vm_id) == settings

    def test_a_limit_can_be_set_again_after_it_was_put_back(self, watched: CoreHost, borrower: Guest) -> None:
        settings = watched.settings(borrower.vm_id)
        try:
            watched.limit({borrower.vm_id: 0.25})
            limited = watched.settings(borrower.vm_id)
            watched.put_back(settings)
            assert watched.limit({borrower.vm_id: 0.25}) == ()
            assert watched.settings(borrower.vm_id) == limited
        finally:
            watched.put_back(settings)

    def test_settings_of_another_run_are_not_put_back(self, watched: CoreHost, borrower: Guest) -> None:
        settings = watched.settings(borrower.vm_id)
        try:
            watched.limit({borrower.vm_id: 0.25})
            limited = watched.settings(borrower.vm_id)
            assert watched.put_back(replace(settings, incarnation="another")) == ""
            assert watched.settings(borrower.vm_id) == limited
        finally:
            watched.put_back(settings)

    def test_a_part_may_change(self, watched: CoreHost, lender: Guest, borrower: Guest) -> None:
        lends = replace(borrower, part=Part.LENDER)
        assert watched.attach([lender, lends]) == ()
        assert [refusal.vm_id for refusal in watched.limit({borrower.vm_id: 0.5})] == [borrower.vm_id]
        assert watched.attach([lender, borrower]) == ()
        settings = watched.settings(borrower.vm_id)
        assert watched.limit({borrower.vm_id: 0.5}) == ()
        assert watched.put_back(settings) == ""

    def test_closing_twice_is_harmless(self, watched: CoreHost) -> None:
        watched.close()
        watched.close()
        assert watched.guests() == ()
