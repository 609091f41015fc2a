"""Reads the facts of a host; where to look, and whom to ask, are arguments."""

from __future__ import annotations

import importlib.util
import os
import platform
import pwd
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from forestall.adapters.host_facts.cgroups import read_cgroups
from forestall.adapters.host_facts.facts import ClockFacts, HostFacts, StateFacts
from forestall.adapters.host_facts.kernel_clock import read_kernel_clock
from forestall.adapters.host_facts.libvirt_probe import DAEMONS, Connect, open_connection, probe_libvirt
from forestall.adapters.host_facts.roots import Roots, text_of
from forestall.adapters.host_facts.traffic_trial import try_traffic_control
from forestall.model.errors import StoreError

PACKAGES = {"libvirt-python": "libvirt", "pyroute2": "pyroute2"}
"""Python packages of the extra ``live``, and the modules by which they are recognised."""
_FAMILIES = ("debian", "fedora", "suse", "arch")


def has_module(name: str) -> bool:
    """Whether a Python module can be imported."""
    return importlib.util.find_spec(name) is not None


def problem_of_samples(url: str, step_seconds: int | None = None) -> str | None:
    """Why a PostgreSQL database cannot be used with a sampling step, empty if it can; None for no URL."""
    if not url:
        return None
    try:
        from forestall.adapters.postgresql.store import refuse_unfit
    except ImportError:
        return f"psycopg is not installed: {sys.executable} -m pip install 'forestall[postgresql]'"
    try:
        refuse_unfit(url, step_seconds)
    except StoreError as error:
        return str(error)
    return ""


def current_user() -> str:
    """Name of the user who asks, or their number where there is no name."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


@dataclass(frozen=True)
class FactReader:
    """Reads everything that the checks look at; nothing is changed.

    Attributes
    ----------
    roots
        Where the trees begin.
    connect, traffic_trial, kernel_clock, has_module, user, may_access
        How to reach libvirt, to try traffic control, to ask the kernel's clock, to find Python modules, who asks,
        and whether they may use a file.
    """

    roots: Roots = field(default_factory=Roots)
    connect: Connect = open_connection
    traffic_trial: Callable[[], str] = try_traffic_control
    kernel_clock: Callable[[], ClockFacts] = read_kernel_clock
    has_module: Callable[[str], bool] = has_module
    user: Callable[[], str] = current_user
    may_access: Callable[[Path, int], bool] = os.access
    system: str = field(default_factory=platform.system)

    def read(
        self,
        uri: str,
        state_folder: Path,
        configuration_problem: str = "",
        samples_url: str = "",
        step_seconds: int | None = None,
    ) -> HostFacts:
        """Read all facts for a libvirt URI, a state folder, and a database of samples (empty: none is set)."""
        roots = self.roots
        return HostFacts(
            system=self.system,
            release=text_of(roots.proc / "sys/kernel/osrelease").strip(),
            family=self._family(),
            user=self.user(),
            kvm_device=(roots.dev / "kvm").exists(),
            kvm_usable=self.may_access(roots.dev / "kvm", os.R_OK | os.W_OK),
            cpu_virtualisation=self._cpu_virtualisation(),
            libvirt=probe_libvirt(uri, roots.program(*DAEMONS), self.connect),
            cgroups=read_cgroups(roots),
            state=replace(self._state(state_folder), samples_problem=problem_of_samples(samples_url, step_seconds)),
            clock=self.kernel_clock(),
            packages={package: self.has_module(module) for package, module in PACKAGES.items()},
            pressure=bool(text_of(roots.proc / "pressure/cpu")),
            traffic_problem=self.traffic_trial(),
            openvswitch=self._openvswitch(),
            systemd=(roots.run / "systemd/system").is_dir(),
            damon=(roots.sys / "kernel/mm/damon/admin").is_dir(),
            configuration_problem=configuration_problem,
        )

    def _family(self) -> str:
        """Family of the distribution, from os-release(5)."""
        stated = text_of(self.roots.etc / "os-release")
        names = " ".join(re.findall(r"^ID(?:_LIKE)?=\"?([^\"\n]*)", stated, re.MULTILINE)).lower().split()
        plain = ["debian" if name == "ubuntu" else "fedora" if name in ("rhel", "centos") else name for name in names]
        return next((family for family in _FAMILIES if any(name.startswith(family) for name in plain)), "")

    def _cpu_virtualisation(self) -> bool | None:
        flags = re.search(r"^flags\s*:(.*)$", text_of(self.roots.proc / "cpuinfo"), re.MULTILINE)
        return None if flags is None else bool({"vmx", "svm"} & set(flags[1].split()))

    def _openvswitch(self) -> str:
        if (self.roots.run / "openvswitch/db.sock").exists():
            return "running"
        return "installed" if self.roots.program("ovs-vswitchd") else "absent"

    def _state(self, folder: Path) -> StateFacts:
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        return StateFacts(
            folder,
            writable=there.is_dir() and self.may_access(there, os.W_OK | os.X_OK),
            free_bytes=shutil.disk_usage(there).free,
            daemon=self._holder(folder / "lock"),
            store_holder=self._holder(folder / "forestall.duckdb"),
        )

    def _holder(self, path: Path) -> str:
        """Who holds a lock on a file, ``pid (command)``, as the kernel lists it; the lock itself is not touched."""
        try:
            inode = path.stat().st_ino
        except OSError:
            return ""
        found = re.search(rf"^\d+: \S+ +\S+ +\S+ +(\d+) \S+:{inode} ", self._locks(), re.MULTILINE)
        if found is None:
            return ""
        words = text_of(self.roots.proc / found[1] / "cmdline").replace("\0", " ").strip()
        return f"{found[1]} ({words[:80]})" if words else found[1]

    def _locks(self) -> str:
        return text_of(self.roots.proc / "locks")
