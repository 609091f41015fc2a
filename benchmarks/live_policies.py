"""Forestall, static limits and a reactive policy, each on real guests of its own, at the same time on the same host.

Three labs of the same guests stand side by side. First nobody is limited for a while: Forestall observes, and the
static limits are sized by what was used. Then a run begins: one lab is Forestall's (``forestall run --mode enforce``,
the whole daemon), one has static limits, and one follows the last value with a margin, by the same adapter, at the same
cadence, with the same floors, steps and margins of the arbiter. With the next run the labs change hands, so that each
policy meets each lab, and the reactive policy's margin becomes the slack that Forestall has had, plus ``--spare``: at
nought the two are compared at the same cost, above it the reactive policy has more to keep its promises with. The labs'
days begin eight hours apart, for their peaks not to fall together.

Needs root and what the lab needs; see ``docs/evaluation.md``. Usage::

    python benchmarks/live_policies.py --minutes 20 --runs 3 --out out/live.parquet
    python benchmarks/live_scores.py out/live.parquet
"""

from __future__ import annotations

import argparse
import heapq
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from forestall.adapters.clock.system import SystemClock
from forestall.adapters.libvirt.host import LibvirtHost
from forestall.demand.arbiter import Arbiter, Standing, actions_of
from forestall.lab.guest_link import GuestLink
from forestall.lab.plan import Pace
from forestall.lab.site import Lab
from forestall.model.decision import Proposal
from forestall.model.mode import Mode
from forestall.model.resources import Resource
from forestall.ports.hypervisor import VmSettings
from forestall.settings import load_configuration

POLICIES = ("forestall", "static", "reactive")
RESOURCES = (Resource.CPU, Resource.MEMORY)
REPORT_SECONDS, BEFORE_SECONDS, HOURS_APART = 5.0, 0.5, 8.0
FORESTALL = (sys.executable, "-c", "import sys; from forestall.cli import main; sys.exit(main())")


@dataclass
class Site:
    """A lab, what is seen of it, and the daemon that looks after it."""

    lab: Lab
    host: LibvirtHost
    links: Mapping[str, GuestLink]
    epoch: float
    step_seconds: float
    originals: tuple[VmSettings, ...]
    daemon: subprocess.Popen[bytes] | None = None
    rows: list[dict[str, Any]] = field(default_factory=list)
    arbiter: Arbiter = field(default_factory=Arbiter)

    def look(self, run: int, policy: str) -> dict[tuple[str, Resource], float]:
        """Note what every guest used, held, and says; what it used, by guest and resource."""
        seen, throttled, at = self.host.observe(), self.host.throttled(), time.time()
        used: dict[tuple[str, Resource], float] = {}
        for guest, link in self.links.items():
            vm_id = self.lab.domain(guest)
            if vm_id not in seen.vm_ids:
                continue
            row, held, said = seen.vm_ids.index(vm_id), self.host.in_force(vm_id), link.latest()
            for k, resource in enumerate(RESOURCES):
                used[guest, resource] = float(seen.demand[row, k])
                self.rows.append(
                    {
                        "run": run,
                        "policy": policy,
                        "lab": self.lab.place.name,
                        "guest": guest,
                        "resource": resource.value,
                        "at": at,
                        "used": used[guest, resource],
                        "limit": float(seen.limit[row, k]),
                        "held": held[resource],
                        "throttled": throttled.get(vm_id, np.nan),
                        **_said(said),
                    }
                )
        return used

    def next_look(self, after: float) -> float:
        """The next instant at which a cycle of this lab's daemon is about to begin, seconds."""
        return after + (self.epoch - BEFORE_SECONDS - after) % self.step_seconds

    def start(self, mode: Mode) -> None:
        """Start the daemon on the lab's own settings, with all of its history."""
        command = (*FORESTALL, "run", "--config", str(self.lab.place.settings), "--mode", mode.value)
        with (self.lab.place.folder / "forestall.log").open("ab") as log:
            self.daemon = subprocess.Popen(self.lab.inside(*command), stdout=log, stderr=log)

    def stop(self) -> None:
        """Stop the daemon, which puts everything back; an error if it could not."""
        if self.daemon is None:
            return
        self.daemon.terminate()
        code, self.daemon = self.daemon.wait(120.0), None
        if code:
            raise SystemExit(f"the daemon of {self.lab.place.folder} ended with {code}: see forestall.log there")

    def newest(self) -> dict[tuple[str, Resource], dict[str, Any]]:
        """The rows of the last look."""
        return {(r["guest"], Resource(r["resource"])): r for r in self.rows[-len(self.links) * len(RESOURCES) :]}

    def follow(self, wanted: Mapping[tuple[str, Resource], float]) -> None:
        """Set guests to what a policy wants, within what the arbiter lets through."""
        verdicts, newest = [], self.newest()
        for (guest, resource), amount in wanted.items():
            vm_id, row = self.lab.domain(guest), newest[guest, resource]
            now = self.host.in_force(vm_id)[resource]
            capability = self.host.capabilities(vm_id)[resource]
            standing = Standing(Mode.ENFORCE, row["limit"], demand=row["used"], capability=capability)
            verdicts.append(self.arbiter.rule(Proposal(vm_id, resource, amount, now, "bench"), standing))
        backs, takes = actions_of(verdicts)
        self.host.apply(backs)
        self.host.apply(takes)
        self.host.follow_up()


