"""All checks, in the order in which they are read."""

from __future__ import annotations

from collections.abc import Sequence

from forestall.adapters.host_facts import host_checks as host
from forestall.adapters.host_facts import live_checks as live
from forestall.adapters.host_facts.facts import HostFacts
from forestall.adapters.host_facts.finding import Finding, Status


def examine(facts: HostFacts) -> list[Finding]:
    """Judge the facts of a host."""
    return [
        host.check_kernel(facts),
        host.check_configuration(facts),
        *live.check_packages(facts),
        live.check_libvirt(facts),
        host.check_kvm(facts),
        *live.check_vms(facts),
        host.check_cgroups(facts),
        host.check_lending(facts),
        host.check_pressure(facts),
        live.check_traffic(facts),
        live.check_openvswitch(facts),
        host.check_state(facts),
        host.check_store(facts),
        *host.check_samples(facts),
        host.check_clock(facts),
        host.check_systemd(facts),
        host.check_damon(facts),
    ]


def can_observe(findings: Sequence[Finding]) -> bool:
    """Whether nothing is missing that even observing needs."""
    return not any(finding.needed and finding.status is Status.MISSING for finding in findings)
