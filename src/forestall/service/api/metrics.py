"""``/metrics`` for Prometheus: what the loop sees, decides and costs, for each host and VM that the token may see."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from fastapi import APIRouter, Request, Response
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from forestall.model.mode import Mode
from forestall.ports.job_book import Job, JobState
from forestall.service.api.asking import AT_THE_DOOR, Here, Viewer
from forestall.service.api.documents import Host, Vm
from forestall.service.api.problems import answers

UNITS = {"cores": "cores", "bytes": "bytes", "bytes_per_s": "bytes_per_second"}
QUANTILES = {"p50": "0.5", "p95": "0.95", "p99": "0.99"}
POOL_AMOUNTS = {
    "capacity": "What may be allocated in all.",
    "in_force": "What the VMs of a host hold together.",
    "demand": "What they demand together.",
    "allocated": "What the loop would give them together.",
}
VM_AMOUNTS = {
    "demand": "Demand as it is taken to be.",
    "in_force": "What a VM holds.",
    "limit": "What a VM is provisioned with.",
    "wanted": "What the loop would give.",
}
_RESOURCE = ["host", "resource"]
_VM = ["host", "vm", "resource"]
routes = APIRouter(responses=answers(*AT_THE_DOOR))


@routes.get("/metrics", tags=["service"], response_class=Response)
def metrics(caller: Viewer, site: Here, request: Request) -> Response:
    """Metrics in the text format of Prometheus, or as OpenMetrics where that is asked for."""
    registry = CollectorRegistry(auto_describe=False)
    jobs = request.app.state.jobs.views() if caller.groups is None else None
    registry.register(Told(site.hosts(caller), site.vms(caller), jobs))
    encode, kind = choose_encoder(request.headers.get("accept", ""))
    return Response(encode(registry), media_type=kind)


@dataclass(frozen=True, eq=False)
class Told(Collector):
    """What whoever asks may see, as metrics; ``jobs`` None: they may not know of them."""

    hosts: list[Host]
    vms: list[Vm]
    jobs: Sequence[Job] | None

    def collect(self) -> Iterable[Metric]:
        """Every family, with a sample for what is known."""
        yield from self._loops()
        yield from self._pools()
        yield from self._vms()
        if self.jobs is not None:
            jobs = GaugeMetricFamily("forestall_jobs", "Dry runs and replays that are kept.", labels=["state"])
            for state in JobState:
                jobs.add_metric([state.value], sum(job.state is state for job in self.jobs))
            yield jobs

    def _loops(self) -> Iterator[Metric]:
        """The loop of each host."""
        mode = GaugeMetricFamily("forestall_mode", "1 for the mode that holds now.", labels=["host", "mode"])
        fault = GaugeMetricFamily("forestall_fault", "1 while nothing is changed because of a fault.", labels=["host"])
        lost = GaugeMetricFamily("forestall_contact_lost", "1 while the hypervisor does not answer.", labels=["host"])
        cycles = CounterMetricFamily("forestall_cycles", "Turns of the loop since it started.", labels=["host"])
        took = GaugeMetricFamily("forestall_cycle_duration_seconds", "What the last turn took.", labels=["host"])
        newest = GaugeMetricFamily(
            "forestall_newest_interval_timestamp_seconds", "Start of the newest interval.", labels=["host"]
        )
        vms = GaugeMetricFamily("forestall_vms", "VMs that run.", labels=["host"])
        policy = GaugeMetricFamily("forestall_policy_version", "Of the policies in force.", labels=["host"])
        for host in self.hosts:
            for each in Mode:
                mode.add_metric([host.name, each.value], float(host.mode is each))
            fault.add_metric([host.name], float(bool(host.fault)))
            lost.add_metric([host.name], float(bool(host.lost)))
            cycles.add_metric([host.name], host.cycles)
            _add(took, [host.name], host.cycle_seconds)
            _add(newest, [host.name], host.last_at)
            vms.add_metric([host.name], host.vms)
            policy.add_metric([host.name], host.policy_version)
        yield from (mode, fault, lost, cycles, took, newest, vms, policy)

    def _pools(self) -> Iterator[Metric]:
        amounts = _families("forestall_host", POOL_AMOUNTS, _RESOURCE)
        price = GaugeMetricFamily(
            "forestall_host_price", "λ: the chance of falling short that VMs share.", labels=_RESOURCE
        )
        overload = GaugeMetricFamily(
            "forestall_host_overload_probability", "That VMs demand more than there is.", labels=_RESOURCE
        )
        for host in self.hosts:
            for pool in host.pools:
                labels = [host.name, pool.resource.value]
                for name in POOL_AMOUNTS:
                    _add(amounts[name, pool.unit], labels, getattr(pool, name))
                _add(price, labels, pool.price)
                _add(overload, labels, pool.overload)
        yield from (*amounts.values(), price, overload)

    def _vms(self) -> Iterator[Metric]:
        amounts = _families("forestall_vm", VM_AMOUNTS, _VM)
        forecast = _families("forestall_vm", {"forecast": "Quantiles of what was decided on."}, [*_VM, "quantile"])
        risk = GaugeMetricFamily(
            "forestall_vm_risk_probability", "That demand exceeds the limit within the horizon.", labels=_VM
        )
        altered = GaugeMetricFamily(
            "forestall_vm_altered", "1 for a VM that may not be as it was.", labels=["host", "vm"]
        )
        for vm in self.vms:
            for each in vm.resources:
                labels = [vm.host, vm.name, each.resource.value]
                for name in VM_AMOUNTS:
                    _add(amounts[name, each.unit], labels, getattr(each, name))
                for name, level in QUANTILES.items():
                    _add(forecast["forecast", each.unit], [*labels, level], each.quantiles.get(name))
                _add(risk, labels, each.risk)
            altered.add_metric([vm.host, vm.name], float(any(each.altered for each in vm.resources)))
        yield from (*amounts.values(), *forecast.values(), risk, altered)


def _families(prefix: str, amounts: dict[str, str], labels: list[str]) -> dict[tuple[str, str], GaugeMetricFamily]:
    """A family for each amount and unit: a metric has one unit."""
    return {
        (name, unit): GaugeMetricFamily(f"{prefix}_{name}_{word}", what, labels=labels)
        for name, what in amounts.items()
        for unit, word in UNITS.items()
    }


def _add(family: GaugeMetricFamily, labels: list[str], value: float | None) -> None:
    """Add what is known."""
    if value is not None:
        family.add_metric(labels, value)
