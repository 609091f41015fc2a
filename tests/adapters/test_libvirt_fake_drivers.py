"""The adapter over made-up drivers: what a real guest here cannot show (KVM, Xen, ESX), and what ends badly."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("libvirt", reason="libvirt-python is not installed")

import libvirt
from fake_libvirt import FakeConnection, FakeDomain, refused

from forestall.adapters.clock.virtual import VirtualClock
from forestall.adapters.libvirt.cpu_quota import PERIOD_US
from forestall.adapters.libvirt.host import LibvirtHost
from forestall.adapters.libvirt.lead_times import ASSUMED_SECONDS, LeadTimes
from forestall.model.decision import Action, Result
from forestall.model.errors import HypervisorError, Unsupported
from forestall.model.resources import Resource
from forestall.ports.hypervisor import EventKind, Hypervisor, VmEvent
from forestall.testing.hypervisor import HypervisorContract

CPU, MEMORY, DISK_READ, NET_RX = Resource.CPU, Resource.MEMORY, Resource.DISK_READ, Resource.NET_RX
MIB = 1024 * 1024


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(1000.0)


@pytest.fixture
def a(clock: VirtualClock) -> FakeDomain:
    return FakeDomain("a", clock.monotonic)


@pytest.fixture
def b(clock: VirtualClock) -> FakeDomain:
    return FakeDomain("b", clock.monotonic, number=2)


def over(connection: FakeConnection, clock: VirtualClock, tmp_path: Path, **options: object) -> LibvirtHost:
    return LibvirtHost(
        "qemu:///system",
        clock=clock,
        resources=(CPU, MEMORY, DISK_READ),
        opener=lambda uri: connection,
        proc_root=tmp_path,
        disk=True,
        **options,  # type: ignore[arg-type]
    )


@pytest.fixture
def connection(a: FakeDomain, b: FakeDomain) -> FakeConnection:
    return FakeConnection("QEMU", [a, b])


@pytest.fixture
def host(connection: FakeConnection, clock: VirtualClock, tmp_path: Path) -> LibvirtHost:
    return over(connection, clock, tmp_path)


@pytest.mark.parametrize("resource", [CPU, MEMORY])
class TestFakeQemu(HypervisorContract):
    @pytest.fixture
    def hypervisor(
        self, connection: FakeConnection, clock: VirtualClock, tmp_path: Path, resource: Resource
    ) -> Hypervisor:
        host = LibvirtHost(
            "qemu:///system", clock=clock, resources=(resource,), opener=lambda uri: connection, proc_root=tmp_path
        )
        host.observe()
        clock.advance(10)
        return host

    @pytest.fixture
    def settle(self, clock: VirtualClock) -> Callable[[], None]:
        return lambda: clock.advance(3.0)


def test_rates_are_taken_between_two_readings(host: LibvirtHost, clock: VirtualClock) -> None:
    host.observe()
    clock.advance(10)
    seen = host.observe()
    assert seen.at == 1000
    np.testing.assert_allclose(seen.demand[:, :2], [[0.5, 512 * MIB]] * 2)
    assert math.isnan(host.throttled()["a"])


def test_a_vm_that_is_left_out_of_the_figures_has_a_gap(
    host: LibvirtHost, connection: FakeConnection, clock: VirtualClock, a: FakeDomain
) -> None:
    host.observe()
    connection.domains.remove(a)
    clock.advance(10)
    assert host.observe().vm_ids == ("b",)
    connection.domains.append(a)
    clock.advance(10)
    seen = host.observe()
    assert seen.vm_ids == ("b", "a")
    assert np.isnan(seen.demand[1, 0]), "nobody knows for how long it counted"
    assert seen.limit[1, 0] == 2.0


def test_vms_that_come_and_go_leave_nothing_behind(
    host: LibvirtHost, connection: FakeConnection, clock: VirtualClock
) -> None:
    for number in range(3, 40):
        connection.domains.append(FakeDomain(f"short-{number}", clock.monotonic, number=number))
        host.apply([Action(f"short-{number}", MEMORY, 512.0 * MIB)])
        host._heard(VmEvent(f"short-{number}", EventKind.BALLOON, clock.now()))
        clock.advance(10)
        assert host.observe().vm_ids == ("a", "b", f"short-{number}")
        del connection.domains[-1]
        host.follow_up()
    assert host.observe().vm_ids == ("a", "b")
    assert not host._actuation.pending._changed_at


def test_statistics_are_asked_for_and_no_longer_at_the_end(host: LibvirtHost, a: FakeDomain) -> None:
    host.observe()
    assert a.period == 1
    assert host.settings("a").values["memory"]["stats_period_seconds"] == 0
    host.close()
    assert a.period == 0


@pytest.mark.parametrize("driver", ["ESX", "LXC", "VBOX", "Hyper-V"])
def test_drivers_that_are_only_read_from(driver: str, a: FakeDomain, clock: VirtualClock, tmp_path: Path) -> None:
    host = over(FakeConnection(driver, [a], bulk=False), clock, tmp_path)
    host.observe()
    clock.advance(10)
    seen = host.observe()
    assert seen.demand[0, 0] == pytest.approx(1.0)
    assert seen.demand[0, 1] == 300 * MIB
    assert all(capability.refusal for capability in host.capabilities("a").values())
    (outcome,) = host.apply([Action("a", MEMORY, 512.0 * MIB)])
    assert outcome.result is Result.REFUSED
    assert a.balloon == []


def test_xen_has_a_balloon_and_nothing_else(a: FakeDomain, clock: VirtualClock, tmp_path: Path) -> None:
    dom0 = FakeDomain("Domain-0", clock.monotonic, number=0)
    host = over(FakeConnection("Xen", [dom0, a]), clock, tmp_path)
    assert host.vm_ids() == ("a",)
    assert host.observe().vm_ids == ("a",)
    refusals = {resource: capability.refusal for resource, capability in host.capabilities("a").items()}
    assert refusals[MEMORY] == ""
    assert "Xen" in refusals[CPU]
    assert "Xen" in refusals[DISK_READ]


def test_a_driver_that_nobody_tried(a: FakeDomain, clock: VirtualClock, tmp_path: Path) -> None:
    host = over(FakeConnection("CH", [a]), clock, tmp_path)
    assert host.capabilities("a")[CPU].refusal == "libvirt's driver CH was never tried"


def test_what_is_switched_off_is_refused(connection: FakeConnection, clock: VirtualClock, tmp_path: Path) -> None:
    host = over(connection, clock, tmp_path, cpu=False, memory="off")
    refusals = [capability.refusal for capability in host.capabilities("a").values()]
    assert refusals == ["moving cpu is switched off", "moving memory is switched off", ""]


def test_without_a_global_quota_each_vcpu_gets_its_part(host: LibvirtHost, a: FakeDomain) -> None:
    a.parameters = {"cpu_shares": 1024, "vcpu_quota": -1, "vcpu_period": 100_000}
    settings = host.settings("a")
    (outcome,) = host.apply([Action("a", CPU, 0.5)])
    assert (outcome.result, outcome.read_back) == (Result.DONE, 0.5)
    assert a.parameters["vcpu_quota"] == PERIOD_US // 4
    host.apply([Action("a", CPU, 2.0)])
    assert a.parameters["vcpu_quota"] == -1
    host.put_back(settings)
    assert a.parameters == {"cpu_shares": 1024, "vcpu_quota": -1, "vcpu_period": 100_000}


def test_another_quota_is_left_and_told(host: LibvirtHost, a: FakeDomain) -> None:
    a.parameters |= {"vcpu_quota": 25_000}
    assert host.in_force("a")[CPU] == 0.5
    (outcome,) = host.apply([Action("a", CPU, 1.0)])
    assert (outcome.result, outcome.read_back) == (Result.DONE, 0.5)
    assert outcome.reason == "another quota leaves 0.5 cores"
    assert (a.parameters["global_quota"], a.parameters["vcpu_quota"]) == (PERIOD_US, 25_000)


def test_no_quota_reads_as_minus_one_on_cgroup_version_2(host: LibvirtHost, a: FakeDomain) -> None:
    a.parameters |= {"global_quota": 18_446_744_073_709_551}
    assert host.in_force("a")[CPU] == 2.0
    settings = host.settings("a")
    assert settings.values["cpu"]["global_quota"] == -1
    host.apply([Action("a", CPU, 1.0)])
    host.put_back(settings)
    assert a.parameters["global_quota"] == -1


def test_the_least_quota_that_libvirt_takes(host: LibvirtHost, a: FakeDomain) -> None:
    (outcome,) = host.apply([Action("a", CPU, 0.0)])
    assert (outcome.result, outcome.read_back) == (Result.DONE, 0.01)
    assert a.parameters["global_quota"] == PERIOD_US // 100


def test_a_quota_that_is_not_in_force_is_a_failure(host: LibvirtHost, a: FakeDomain) -> None:
    a.setSchedulerParametersFlags = lambda changed, flags: 0  # type: ignore[method-assign]
    (outcome,) = host.apply([Action("a", CPU, 1.0)])
    assert (outcome.result, outcome.read_back) == (Result.FAILED, 2.0)
    assert outcome.reason == "1 was set, and 2 is in force"


def test_an_error_of_libvirt_is_in_the_outcome_in_one_line(host: LibvirtHost, a: FakeDomain) -> None:
    def fail(changed: object, flags: int) -> int:
        raise refused(libvirt.VIR_ERR_SYSTEM_ERROR, "Unable to write\nto cgroup")

    a.setSchedulerParametersFlags = fail  # type: ignore[method-assign]
    outcomes = host.apply([Action("a", CPU, 1.0), Action("b", CPU, 1.0)])
    assert [o.result for o in outcomes] == [Result.FAILED, Result.DONE]
    assert outcomes[0].reason == "cannot set the CPU quota of a: Unable to write to cgroup"


def test_memory_above_the_maximum_is_refused(host: LibvirtHost) -> None:
    (outcome,) = host.apply([Action("a", MEMORY, 2048.0 * MIB)])
    assert outcome.result is Result.REFUSED
    assert "more than the" in outcome.reason


def test_memory_beyond_what_the_host_has_is_refused(
    connection: FakeConnection, clock: VirtualClock, a: FakeDomain, tmp_path: Path
) -> None:
    host = over(connection, clock, tmp_path, reserved={MEMORY: (16 * 1024 - 1600) * MIB})
    a.kib = 512 * 1024
    (outcome,) = host.apply([Action("a", MEMORY, 640.0 * MIB)])
    assert outcome.result is Result.REFUSED
    assert outcome.reason.startswith("above inventory")
    outcomes = host.apply([Action("b", MEMORY, 512.0 * MIB), Action("a", MEMORY, 640.0 * MIB)])
    assert outcomes[0].result is Result.PENDING
    # What is on its way back counts as given back.
    assert outcomes[1].result is Result.PENDING


def test_vcpus_of_an_overcommitted_host_are_given_back(clock: VirtualClock, tmp_path: Path) -> None:
    domains = [FakeDomain(f"vm{i}", clock.monotonic, number=i + 1, vcpus_=4, max_vcpus=4) for i in range(3)]
    host = over(FakeConnection("QEMU", domains), clock, tmp_path)
    assert host.apply([Action("vm0", CPU, 1.0)])[0].result is Result.DONE
    assert host.apply([Action("vm0", CPU, 4.0)])[0].result is Result.DONE
    assert host.apply([Action("vm0", CPU, 9.0)])[0].result is Result.REFUSED


def test_a_guest_that_is_too_slow_fails_with_how_far_it_came(
    host: LibvirtHost, a: FakeDomain, clock: VirtualClock
) -> None:
    a.lag_seconds = 1000.0
    action = Action("a", MEMORY, 512.0 * MIB)
    assert host.apply([action])[0].result is Result.PENDING
    clock.advance(20)
    # Asked for the same again, it does not get more time.
    assert host.apply([action])[0].result is Result.PENDING
    assert host.follow_up() == []
    clock.advance(10)
    (outcome,) = host.follow_up()
    assert (outcome.result, outcome.read_back) == (Result.FAILED, 1024.0 * MIB)
    assert outcome.reason == "the guest gave back 0 of 512 MiB within 30 s"
    assert host.follow_up() == []


def test_a_vm_that_goes_while_it_follows_has_failed(host: LibvirtHost, connection: FakeConnection) -> None:
    host.apply([Action("a", MEMORY, 512.0 * MIB)])
    del connection.domains[0]
    (outcome,) = host.follow_up()
    assert (outcome.result, outcome.reason) == (Result.FAILED, "no VM named 'a' runs here")


def test_lead_times_are_measured(host: LibvirtHost, clock: VirtualClock) -> None:
    assert host.capabilities("a")[MEMORY].lead_seconds == ASSUMED_SECONDS["balloon"]
    host.apply([Action("a", MEMORY, 512.0 * MIB)])
    clock.advance(4)
    host.follow_up()
    assert host.capabilities("a")[MEMORY].lead_seconds == 4.0
    assert host.lead_seconds() == {"balloon": 4.0}


class Memory:
    """Lead times in memory; ``written`` says how often they were kept."""

    def __init__(self) -> None:
        self.seconds: Mapping[str, Sequence[float]] = {}
        self.written = 0

    def read(self) -> Mapping[str, Sequence[float]]:
        return self.seconds

    def write(self, seconds: Mapping[str, Sequence[float]]) -> None:
        self.seconds, self.written = seconds, self.written + 1


def test_lead_times_are_kept_from_one_process_to_the_next(
    connection: FakeConnection, clock: VirtualClock, tmp_path: Path
) -> None:
    memory = Memory()
    host = over(connection, clock, tmp_path, lead_times=LeadTimes(memory))
    host.follow_up()
    assert memory.written == 0, "nothing was measured"
    host.apply([Action("a", MEMORY, 512.0 * MIB)])
    clock.advance(4)
    host.follow_up()
    host.follow_up()
    host.close()
    assert (memory.seconds, memory.written) == ({"balloon": [4.0]}, 1), "once for each cycle that measured something"
    host = over(connection, clock, tmp_path, lead_times=LeadTimes(memory))
    assert host.capabilities("a")[MEMORY].lead_seconds == 4.0
    host.apply([Action("a", MEMORY, 768.0 * MIB), Action("a", CPU, 1.0)])
    clock.advance(6)
    host.follow_up()
    assert host.lead_seconds() == {"balloon": 5.0, "quota": 0.0}
    host.apply([Action("a", CPU, 1.5)])
    host.close()
    assert memory.seconds["quota"] == [0.0, 0.0], "what was measured last is kept at the end"


def test_the_balloon_is_asked_again_although_the_guest_has_not_moved(
    host: LibvirtHost, a: FakeDomain, clock: VirtualClock
) -> None:
    """What the balloon was asked for cannot be read: a guest that has not followed yet would do so later."""
    settings = host.settings("a")
    host.apply([Action("a", MEMORY, 512.0 * MIB)])
    assert host.put_back(settings) == []
    clock.advance(100)
    assert host.in_force("a")[MEMORY] == 1024 * MIB
    assert host.follow_up() == []


def test_vcpus_are_plugged_in_and_come_online(
    connection: FakeConnection, clock: VirtualClock, a: FakeDomain, tmp_path: Path
) -> None:
    host = over(connection, clock, tmp_path, hotplug=True)
    assert host.observe().limit[0, 0] == 4.0
    (outcome,) = host.apply([Action("a", CPU, 2.5)])
    assert (outcome.result, outcome.read_back, a.vcpus_) == (Result.PENDING, 2.5, 3)
    clock.advance(5)
    assert host.follow_up() == []
    a.asleep = False
    assert [o.result for o in host.follow_up()] == [Result.DONE]


def test_an_emulated_guest_is_given_no_vcpu(
    connection: FakeConnection, clock: VirtualClock, a: FakeDomain, tmp_path: Path
) -> None:
    a.kind = "qemu"
    host = over(connection, clock, tmp_path, hotplug=True)
    assert host.observe().limit[0, 0] == 2.0
    (outcome,) = host.apply([Action("a", CPU, 2.5)])
    assert (outcome.result, outcome.read_back, a.vcpus_) == (Result.DONE, 2.0, 2)
    assert "may crash QEMU without KVM" in outcome.reason


def test_a_guest_that_ignores_a_vcpu_is_told(connection: FakeConnection, clock: VirtualClock, tmp_path: Path) -> None:
    host = over(connection, clock, tmp_path, hotplug=True)
    host.apply([Action("a", CPU, 4.0)])
    clock.advance(30)
    (outcome,) = host.follow_up()
    assert outcome.reason == "the guest did not bring vCPU 2, 3 online within 30 s"


def test_a_vcpu_that_cannot_be_taken_out_is_held_down_by_a_quota(
    connection: FakeConnection, clock: VirtualClock, a: FakeDomain, tmp_path: Path
) -> None:
    host = over(connection, clock, tmp_path, hotplug=True)
    settings = host.settings("a")
    host.apply([Action("a", CPU, 4.0)])
    for _ in range(2):
        (outcome,) = host.put_back(settings)
        assert (outcome.result, outcome.read_back) == (Result.REFUSED, 2.0)
        assert "guest agent" in outcome.reason
        assert (a.vcpus_, a.parameters["global_quota"]) == (4, 2 * PERIOD_US)


def test_a_vcpu_is_taken_out_where_that_works(
    connection: FakeConnection, clock: VirtualClock, a: FakeDomain, tmp_path: Path
) -> None:
    host = over(connection, clock, tmp_path, hotplug=True)
    plain = a.XMLDesc
    agent = "<channel><target name='org.qemu.guest_agent.0' state='connected'/></channel></devices>"
    a.XMLDesc = lambda: plain().replace("</devices>", agent)  # type: ignore[method-assign]
    settings = host.settings("a")
    host.apply([Action("a", CPU, 4.0)])
    (outcome,) = host.put_back(settings)
    assert (outcome.result, outcome.read_back, a.vcpus_) == (Result.DONE, 2.0, 2)
    assert host.put_back(settings) == []
    host.apply([Action("a", CPU, 4.0)])
    a.kind = "qemu"
    (outcome,) = host.put_back(settings)
    assert (outcome.result, a.vcpus_, a.awake) == (Result.REFUSED, 4, 2)
    assert outcome.reason.startswith("taking a vCPU out crashes QEMU without KVM")
    assert outcome.reason.endswith("switched off in the guest")


def test_shares_follow_the_quota_and_are_put_back(
    connection: FakeConnection, clock: VirtualClock, a: FakeDomain, tmp_path: Path
) -> None:
    host = over(connection, clock, tmp_path, cpu_shares=True)
    settings = host.settings("a")
    host.apply([Action("a", CPU, 0.5)])
    assert (a.parameters["cpu_shares"], a.parameters["global_quota"]) == (256, PERIOD_US // 2)
    host.apply([Action("a", CPU, 1.0)])
    assert a.parameters["cpu_shares"] == 512
    host.apply([Action("a", CPU, 4.0)])
    assert a.parameters["cpu_shares"] == 1024, "never more than its own"
    host.apply([Action("a", CPU, 0.5)])
    assert [o.result for o in host.put_back(settings)] == [Result.DONE]
    assert a.parameters["cpu_shares"] == 1024
    assert host.put_back(settings) == []


def test_shares_that_were_moved_are_put_back_by_whom_may_not_move_them(
    connection: FakeConnection, clock: VirtualClock, a: FakeDomain, tmp_path: Path
) -> None:
    host = over(connection, clock, tmp_path, cpu_shares=True)
    settings = host.settings("a")
    host.apply([Action("a", CPU, 0.5)])
    over(connection, clock, tmp_path).put_back(settings)
    assert a.parameters["cpu_shares"] == 1024


def test_shares_are_left_alone_unless_asked_for(host: LibvirtHost, a: FakeDomain) -> None:
    settings = host.settings("a")
    host.apply([Action("a", CPU, 0.5)])
    assert a.parameters["cpu_shares"] == 1024
    a.parameters["cpu_shares"] = 300
    host.put_back(settings)
    assert a.parameters["cpu_shares"] == 300, "what an operator has set meanwhile stays"


def test_disk_limits_of_others_are_put_back_as_they_were(host: LibvirtHost, a: FakeDomain) -> None:
    a.tune |= {"read_bytes_sec": 5000, "group_name": "theirs"}
    assert "somebody else" in host.capabilities("a")[DISK_READ].refusal
    assert host.in_force("a")[DISK_READ] == 5000
    settings = host.settings("a")
    a.tune |= {"read_bytes_sec": 9000}
    assert [o.action for o in host.put_back(settings)] == [Action("a", DISK_READ, 5000.0)]
    assert a.tune == {"read_bytes_sec": 5000, "write_bytes_sec": 0, "group_name": "theirs"}


def test_a_disk_limit_comes_and_goes(host: LibvirtHost, a: FakeDomain) -> None:
    settings, free = host.settings("a"), dict(a.tune)
    (outcome,) = host.apply([Action("a", DISK_READ, 1e6)])
    assert (outcome.result, outcome.read_back) == (Result.DONE, 1e6)
    assert a.tune == {"read_bytes_sec": 1_000_000, "write_bytes_sec": 0, "group_name": "forestall"}
    assert [o.read_back for o in host.put_back(settings)] == [math.inf]
    assert a.tune == free
    host.apply([Action("a", DISK_READ, 1e6)])
    host.apply([Action("a", DISK_READ, math.inf)])
    assert a.tune == free


def test_contact_is_made_again_and_events_are_listened_to_anew(
    a: FakeDomain, clock: VirtualClock, tmp_path: Path
) -> None:
    opened: list[FakeConnection] = []

    def opener(uri: str) -> FakeConnection:
        opened.append(FakeConnection("QEMU", [a]))
        return opened[-1]

    host = LibvirtHost("qemu:///system", clock=clock, opener=opener, proc_root=tmp_path)
    host.observe()
    clock.advance(10)
    opened[0].alive = False
    assert host.observe().demand[0, 0] == pytest.approx(0.5)
    assert len(opened) == 2
    lifecycle = opened[1].callbacks[libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE]
    lifecycle(opened[1], a, libvirt.VIR_DOMAIN_EVENT_STOPPED, libvirt.VIR_DOMAIN_EVENT_STOPPED_MIGRATED, None)
    lifecycle(opened[1], a, libvirt.VIR_DOMAIN_EVENT_STARTED, libvirt.VIR_DOMAIN_EVENT_STARTED_BOOTED, None)
    opened[1].callbacks[libvirt.VIR_DOMAIN_EVENT_ID_BALLOON_CHANGE](opened[1], a, 1024, None)
    told = [(event.vm_id, event.kind, event.detail) for event in host.events()]
    assert told == [
        ("a", EventKind.MIGRATED, "migrated away"),
        ("a", EventKind.STARTED, "booted"),
        ("a", EventKind.BALLOON, "the guest has 1048576 bytes"),
    ]


def test_another_run_under_the_same_name_is_left_alone(host: LibvirtHost, a: FakeDomain) -> None:
    settings = host.settings("a")
    host.apply([Action("a", CPU, 1.0)])
    a.number = 3
    assert host.put_back(settings) == []
    assert host.settings("a").incarnation != settings.incarnation
    assert host.put_back(replace(settings, incarnation=host.settings("a").incarnation)) != []


def test_errors_are_of_our_tree(host: LibvirtHost, connection: FakeConnection) -> None:
    def fail(*_: object) -> None:
        raise refused(libvirt.VIR_ERR_OPERATION_DENIED, "operation forbidden: read only access")

    connection.listAllDomains = fail  # type: ignore[assignment, method-assign]
    with pytest.raises(Unsupported, match="cannot list the VMs: operation forbidden"):
        host.vm_ids()
    with pytest.raises(HypervisorError, match="no VM named 'nobody' runs here"):
        host.in_force("nobody")
