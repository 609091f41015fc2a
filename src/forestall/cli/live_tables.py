"""What a running system looks like in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from forestall.model.amounts import amount

if TYPE_CHECKING:
    from rich.table import Table

SHOWN_GROUPS, SHOWN_MEMBERS, SHOWN_PROTOCOLS = 5, 8, 3


def status_table(status: dict[str, Any]) -> Table:
    """The daemon in a few lines."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(show_header=False, title=escape(f"forestall {status['version']} on {status['connect']}"))
    mode = status["mode"] + (f" (asked for: {status['asked']})" if status["mode"] != status["asked"] else "")
    table.add_row("mode", escape(mode))
    if status["fault"]:
        table.add_row("fault", escape(status["fault"]))
    if status["lost"]:
        table.add_row("contact lost", escape(status["lost"]))
    took = f"{status['cycle_seconds']:.2f} s of {status['step_seconds']} s"
    table.add_row("cycles", f"{status['cycles']}, the last one took {took}; up {status['uptime_seconds']:.0f} s")
    table.add_row("VMs", f"{status['vms']}, changed: {len(status['altered'])}")
    if status["kept_back"]:
        table.add_row("restored by hand", escape(", ".join(status["kept_back"])))
    if status["expert_seconds"]:
        costs = sorted(status["expert_seconds"].items(), key=lambda item: -item[1])
        table.add_row("experts", escape(", ".join(f"{name} {1000 * seconds:.2g} ms" for name, seconds in costs)))
    for vm_id, kind in sorted(status["anomalies"].items()):
        table.add_row("anomaly", escape(f"{vm_id}: {kind} ({status['anomaly_scores'][vm_id]})"))
    for group in status["groups"][:SHOWN_GROUPS]:
        members = [
            f"{vm_id} (+{lag} s)" if lag else vm_id
            for vm_id, lag in zip(group["vm_ids"], group["lag_seconds"], strict=True)
        ]
        more = f", and {len(members) - SHOWN_MEMBERS} more" if len(members) > SHOWN_MEMBERS else ""
        told = f"{group['resource']}: {', '.join(members[:SHOWN_MEMBERS])}{more}"
        table.add_row("together", escape(f"{told}; correlation {group['correlation']:.2f}"))
    if status["lead_seconds"]:
        leads = sorted(status["lead_seconds"].items())
        table.add_row("lead times", escape(", ".join(f"{means} {seconds:.2g} s" for means, seconds in leads)))
    for pool in status["pools"]:
        kind = pool["resource"]
        parts = [f"{name.replace('_', ' ')} {amount(pool[name], kind)}" for name in ("demand", "allocated", "in_force")]
        over = "–" if pool["overload"] is None else f"{pool['overload']:.2g}"
        table.add_row(
            kind,
            f"{', '.join(parts)}, capacity {amount(pool['capacity'], kind)}, λ {pool['price']:.3g}, overload {over}",
        )
    for name, told in _cores(status.get("cores") or {}):
        table.add_row(name, escape(told))
    for name, told in (*_staging(status.get("staging") or {}), *_blocks(status.get("block_staging") or {})):
        table.add_row(name, escape(told))
    return table


def _blocks(staging: dict[str, Any]) -> list[tuple[str, str]]:
    """Blocks of disks that are staged; nothing where none is."""
    if not staging:
        return []
    vms, mib = len(staging["vms"]), staging["staged_bytes"] / 2**20
    lines = [("disks staged", f"{mib:.1f} MiB for {vms} VMs; {100 * staging['core_ratio']:.2f} % of a core")]
    return lines + [("disks not staged for", f"{vm_id}: {why}") for vm_id, why in staging["refusals"].items()]


def _staging(staging: dict[str, Any]) -> list[tuple[str, str]]:
    """What is staged, in a line; and for whom nothing can be."""
    if not staging:
        return []
    vms, mib = len(staging["vms"]), staging["staged_bytes"] / 2**20
    lines = [("memory staged", f"{mib:.1f} MiB for {vms} VMs; {100 * staging['core_ratio']:.2f} % of a core")]
    return lines + [("not staged for", f"{vm_id}: {why}") for vm_id, why in staging["refusals"].items()]


