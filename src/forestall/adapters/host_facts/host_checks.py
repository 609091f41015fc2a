"""Checks of the machine and its kernel: each takes the facts and says what they mean for Forestall."""

from __future__ import annotations

from forestall.adapters.host_facts.facts import HostFacts
from forestall.adapters.host_facts.finding import Finding, Status, install

_MIB, _GIB = 1 << 20, 1 << 30
_LITTLE_BYTES = 2 * _GIB


def check_kernel(facts: HostFacts) -> Finding:
    """Linux, and nothing else."""
    if facts.system != "Linux":
        why = "KVM, libvirt and traffic control are Linux"
        return Finding("kernel", Status.MISSING, f"{facts.system or 'an unknown system'}, not Linux", why, "", True)
    return Finding("kernel", Status.OK, f"Linux {facts.release}", needed=True)


def check_kvm(facts: HostFacts) -> Finding:
    """Hardware virtualisation, or guests that run slowly in software."""
    why = "guests run in software (TCG), many times slower; vCPUs are not unplugged there"
    if not facts.kvm_device:
        fix = "modprobe kvm_intel || modprobe kvm_amd, and switch VT-x or AMD-V on in the firmware"
        return Finding("kvm", Status.LIMITED, "/dev/kvm does not exist: TCG only", why, fix)
    if not facts.kvm_usable:
        fix = f"usermod -aG kvm {facts.user}, then log in again"
        return Finding("kvm", Status.LIMITED, f"/dev/kvm may not be opened by {facts.user}", why, fix)
    if facts.cpu_virtualisation is False:
        fix = "on a virtual machine: switch nested virtualisation on at its host"
        return Finding("kvm", Status.LIMITED, "/dev/kvm exists, but the processor shows neither vmx nor svm", why, fix)
    return Finding("kvm", Status.OK, "/dev/kvm can be used")


def check_cgroups(facts: HostFacts) -> Finding:
    """Control groups, by which libvirt limits a VM's CPU time."""
    groups = facts.cgroups
    whose = f"of the VM with pid {groups.vm_pid}" if groups.vm_pid else "of the host (no VM runs)"
    what = f"{groups.layout}; controllers {whose}: {', '.join(sorted(groups.controllers)) or 'none'}"
    why = "CPU quota is a limit of the controller cpu"
    if groups.layout == "none":
        return Finding("cgroups", Status.MISSING, "not mounted", why, "mount -t cgroup2 none /sys/fs/cgroup")
    if "cpu" not in groups.controllers:
        v2 = "echo +cpu > /sys/fs/cgroup/cgroup.subtree_control, then restart libvirtd"
        fix = v2 if groups.layout == "v2" else "add cpu to cgroup_controllers in /etc/libvirt/qemu.conf"
        return Finding("cgroups", Status.LIMITED, what, why, fix)
    return Finding("cgroups", Status.OK, what)


def check_lending(facts: HostFacts) -> Finding:
    """What lending idle cores needs: root, cpusets, and an idle class for control groups."""
    groups = facts.cgroups
    if facts.user != "root":
        why = "idle cores are not lent: limiting borrowers needs root"
        return Finding("core lending", Status.LIMITED, f"{facts.user} is not root", why, "run Forestall as root")
    if "cpu" not in groups.controllers:
        why = "idle cores are not lent: borrowers cannot be limited"
        return Finding("core lending", Status.LIMITED, "VMs have no control group for CPU time", why, "see cgroups")
    if "cpuset" not in groups.controllers:
        v2 = "echo +cpuset > /sys/fs/cgroup/cgroup.subtree_control"
        add = v2 if groups.layout == "v2" else "add cpuset to cgroup_controllers in /etc/libvirt/qemu.conf"
        fix = f"{add}, or lend parts of cores: whole_cores = false under [burst] in forestall.toml"
        why = "idle cores are not lent as whole ones"
        return Finding("core lending", Status.LIMITED, "VMs have no cpuset of their own", why, fix)
    if groups.idle_class is False:
        why = "borrowers only have the least weight: a lender that wakes up may wait a few milliseconds for its core"
        return Finding("core lending", Status.LIMITED, "groups have no cpu.idle", why, "use Linux 5.15 or later")
    what = "borrowers can be given whole cores" + (", in the idle class" if groups.idle_class else "")
    return Finding("core lending", Status.OK, what)


