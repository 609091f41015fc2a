"""Disks of VMs that are about to read much are held back by policies only, from the next cycle on."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from live_host import SETTINGS, STEP, LiveHost

from forestall.demand.policy import PolicySet, Rule, Terms
from forestall.model.resources import Resource
from forestall.model.samples import Grid, Trace

READ = Resource.DISK_READ
MIB = float(1 << 20)
WARM = 12


def reading(limit: float) -> Trace:
    """Two VMs that read 5 MiB/s or so."""
    shape = (60, 2)
    demand = MIB * np.random.default_rng(3).gamma(50.0, 0.1, shape)
    return Trace(Grid(0, STEP, 60), ("a", "b"), {READ: demand}, {READ: np.full(shape, limit)})


def live(limit: float = 100 * MIB, policies: PolicySet | None = None) -> LiveHost:
    return LiveHost(reading(limit), replace(SETTINGS, resources=(READ,)), policies=policies)


def test_a_vm_that_is_about_to_read_may_read_as_much_as_it_has_a_right_to() -> None:
    host = live().run(WARM)
    assert max(host.held(READ)) < 30 * MIB
    host.driver.foresee_reads(["a"])
    host.run()
    a, b = host.held(READ)
    assert a == pytest.approx(100 * MIB)
    assert b < 30 * MIB
    (decision,) = host.journal.explain("a")
    assert "for reads that are foreseen" in decision.reason
    host.driver.foresee_reads([])
    host.run(WARM)
    assert max(host.held(READ)) < 30 * MIB


def test_without_a_limit_of_its_own_it_is_not_held_back() -> None:
    host = live(math.inf).run(WARM)
    assert max(host.held(READ)) < 1000 * MIB
    host.driver.foresee_reads(["a"])
    host.run()
    a, b = host.held(READ)
    assert a > 10_000 * MIB
    assert b < 1000 * MIB


def test_a_policys_ceiling_holds() -> None:
    rule = Rule("slow", Terms(ceiling_bytes_per_s=20 * MIB), resources=(READ,))
    host = live(policies=PolicySet((rule,))).run(WARM)
    host.driver.foresee_reads(["a", "b", "gone"])
    host.run()
    assert host.held(READ) == pytest.approx([20 * MIB] * 2)