def _cores(cores: dict[str, Any]) -> list[tuple[str, str]]:
    """What the burst loop does, in lines; none where it does not run or has not spoken yet."""
    if not cores:
        return []
    loan, timing = cores["loan"], cores["timing"]
    pool = ", ".join(f"{name} {loan[name]:.2f}" for name in ("reserved", "lent", "free"))
    lines = [("cores lent", f"{pool}{'; ' if loan['reason'] else ''}{loan['reason']}")]
    limits = ", ".join(f"{vm_id} {limit:.2f}" for vm_id, limit in sorted(cores["limits"].items()))
    lines += [("borrowers", limits)] if limits else []
    middle, high = timing["tick_ms"]
    wake = "" if cores["wake_us"] is None else f", waking up takes {cores['wake_us']:.0f} µs"
    beats = f"{timing['ticks']} ticks, {timing['late']} late{' (too many now)' if timing['late_now'] else ''}"
    took = "" if middle is None else f", {middle:.2g} ms, 99 % within {high:.2g} ms"
    share = f"{timing['cpu_share']:.1%} of a core"
    lines.append(("burst loop", f"{beats}{took}, {share}; {cores['misses']} misses{wake}"))
    return lines + [("not touched", f"{vm_id}: {reason}") for vm_id, reason in sorted(cores["refusals"].items())]


def vms_table(vms: list[dict[str, Any]]) -> Table:
    """Every VM and resource in a line."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=box.SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in (
        "VM",
        "resource",
        "demand",
        "in force",
        "limit",
        "P50",
        "P95",
        "P99",
        "risk",
        "mode",
        "ruling",
        "why",
    ):
        right = heading in ("demand", "in force", "limit", "P50", "P95", "P99", "risk")
        table.add_column(heading, justify="right" if right else "left", no_wrap=heading != "why")
    for vm in vms:
        kind, quantiles = vm["resource"], vm["quantiles"]
        numbers = [vm["demand"], vm["in_force"], vm["limit"], *(quantiles.get(name) for name in ("p50", "p95", "p99"))]
        table.add_row(
            escape(vm["vm_id"]),
            kind,
            *(amount(number, kind) for number in numbers),
            "–" if vm["risk"] is None else f"{vm['risk']:.2g}",
            vm["mode"],
            vm["ruling"],
            escape(vm["reason"]),
        )
    return table


def guests_table(guests: list[dict[str, Any]]) -> Table:
    """The channel to each VM in a line."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=box.SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in ("VM", "agent", "windows/s", "last", "P50", "P99", "CPU", "memory", "lost", "dropped here"):
        left = heading in ("VM", "agent", "dropped here")
        table.add_column(heading, justify="left" if left else "right", no_wrap=heading != "dropped here")
    for guest in guests:
        trips = guest["round_trip_seconds"]
        cpu, age = guest["agent_cpu_cores"], guest["age_seconds"]
        table.add_row(
            escape(guest["vm_id"]),
            "speaks" if guest["speaking"] else "silent" if guest["connected"] else "no contact",
            f"{guest['windows_per_s']:.1f}",
            "–" if age is None else f"{age:.1f} s",
            *("–" if trip is None else f"{1000 * trip:.1f} ms" for trip in trips),
            "–" if cpu is None else f"{100 * cpu:.2f} %",
            amount(guest["agent_memory_bytes"], "memory"),
            str(guest["lost"]),
            escape(", ".join(f"{reason} {count}" for reason, count in sorted(guest["dropped"].items())) or "–"),
        )
    return table