def _said(report: Mapping[str, Any]) -> dict[str, float]:
    """What counts of a guest's report, as plain numbers."""
    pressure = {f"{kind}_stalled_seconds": p["some"]["total_seconds"] for kind, p in report["pressure"].items()}
    busy = sum(s for kind, s in report["cpu_seconds"].items() if kind not in ("idle", "iowait"))
    work = report["work"]
    return {
        "sequence": report["sequence"],
        "uptime_seconds": report["uptime_seconds"],
        "busy_seconds": busy,
        "available_bytes": report["memory_bytes"]["available"],
        "level": report["load"]["level"],
        "done": work["done"],
        "waiting": work["queue"],
        "latency_seconds": np.nan if work["latency_seconds"] is None else work["latency_seconds"],
        **pressure,
    }


@contextmanager
def sites(folder: Path, guests: Sequence[str], pace: Pace, budget: float) -> Iterator[list[Site]]:
    """Three labs with their guests up; nothing of them stays."""
    with ExitStack() as stack:
        found = []
        for k in range(len(POLICIES)):
            lab = stack.enter_context(Lab(folder / f"fs-bench-{k}"))
            hour = (pace.start_hour + k * HOURS_APART) % 24
            lab.up(tuple(guests), pace=Pace(pace.day_seconds, hour, pace.load_ratio, pace.report_seconds))
            settings = lab.place.settings
            settings.write_text(f"violation_budget = {budget}\n{settings.read_text()}")
            print(f"{lab.place.name}: {lab.uri}", flush=True)
            found.append(lab)
        for lab in found:
            lab.wait(300.0)
        yield [_site(lab, guests, stack) for lab in found]


def _site(lab: Lab, guests: Sequence[str], stack: ExitStack) -> Site:
    host = LibvirtHost(lab.uri, clock=SystemClock(), resources=RESOURCES)
    stack.callback(host.close)
    links = {guest: stack.enter_context(lab.link(guest)) for guest in guests}
    epoch, settings = json.loads(lab.place.record.read_text())["epoch"], load_configuration(lab.place.settings)
    step_seconds = settings.step_seconds / settings.time_lapse.pace
    originals = tuple(host.settings(lab.domain(guest)) for guest in guests)
    site = Site(lab, host, links, epoch, step_seconds, originals)
    stack.callback(site.stop)
    return site


def watch(
    all_sites: Sequence[Site], policies: Sequence[str], run: int, minutes: float, margin: Mapping[Resource, float]
) -> None:
    """Let time pass, looking at the end of each cycle; the reactive policy acts at each look, as Forestall's does then.

    What is in force at a look was so for the whole of the cycle that ends.
    """
    for site in all_sites:
        site.look(-1, "start")
    began = time.time()
    due = [(site.next_look(began), k) for k, site in enumerate(all_sites)]
    heapq.heapify(due)
    while due[0][0] < began + 60.0 * minutes:
        at, k = heapq.heappop(due)
        time.sleep(max(0.0, at - time.time()))
        used = all_sites[k].look(run, policies[k])
        if policies[k] == "reactive":
            all_sites[k].follow({(g, r): (1 + margin[r]) * u for (g, r), u in used.items() if np.isfinite(u)})
        if (daemon := all_sites[k].daemon) is not None and daemon.poll() is not None:
            raise SystemExit(f"the daemon of {all_sites[k].lab.place.folder} is gone: see forestall.log there")
        heapq.heappush(due, (all_sites[k].next_look(max(at, time.time()) + all_sites[k].step_seconds / 2), k))


