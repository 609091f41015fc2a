"""Whatever happens: no change without a kept original, no floor crossed, no pool overdrawn, and all of it undone."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from live_host import CPU, MEMORY, SETTINGS, STEP, LiveHost, small_trace

from forestall.ports.hypervisor import Inventory

STEPS = 400
TRACE = small_trace(5, STEPS)
LIMIT = {CPU: float(TRACE.limit[CPU][0, 0]), MEMORY: float(TRACE.limit[MEMORY][0, 0])}
CAPACITY = 3.0 * LIMIT[CPU]


class Life(RuleBasedStateMachine):
    """A host and its daemon through good and bad times."""

    def __init__(self) -> None:
        super().__init__()
        self.live = LiveHost(trace=TRACE, inventory={CPU: Inventory(CAPACITY)})
        self.live.run(6)
        self.in_all = sum(self.live.held())
        self.connected = True
        self.latest = 0.0

    @rule(cycles=st.integers(1, 6))
    def cycles_pass(self, cycles: int) -> None:
        if self.live.clock.now() + (cycles + 8) * STEP < STEPS * STEP:
            before = sum(self.live.held()) if self.connected else 0.0
            self.live.run(cycles)
            # On a full disk nobody is limited who is not yet: whose leases ran out has everything meanwhile.
            if self.connected and not self.live.driver.view().fault and not self.live.originals.full:
                assert self.claimed() <= max(CAPACITY, before) * (1 + 1e-6)

    def claimed(self) -> float:
        """What counts in the pool: what is held; of a VM that an operator has restored, no more than it would get."""
        kept_back = set(self.live.driver.view().kept_back)
        wanted = {v.vm_id: v.wanted for v in self.live.driver.views() if v.resource is CPU and v.vm_id in kept_back}
        held = zip(self.live.host.vm_ids(), self.live.held(), strict=True)
        return sum(min(amount, wanted.get(vm_id, amount)) for vm_id, amount in held)

    @rule(actions=st.integers(1, 6))
    def actions_fail(self, actions: int) -> None:
        self.live.host.fail_next(actions)

    @rule()
    def contact_is_lost(self) -> None:
        self.live.host.lose_contact()
        self.connected = False

    @rule()
    def contact_is_regained(self) -> None:
        self.live.host.regain_contact()
        self.connected = True

    @rule(full=st.booleans())
    def disk_fills_up_or_is_freed(self, full: bool) -> None:
        self.live.originals.full = full

    @rule(seconds=st.sampled_from([-600, 120]))
    def clock_is_set(self, seconds: int) -> None:
        if self.live.clock.now() + seconds > 10 * STEP:
            self.latest = max(self.latest, self.live.clock.now())
            self.live.clock.set(self.live.clock.now() + seconds)

    @rule(vm=st.sampled_from(TRACE.vm_ids))
    def one_is_restored_by_hand(self, vm: str) -> None:
        result = self.live.driver.restore([vm])
        if not result.left and self.connected:
            assert vm not in self.live.lowered()

    @rule()
    def all_are_resumed(self) -> None:
        self.live.driver.resume()

    @rule()
    def daemon_dies_and_starts_again(self) -> None:
        self.live.new_driver()
        if self.connected:
            self.live.driver.start()

    @rule()
    def watchdog_puts_back(self) -> None:
        if self.connected:
            for entry in self.live.originals.kept():
                if all(o.result == "done" for o in self.live.host.put_back(entry)):
                    self.live.originals.forget(entry.vm_id)

    @invariant()
    def nothing_is_changed_without_a_kept_original(self) -> None:
        if self.connected:
            assert set(self.live.lowered()) <= set(self.live.originals.entries)

    @invariant()
    def no_floor_is_crossed(self) -> None:
        if self.connected:
            for resource, limit in LIMIT.items():
                floor = SETTINGS.arbiter.floor(resource, limit)
                assert min(self.live.held(resource)) >= floor * (1 - 1e-6)

    def teardown(self) -> None:
        """At the end all is as it was."""
        self.live.host.regain_contact()
        self.live.originals.full = False
        # A simulated host remembers by the clock what is in force when: what it was asked last comes last.
        self.live.clock.set(max(self.latest, self.live.clock.now()))
        assert self.live.driver.stop(60).left == ()
        assert not self.live.lowered()
        assert not self.live.originals.entries
        assert self.live.held() == [LIMIT[CPU]] * 5


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=15, stateful_step_count=25)