def sequences_table(found: dict[str, Any]) -> Table:
    """Common sequences of a VM in a line each, and where it is now."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    def likely(soon: dict[str, float]) -> str:
        return escape(", ".join(f"{name} {probability:.2f}" for name, probability in soon.items()) or "–")

    table = Table(box=box.SIMPLE, padding=(0, 1, 0, 0), pad_edge=False, title=escape(found["vm_id"]))
    for heading in ("after", "seen", "cores, 0.5 s", "cores, 5 s", "within 0.5 s"):
        table.add_column(heading, justify="left" if heading in ("after", "within 0.5 s") else "right")
    for row in found["common"]:
        cores = (row["cpu_cores_in_half_a_second"], row["cpu_cores_in_five_seconds"])
        table.add_row(escape(row["after"]), str(row["seen"]), *(f"{c:.2f}" for c in cores), likely(row["soon"]))
    if now := found["now"]:
        table.add_section()
        table.add_row("now", "", f"{now['expected']['cpu_cores']:.2f}", "", likely(now["soon"]))
    return table


def patterns_table(found: dict[str, Any]) -> Table:
    """Patterns of a VM in a line each, the one that it is in marked, and what follows."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    now = found["now"]
    table = Table(box=box.SIMPLE, padding=(0, 1, 0, 0), pad_edge=False, title=escape(found["vm_id"]))
    for heading in ("pattern", "seen", "lasts", "cores", "reads", "writes", "receives", "sends"):
        table.add_column(heading, justify="right")
    for row in found["patterns"]:
        traffic = ("disk_read", "disk_write", "net_rx", "net_tx")
        table.add_row(
            f"{'* ' if row['number'] == now['number'] else ''}{row['number']}",
            str(row["seen"]),
            "–" if row["seconds"] is None else f"{row['seconds']:.0f} s",
            "–" if row["cpu_cores"] is None else f"{row['cpu_cores']:.2f}",
            *(amount(row[f"{kind}_bytes_per_s"], kind) for kind in traffic),
        )
    following = ", ".join(f"{number} ({probability:.2f})" for number, probability in now["following"][:3])
    table.caption = f"now {now['number']}, since {now['steps']} vectors; then usually {following or 'nothing known'}"
    return table


def profile_table(found: dict[str, Any], features: list[str]) -> Table:
    """Hours of the week that were seen, with the mean of some features."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=box.SIMPLE, padding=(0, 1, 0, 0), pad_edge=False, title=escape(found["vm_id"]))
    for heading in ("hour (UTC)", "vectors", *features):
        table.add_column(heading, justify="left" if heading == "hour (UTC)" else "right")
    for hour, seen in enumerate(found["vectors"]):
        if seen:
            day = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")[hour // 24]
            means = [found["mean"][name][hour] for name in features]
            table.add_row(f"{day} {hour % 24:02d}", str(seen), *("–" if m is None else f"{m:.4g}" for m in means))
    return table


def busiest_table(told: dict[str, Any]) -> Table:
    """The busiest processes and control groups of a VM."""
    from rich.markup import escape
    from rich.table import Table

    table = Table("", "name", "cores", "faults/s", "read", "written", title=escape(told["vm_id"]))
    for kind, rows in (("process", told["processes"]), ("control group", told["groups"])):
        for row in rows:
            bytes_per_s = [amount(row.get(f"{way}_bytes_per_s"), "disk") for way in ("read", "write")]
            cores, faults = (amount(row.get(name), "cpu") for name in ("cpu_cores", "faults_per_s"))
            table.add_row(kind, escape(str(row.get("name", ""))), cores, faults, *bytes_per_s)
    return table


def applications_table(rows: list[dict[str, Any]]) -> Table:
    """What runs in each VM."""
    from rich.markup import escape
    from rich.table import Table

    def told(claims: dict[str, float] | None) -> str:
        if claims is None:
            return "–"
        name, probability = max(claims.items(), key=lambda claim: claim[1])
        return f"{name} {probability:.2f}"

    table = Table("VM", "application", "by traffic", "by behaviour", "protocols", "rules take it for")
    for row in rows:
        protocols = sorted(row["protocols"].items(), key=lambda pair: -pair[1])[:SHOWN_PROTOCOLS]
        table.add_row(
            escape(row["vm_id"]),
            f"{row['application']} {row['probability']:.2f}",
            told(row["traffic"]),
            told(row["behaviour"]),
            escape(", ".join(name for name, _ in protocols)),
            escape(row["tag"] or ""),
        )
    return table


def applications_summary(rows: list[dict[str, Any]]) -> Table:
    """How many VMs of each trust group run what."""
    from rich.markup import escape
    from rich.table import Table

    table = Table("trust group", "application", "VMs", "mean probability")
    for row in rows:
        told = str(row["vms"]), f"{row['probability']:.2f}"
        table.add_row(escape(row["trust_group"] or "(none)"), row["application"], *told)
    return table