def check_pressure(facts: HostFacts) -> Finding:
    """Pressure stall information."""
    if facts.pressure:
        return Finding("pressure", Status.OK, "the kernel tells pressure (PSI)")
    why = "waiting for CPU, memory and disk cannot be told from idleness"
    return Finding("pressure", Status.LIMITED, "no /proc/pressure", why, "boot with psi=1 on the kernel command line")


def check_clock(facts: HostFacts) -> Finding:
    """A clock that does not jump."""
    why = "a clock that jumps makes gaps, and drops Forestall to observe"
    clock, fix = facts.clock, f"timedatectl set-ntp true, or {install('chrony', facts.family)}"
    if clock.synchronised is None:
        return Finding("clock", Status.LIMITED, "the kernel does not tell whether it is synchronised", why)
    if not clock.synchronised:
        return Finding("clock", Status.LIMITED, "is not synchronised", why, fix)
    return Finding("clock", Status.OK, f"synchronised, at most {clock.largest_error_seconds * 1000:.0f} ms off")


def check_systemd(facts: HostFacts) -> Finding:
    """Who starts Forestall, and puts VMs back when it died."""
    if facts.systemd:
        return Finding("systemd", Status.OK, "runs; units are in packaging/systemd")
    why = "nobody restarts Forestall, nor puts VMs back if it dies"
    fix = "start `forestall watchdog` beside `forestall run` with the supervisor of this host"
    return Finding("systemd", Status.LIMITED, "does not run", why, fix)


def check_damon(facts: HostFacts) -> Finding:
    """Access frequency of memory; only whether the kernel has it."""
    if facts.damon:
        return Finding("damon", Status.OK, "the kernel has its sysfs folder; not used yet, and not touched")
    return Finding("damon", Status.LIMITED, "no /sys/kernel/mm/damon/admin", "not used yet: nothing is lost")


def check_state(facts: HostFacts) -> Finding:
    """The state folder: without it nothing may be changed."""
    state, why = facts.state, "original settings are kept there before a VM is changed"
    if not state.writable:
        fix = f"install -d -m 0700 -o {facts.user} {state.folder}"
        return Finding("state folder", Status.MISSING, f"{state.folder} cannot be written", why, fix, True)
    what = f"{state.folder}, {state.free_bytes / _GIB:.1f} GiB free"
    if state.free_bytes < _LITTLE_BYTES:
        fix = "make room, or set state_folder in forestall.toml"
        return Finding("state folder", Status.LIMITED, what, "history grows by about 2.2 bytes a value", fix)
    return Finding("state folder", Status.OK, what, needed=True)


def check_store(facts: HostFacts) -> Finding:
    """The store, which one process owns."""
    state, why = facts.state, "one process owns the store; a second one cannot start"
    if state.daemon:
        return Finding("store", Status.OK, f"in use by Forestall itself, process {state.daemon}")
    if state.store_holder:
        pid = state.store_holder.partition(" ")[0]
        return Finding("store", Status.LIMITED, f"locked by process {state.store_holder}", why, f"end it: kill {pid}")
    return Finding("store", Status.OK, "free: no Forestall runs here")


def check_samples(facts: HostFacts) -> list[Finding]:
    """The database of samples, where one is set."""
    problem, why = facts.state.samples_problem, "Forestall does not start without it"
    if problem is None:
        return []
    if problem:
        fix = "see to the database, or correct [store] url in forestall.toml"
        return [Finding("samples", Status.MISSING, problem, why, fix, True)]
    return [Finding("samples", Status.OK, "PostgreSQL answers", needed=True)]


def check_configuration(facts: HostFacts) -> Finding:
    """``forestall.toml``."""
    if facts.configuration_problem:
        why = "Forestall does not start with it"
        return Finding("configuration", Status.MISSING, facts.configuration_problem, why, "correct that line", True)
    return Finding("configuration", Status.OK, "good; `forestall config show` prints what is in force", needed=True)
