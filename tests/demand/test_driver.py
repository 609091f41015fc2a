"""The live loop on a simulated host: what it changes, what it keeps, and when it lets go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from live_host import CPU, GIB, MEMORY, SETTINGS, STEP, LiveHost, small_trace

from forestall.demand.arbiter import ArbiterSettings
from forestall.demand.policy import PolicySet, Rule, Terms
from forestall.model.decision import Action, Decision, Outcome, Result, Ruling
from forestall.model.errors import StoreError
from forestall.model.mode import Mode
from forestall.ports.hypervisor import Capability, Inventory

WARM = 10


def test_enforce_gives_back_what_is_not_used_and_journals_why() -> None:
    live = LiveHost()
    live.run(2)
    assert live.held() == [4.0] * 4, "nothing is known yet"
    live.run(WARM)
    assert max(live.held()) < 3.0
    assert sorted(live.originals.entries) == live.lowered() == list(live.trace.vm_ids)
    (decision, _) = live.journal.explain("vm-1")
    assert decision.reason.endswith(("arbiter: set as proposed", "arbiter: in force already"))
    assert all(o.result is Result.DONE for o in live.journal.outcomes())


@pytest.mark.parametrize("mode", [Mode.OBSERVE, Mode.ADVISE])
def test_observe_and_advise_change_nothing(mode: Mode) -> None:
    live = LiveHost(settings=replace(SETTINGS, mode=mode)).run(WARM)
    assert live.held() == [4.0] * 4
    assert not live.originals.entries
    assert not list(live.journal.outcomes())
    last = live.journal.explain("vm-0")[0]
    assert last.ruling is Ruling.REJECTED
    wanted = {"observe": "arbiter: observe: as asked for", "advise": "arbiter: advise: would be set to"}[mode]
    assert wanted in last.reason


def test_only_canaries_and_chosen_vms_are_changed() -> None:
    live = LiveHost(settings=replace(SETTINGS, arbiter=ArbiterSettings(chosen=("vm-1", "vm-3")))).run(WARM)
    assert live.lowered() == ["vm-1", "vm-3"]
    canary = replace(SETTINGS, mode=Mode.CANARY, arbiter=ArbiterSettings(canary_share=0.5))
    live = LiveHost(trace=small_trace(12), settings=canary).run(WARM)
    assert 0 < len(live.lowered()) < 12


def test_memory_comes_down_in_bites() -> None:
    live = LiveHost()
    before = live.held(MEMORY)
    for _ in range(3 + WARM):
        live.run()
        now = live.held(MEMORY)
        assert all(b >= 0.9 * a * (1 - 1e-6) for a, b in zip(before, now, strict=True))
        before = now
    assert max(before) < 5 * GIB


def test_a_vm_without_a_sample_is_put_back_when_its_lease_runs_out() -> None:
    trace = small_trace()
    for values in trace.demand.values():
        values[WARM + 3 : WARM + 9, 2] = np.nan
    live = LiveHost(trace=trace).run(WARM + 3)
    assert "vm-2" in live.lowered()
    live.run(2)
    assert "vm-2" in live.lowered()
    live.run(2)
    assert "vm-2" not in live.lowered()
    assert "vm-2" not in live.originals.entries
    assert "vm-2: what it was given was not renewed within 180 s" in live.notes
    live.run(6)
    assert "vm-2" in live.lowered(), "once it is seen again it is changed again"


def test_lost_contact_drops_to_observe_and_everything_is_put_back_when_it_is_regained() -> None:
    live = LiveHost().run(WARM)
    live.host.lose_contact("libvirtd is away")
    live.run(4)
    assert live.driver.view().fault.startswith("the newest sample is")
    assert live.driver.view().lost == "libvirtd is away"
    live.host.regain_contact()
    assert live.lowered() == list(live.trace.vm_ids)
    live.run()
    assert not live.lowered()
    assert not live.originals.entries
    live.run(8)
    assert live.driver.view().fault == ""
    assert live.lowered(), "recovered"


def test_a_clock_that_jumps_drops_to_observe() -> None:
    live = LiveHost().run(WARM)
    live.clock.set(live.clock.now() + 7 * STEP)
    live.run()
    assert live.driver.view().fault == "the clock jumped by +420 s"
    assert not live.lowered()


def test_failed_actions_in_a_row_drop_to_observe() -> None:
    live = LiveHost().run(WARM)
    live.host.fail_next(5, "the monitor does not answer")
    for _ in range(40):
        live.run()
        if live.driver.view().fault:
            break
    assert live.driver.view().fault == "5 actions in a row failed"
    live.run(2)
    assert not live.lowered()


def test_crashes_start_in_observe() -> None:
    live = LiveHost(crashes_at=(0.0, 0.0, 0.0))
    live.clock.advance(1)
    live.new_driver()
    live.run(WARM)
    assert live.driver.view().fault == "3 unclean ends within the hour"
    assert not live.lowered()


def test_a_defect_of_the_loop_is_a_fault_and_not_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    live = LiveHost().run(WARM)
    assert live.lowered()

    def defect(*_: object) -> None:
        raise ZeroDivisionError("somewhere")

    with monkeypatch.context() as patch:
        patch.setattr(live.driver._planner, "step", defect)
        live.run(3)
    assert live.driver.view().fault == "3 cycles in a row could not be decided"
    assert "the cycle could not be decided: ZeroDivisionError: somewhere" in live.notes
    assert not live.lowered()
    live.run(7)
    assert live.driver.view().fault == ""


def test_a_full_disk_means_that_nothing_is_changed() -> None:
    live = LiveHost()
    live.originals.full = True
    live.run(WARM)
    assert not live.lowered()
    assert not list(live.journal.outcomes())
    assert "its settings cannot be kept: no space left on device" in live.journal.explain("vm-0")[0].reason
    live.originals.full = False
    live.run(3)
    assert live.lowered()


def test_what_cannot_be_written_down_is_not_done(monkeypatch: pytest.MonkeyPatch) -> None:
    live = LiveHost()
    record = live.journal.record

    def full(decisions: Sequence[Decision], *more: Any) -> None:
        if decisions:
            raise StoreError("no space left on device")
        record(decisions, *more)

    monkeypatch.setattr(live.journal, "record", full)
    live.run(WARM)
    assert not live.lowered()


def test_the_journal_tells_what_was_put_back_when_and_why() -> None:
    live = LiveHost().run(WARM)
    assert live.lowered()
    for vm_id, held in zip(live.host.vm_ids(), live.held(), strict=True):
        assert live.journal.explain(vm_id)[0].granted == pytest.approx(held)
        assert live.journal.aftermath(vm_id)[CPU].restored is None
    live.driver.restore(["vm-1"])
    live.driver.stop()
    told = {r.vm_id: r for r in live.journal.restorations()}
    assert told["vm-1"].why == "restored by hand"
    assert {r.why for r in told.values()} == {"restored by hand", "the daemon ends"}
    assert told["vm-1"].at == int(live.clock.now())
    for vm_id in told:
        assert live.journal.aftermath(vm_id)[CPU].restored == told[vm_id]


def test_restored_vms_are_left_alone_until_told_otherwise() -> None:
    live = LiveHost().run(WARM)
    result = live.driver.restore(["vm-1"])
    assert (result.done, result.left) == (("vm-1",), ())
    live.run(3)
    assert live.lowered() == ["vm-0", "vm-2", "vm-3"]
    assert "observe: restored by hand" in {v.reason.split("arbiter: ")[1] for v in live.driver.views()}
    assert live.driver.restore().left == ()
    live.run(3)
    assert not live.lowered()
    assert live.driver.resume() == live.trace.vm_ids
    live.run(3)
    assert live.lowered() == list(live.trace.vm_ids)


def test_stopping_puts_everything_back_even_if_it_fails_at_first() -> None:
    live = LiveHost().run(WARM)
    live.host.fail_next(3)
    assert live.driver.stop().left == ()
    assert not live.lowered()
    assert not live.originals.entries
    live = LiveHost(capabilities={CPU: Capability(0.0, 5.0)}).run(WARM)
    assert live.driver.stop().left == (), "slow actuators are waited for"
    assert live.held() == [4.0] * 4


def test_a_restart_puts_back_what_was_left_behind_and_starts_with_history() -> None:
    live = LiveHost().run(WARM)
    assert live.lowered()
    live.new_driver(mode=Mode.ADVISE)
    assert live.driver.start() >= WARM - 1
    assert not live.lowered()
    live.new_driver()
    live.driver.start()
    live.run(2)
    assert live.lowered(), "it is not cold: it knows them from the store"


def test_vms_that_stop_are_forgotten_and_new_ones_are_not_touched() -> None:
    trace = small_trace(5)
    for values in (*trace.demand.values(), *trace.limit.values()):
        values[20:, 1] = np.nan
        values[:20, 4] = np.nan
    live = LiveHost(trace=trace).run(19)
    assert "vm-1" in live.originals.entries
    live.run(2)
    assert "vm-1" not in live.originals.entries
    assert live.host.in_force("vm-4")[CPU] == 4.0
    live.run(6)
    assert live.host.in_force("vm-4")[CPU] < 4.0


def test_a_move_that_fails_because_its_vm_is_gone_is_no_change_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    trace = small_trace(5)
    for values in (*trace.demand.values(), *trace.limit.values()):
        values[20:, 1] = np.nan
    live = LiveHost(trace=trace).run(21)
    assert "vm-1" not in live.originals.entries
    late = [Outcome(Action("vm-1", MEMORY, GIB), Result.FAILED, None, "no VM named 'vm-1' runs here")]
    monkeypatch.setattr(live.host, "follow_up", lambda: [late.pop()] if late else [])
    live.run(1)
    told = live.journal.aftermath("vm-1")[MEMORY]
    assert told.outcome is not None
    assert told.outcome.result is Result.FAILED
    assert told.restored is not None


def test_a_watchdog_that_put_back_meanwhile_does_no_harm() -> None:
    live = LiveHost().run(WARM)
    originals = dict(live.originals.entries)
    for settings in originals.values():
        live.host.put_back(settings)
        live.originals.forget(settings.vm_id)
    live.run(2)
    assert live.originals.entries == {v: originals[v] for v in live.lowered()}
    live.driver.stop()
    assert live.held() == [4.0] * 4


def test_the_floor_of_a_policy_is_kept() -> None:
    policies = PolicySet((Rule("half", Terms(floor_ratio=0.5), vms=("vm-0",)),))
    live = LiveHost(policies=policies).run(WARM)
    assert live.host.in_force("vm-0")[CPU] >= 2.0
    assert live.host.in_force("vm-3")[CPU] < 2.0
    live.driver.set_policies(None)
    live.run(2)
    assert live.host.in_force("vm-0")[CPU] < 2.0


def test_the_cores_of_borrowers_are_left_to_the_burst_loop() -> None:
    live = LiveHost(policies=PolicySet(borrowers=("vm-1", "vm-3"))).run(40)
    views = {(view.vm_id, view.resource): view for view in live.driver.views()}
    for vm_id in ("vm-1", "vm-3"):
        assert "runs on cores that are lent" in views[vm_id, CPU].reason
        assert live.host.in_force(vm_id)[CPU] == 4.0
        assert views[vm_id, MEMORY].in_force < 8 * GIB
    assert live.host.in_force("vm-0")[CPU] < 4.0
    assert live.driver.policies is not None
    assert live.driver.may_act("vm-1")


def test_rules_take_vms_for_what_they_are_recognised_as_only_as_long_as_the_policy_allows_it() -> None:
    half = Rule("half", Terms(floor_ratio=0.5), applications=("web",))
    policies = PolicySet((half,), recognise_applications=0.9)
    live = LiveHost(policies=policies).run(WARM)
    assert live.driver.recognises_at == 0.9
    assert live.driver.recognise({"vm-0": "web", "vm-1": "batch"}) == {"vm-0": "web", "vm-1": "batch"}
    live.run(3)
    assert live.host.in_force("vm-0")[CPU] >= 2.0
    assert "half" in live.journal.explain("vm-0")[0].policies
    assert "half" not in live.journal.explain("vm-1")[0].policies
    stated = replace(policies, applications={"batch": ("vm-0",)})
    live.driver.set_policies(stated)
    live.run(3)
    assert "half" not in live.journal.explain("vm-0")[0].policies, "the operator says what it runs"
    live.driver.set_policies(policies)
    assert live.driver.recognise({"vm-0": "web"}) == {"vm-0": "web"}
    live.driver.set_policies(replace(policies, rules=(), recognise_applications=None))
    assert live.driver.recognise({"vm-0": "web"}) == {}
    assert live.driver.recognises_at is None
    assert LiveHost().driver.recognise({"vm-0": "web"}) == {}


def test_a_vm_at_its_cap_is_raised_within_a_few_cycles() -> None:
    trace = small_trace(2)
    trace.demand[CPU][30:, 0] = 3.9
    live = LiveHost(trace=trace).run(30)
    assert live.held()[0] < 2.5
    live.run(5)
    assert live.held()[0] >= 3.9
    assert any("seen at its cap" in d.reason for d in live.journal.decisions("vm-0"))


def test_a_tight_pool_is_shared_and_not_overdrawn() -> None:
    trace = small_trace(8)
    live = LiveHost(trace=trace, inventory={CPU: Inventory(12.0)}).run(20)
    for _ in range(40):
        live.run()
        assert sum(live.held()) <= 12.0 * (1 + 1e-6)
    (pool, _) = live.driver.view().pools
    assert (pool.capacity, pool.resource) == (12.0, CPU)


def test_intervals_that_nobody_saw_are_let_pass() -> None:
    live = LiveHost().run(WARM)
    live.clock.advance(4 * STEP)
    live.run()
    assert live.driver.view().last_at == int(live.clock.now()) - STEP
    assert live.driver._planner._loops[CPU].learner.window.count == WARM + 5


def test_not_every_repetition_is_recorded() -> None:
    trace = small_trace(2)
    trace.demand[CPU][:] = 1.0
    live = LiveHost(trace=trace).run(60)
    assert len([d for d in live.journal.decisions("vm-0") if d.resource is CPU]) < 25


def test_what_a_host_knows_of_throttling_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    live = LiveHost().run(WARM)
    monkeypatch.setattr(live.host, "throttled", lambda: {"vm-2": 0.95, "vm-1": 0.5}, raising=False)
    live.run()
    shown = {v.vm_id: v for v in live.driver.views() if v.resource is CPU}
    assert shown["vm-2"].demand > shown["vm-2"].seen
    assert "seen at its cap" in shown["vm-2"].reason
    assert shown["vm-1"].demand == shown["vm-1"].seen


def test_what_a_host_measures_of_its_lead_times_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    live = LiveHost()
    assert live.driver.view().lead_seconds == {}
    monkeypatch.setattr(live.host, "lead_seconds", lambda: {"balloon": 1.5}, raising=False)
    assert live.driver.view().lead_seconds == {"balloon": 1.5}
