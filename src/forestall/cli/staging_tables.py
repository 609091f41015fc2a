"""Tables of trust groups and of what is staged for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.table import Table

SHOWN_VMS = 6
MIB = 1 << 20


def trust_groups_table(rows: list[dict[str, Any]]) -> Table:
    """Every trust group, and who is in it."""
    from rich.markup import escape
    from rich.table import Table

    table = Table("trust group", "VMs", "shadowing", "horizon")
    for row in rows:
        vms = row["vms"] or row["members"]
        shown = ", ".join(vms[:SHOWN_VMS]) + (f" and {len(vms) - SHOWN_VMS} more" if len(vms) > SHOWN_VMS else "")
        horizon = "as set" if row["horizon_seconds"] is None else f"{row['horizon_seconds']:g} s"
        told = "by the policy file" if row["by_policy"] and not vms else shown
        table.add_row(escape(row["group"]), escape(told), "on" if row["shadowing"] else "off", horizon)
    return table


def shadowing_table(status: dict[str, Any]) -> Table:
    """What staging memory has brought each trust group."""
    from rich.markup import escape
    from rich.table import Table

    table = Table("trust group", "VMs", "staged", "hits", "missed", "accuracy", "covered", "wasted", "saved")
    for name, row in status["groups"].items():
        table.add_row(
            escape(name),
            str(row["vms"]),
            f"{row['staged_bytes'] / MIB:.1f} MiB",
            str(row["hits"]),
            str(row["misses"]),
            _share(row["precision"]),
            _share(row["coverage"]),
            str(row["wasted"]),
            f"{row['faults_saved_seconds'] * 1e3:.1f} ms",
        )
    return table


def shadowing_lines(status: dict[str, Any]) -> Iterator[str]:
    """What it costs, and what could not be done."""
    share, most = status["staged_bytes"] / MIB, status["most_bytes"] / MIB
    held_back = f", held back for {status['held_back_seconds']:.0f} s" if status["held_back_seconds"] else ""
    yield f"staged {share:.1f} of at most {most:.0f} MiB; {100 * status['core_ratio']:.2f} % of a core{held_back}"
    for name, row in status["groups"].items():
        if row["stops"]:
            yield f"{name}: VMs stood still for {row['stood_seconds'] * 1e3:.1f} ms, {row['stops']} times, to give back"
        if not row["pays"]:
            yield f"{name}: staging does not pay; it is only followed what would come of it"
    if status["waiting"]:
        yield f"{status['waiting']} blocks wait to be staged"
    for reason, count in status["dropped"].items():
        yield f"{count} blocks were not staged: {reason}"
    used = sorted(status["used"].items(), key=lambda one: -one[1]["used_bytes"])
    for vm_id, row in used[:SHOWN_VMS]:
        amounts = f"{row['used_bytes'] / MIB:.0f} of {row['all_bytes'] / MIB:.0f} MiB"
        busiest = max(row["ranges"], key=lambda one: (one["share"], one["size_bytes"]), default=None)
        if busiest is None:
            yield f"{vm_id} has used {amounts} of its memory within {row['seconds']:.0f} s"
            continue
        place = f"{busiest['size_bytes'] / MIB:.0f} MiB from {busiest['offset_bytes'] / MIB:.0f} MiB on"
        where = f"most often {place}, in {100 * busiest['share']:.0f} % of looks"
        yield f"{vm_id} has used {amounts} of its memory of late, as far as DAMON sees; {where}"
    if len(used) > SHOWN_VMS:
        yield f"and {len(used) - SHOWN_VMS} VMs less: --json has all of them"
    for vm_id, reason in status["refusals"].items():
        yield f"{vm_id} is not staged for: {reason}"


def blocks_table(status: dict[str, Any]) -> Table:
    """What bringing blocks of disks into the page cache has brought each trust group."""
    from rich.markup import escape
    from rich.table import Table

    table = Table("trust group", "VMs", "disks: staged", "there", "late", "missed", "accuracy", "covered", "wasted")
    for name, row in status["groups"].items():
        counts = (str(row[key]) for key in ("hits", "late", "misses"))
        shares = (_share(row["precision"]), _share(row["coverage"]))
        staged = f"{row['staged_bytes'] / MIB:.1f} MiB"
        table.add_row(escape(name), str(row["vms"]), staged, *counts, *shares, str(row["wasted"]))
    return table


def blocks_lines(status: dict[str, Any]) -> Iterator[str]:
    """What that costs, and what could not be done."""
    staged, most = status["staged_bytes"] / MIB, status["most_bytes"] / MIB
    held_back = f", held back for {status['held_back_seconds']:.0f} s" if status["held_back_seconds"] else ""
    share = f"{100 * status['core_ratio']:.2f} % of a core{held_back}"
    yield f"disks: {staged:.1f} of at most {most:.0f} MiB wait to be read; {share}"
    for name, row in status["groups"].items():
        if row["threshold"] > 1:
            yield f"{name}: bringing blocks ahead does not pay now"
    for vm_id in status["resting"]:
        yield f"{vm_id}: its disks are not watched for a while: it asks more of them than can be looked at"
    if status["waiting"]:
        yield f"{status['waiting']} blocks of disks wait to be staged"
    for reason, count in status["dropped"].items():
        yield f"{count} blocks of disks were not staged: {reason}"
    for vm_id, reason in status["refusals"].items():
        yield f"disks of {vm_id} are not staged for: {reason}"


def preallocations_table(rows: list[dict[str, Any]]) -> Table:
    """What was asked for, and what has become of it."""
    from rich.markup import escape
    from rich.table import Table

    table = Table("request", "VM", "type", "program or file", "asked", "staged", "touched", "state", "why")
    for row in rows:
        amounts = (f"{row[key] / MIB:.1f} MiB" for key in ("size_bytes", "staged_bytes", "touched_bytes"))
        names = escape(row["vm_id"]), row["kind"], escape(row["program"] or row["place"])
        table.add_row(row["name"], *names, *amounts, row["state"], escape(row["why"]))
    return table


def _share(ratio: float | None) -> str:
    return "–" if ratio is None else f"{100 * ratio:.1f} %"
