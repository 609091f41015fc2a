"""The contract over libvirt's own test driver: no guest, made-up numbers, hardly anything that can be moved."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip("libvirt", reason="libvirt-python is not installed")

from forestall.adapters.clock.system import SystemClock
from forestall.adapters.libvirt.host import LibvirtHost
from forestall.model.decision import Action, Result
from forestall.model.errors import HypervisorError
from forestall.model.resources import Resource
from forestall.ports.hypervisor import Hypervisor
from forestall.testing.hypervisor import HypervisorContract

CPU, MEMORY = Resource.CPU, Resource.MEMORY
GIB = 1024**3


@pytest.fixture
def host() -> Iterator[LibvirtHost]:
    host = LibvirtHost("test:///default", clock=SystemClock(), resources=tuple(Resource), disk=True, network=True)
    yield host
    # The driver lives as long as its last connection: close ours, and the next test starts with a fresh one.
    host.close()


class TestLibvirtTestDriver(HypervisorContract):
    @pytest.fixture
    def hypervisor(self, host: LibvirtHost) -> Hypervisor:
        host.observe()
        return host


def test_what_the_driver_lacks_is_refused_with_its_reason(host: LibvirtHost) -> None:
    capabilities = host.capabilities("test")
    assert capabilities[MEMORY].refusal == ""
    for resource in set(Resource) - {MEMORY}:
        assert "test driver" in capabilities[resource].refusal
    (outcome,) = host.apply([Action("test", CPU, 1.0)])
    assert (outcome.result, outcome.read_back) == (Result.REFUSED, 2.0)
    assert outcome.reason == capabilities[CPU].refusal


def test_limits_are_those_of_the_definition(host: LibvirtHost) -> None:
    seen = host.observe()
    limit = dict(zip(host.resources(), seen.limit[seen.vm_ids.index("test")], strict=True))
    assert (limit[CPU], limit[MEMORY]) == (2.0, 8 * GIB)
    assert all(math.isinf(limit[r]) for r in set(Resource) - {CPU, MEMORY})


def test_the_first_observation_has_no_rates(host: LibvirtHost) -> None:
    first, second = host.observe(), host.observe()
    cpu, memory = (host.resources().index(r) for r in (CPU, MEMORY))
    assert np.isnan(first.demand[0, cpu])
    assert first.demand[0, memory] == GIB
    # The driver's CPU time is the time of day.
    assert second.demand[0, cpu] == pytest.approx(1.0, abs=0.5)


def test_nobody_to_reach_is_an_error_of_ours() -> None:
    host = LibvirtHost("qemu+unix:///system?socket=/nonexistent/socket", clock=SystemClock())
    with pytest.raises(HypervisorError, match="cannot reach qemu\\+unix"):
        host.vm_ids()


def test_a_closed_host_says_so(host: LibvirtHost) -> None:
    host.close()
    with pytest.raises(HypervisorError, match="was closed"):
        host.vm_ids()


def test_libvirt_prints_nothing(host: LibvirtHost, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(HypervisorError):
        host.in_force("nobody")
    host.capabilities("test")
    assert capfd.readouterr().err == ""