def sized(site: Site, quantile: float, margin: float) -> dict[tuple[str, Resource], float]:
    """Static limits: a quantile of what was used while nobody was limited; memory with a margin for its cache."""
    limits = {}
    for guest in site.links:
        for resource in RESOURCES:
            used = [r["used"] for r in site.rows if r["run"] == 0 and (r["guest"], r["resource"]) == (guest, resource)]
            room = 1 + margin if resource is Resource.MEMORY else 1.0
            limits[guest, resource] = float(np.nanquantile(used, quantile)) * room
    return limits


def one_run(all_sites: Sequence[Site], run: int, margin: float, arguments: argparse.Namespace) -> None:
    """One run: hand the labs out, let time pass, put everything back."""
    policies = [POLICIES[(k + run - 1) % len(POLICIES)] for k in range(len(all_sites))]
    print(
        f"run {run}: {', '.join(f'{s.lab.place.name} {p}' for s, p in zip(all_sites, policies, strict=True))}"
        f"; reactive + {margin:.0%}",
        flush=True,
    )
    for site, policy in zip(all_sites, policies, strict=True):
        site.stop()
        site.start(Mode.ENFORCE if policy == "forestall" else Mode.OBSERVE)
        if policy == "static":
            for _ in range(40):  # memory goes in several bites
                site.follow(sized(site, arguments.static_quantile, arguments.memory_margin))
                time.sleep(0.2)
    watch(all_sites, policies, run, arguments.minutes, margins(margin, arguments))
    for site in all_sites:
        site.stop()
        for settings in site.originals:
            site.host.put_back(settings)


def margins(margin: float, arguments: argparse.Namespace) -> dict[Resource, float]:
    """Of the reactive policy over the last value."""
    return {Resource.CPU: margin, Resource.MEMORY: arguments.memory_margin}


def slack(rows: Sequence[Mapping[str, Any]], run: int) -> float:
    """What Forestall held of CPU beyond what was used, as a share of that, in a run after its first minute."""
    own = [r for r in rows if (r["run"], r["policy"], r["resource"]) == (run, "forestall", "cpu")]
    settled = min(r["at"] for r in own) + 60.0
    seen = np.array([(r["held"], r["used"]) for r in own if r["at"] > settled and np.isfinite(r["used"])])
    held, used = seen.sum(axis=0)
    return float(held / used - 1)


def main(arguments: argparse.Namespace) -> None:
    """Observe, run, and write every look down after each run."""
    pace = Pace(arguments.day, load_ratio=arguments.load, report_seconds=REPORT_SECONDS)
    with sites(arguments.folder, arguments.guests, pace, arguments.budget) as all_sites:
        for site in all_sites:
            site.start(Mode.OBSERVE)
        print("nobody is limited", flush=True)
        watch(all_sites, ["none"] * len(all_sites), 0, arguments.observe, margins(arguments.margin, arguments))
        margin = arguments.margin
        for run in range(1, arguments.runs + 1):
            one_run(all_sites, run, margin, arguments)
            rows = [row for site in all_sites for row in site.rows if row["run"] >= 0]
            arguments.out.parent.mkdir(parents=True, exist_ok=True)
            pa.parquet.write_table(pa.Table.from_pylist(rows), arguments.out, compression="zstd")
            print(f"{arguments.out}: rows: {len(rows)}", flush=True)
            margin = slack(rows, run) + arguments.spare


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=20.0, help="length of a run")
    parser.add_argument("--observe", type=float, default=20.0, help="minutes before the first run, nobody limited")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--day", type=float, default=600.0, help="length of the guests' day, seconds")
    parser.add_argument("--guests", nargs="+", default=["web", "database", "batch"], help="of each lab")
    parser.add_argument("--load", type=float, default=1.0, help="share of the guests' full work")
    parser.add_argument("--budget", type=float, default=0.01, help="violation budget of Forestall")
    parser.add_argument("--margin", type=float, default=0.6, help="of CPU, of the reactive policy in the first run")
    parser.add_argument("--spare", type=float, default=0.0, help="slack of the reactive policy above Forestall's")
    parser.add_argument("--static-quantile", type=float, default=0.99, help="of what was used, for static limits")
    parser.add_argument("--memory-margin", type=float, default=0.15, help="of memory, static and reactive")
    parser.add_argument("--folder", type=Path, default=Path("/run"), help="where the labs' folders go")
    parser.add_argument("--out", type=Path, required=True, help="Parquet file of every look")
    main(parser.parse_args())
