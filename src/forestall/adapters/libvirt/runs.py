"""Which run of a VM it is, and which process of the host it is in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from forestall.adapters.libvirt.connection import Handle
from forestall.adapters.libvirt.sampling import run_name
from forestall.adapters.linux.proc import Processes


class Runs:
    """Processes of VMs, looked for until found, once for each run.

    Parameters
    ----------
    processes
        Of this host; None where the VMs run on another.
    """

    def __init__(self, processes: Processes | None) -> None:
        self._processes = processes
        self._process: dict[str, int] = {}

    def process(self, domain: Handle) -> int | None:
        """Process of a VM; None if none can be seen."""
        run = run_name(domain)
        return self.processes([run])[run]

    def processes(self, runs: Iterable[str]) -> Mapping[str, int | None]:
        """Process of each run, by the names that :func:`run_name` gives them."""
        wanted = tuple(runs)
        new = {run: run.partition("/")[0] for run in wanted if run not in self._process}
        if new:
            found = self._processes.of_vms(new.values()) if self._processes else {}
            self._process.update({run: found[uuid] for run, uuid in new.items() if uuid in found})
        return {run: self._process.get(run) for run in wanted}

    def keep(self, runs: Iterable[str]) -> None:
        """Forget all other runs."""
        kept = set(runs)
        self._process = {run: process for run, process in self._process.items() if run in kept}

    def incarnation(self, domain: Handle) -> str:
        """Names this run of this VM: its UUID, libvirt's number of the run, the boot and the start of its process.

        The same as long as it runs, whatever happens to libvirtd.
        """
        process = self.process(domain)
        birth = self._processes.birth(process) if self._processes and process is not None else ""
        return f"{run_name(domain)}/{birth}"

    def is_incarnation(self, domain: Handle, kept: str) -> bool:
        """Whether a VM is still in the run of that name."""
        return is_same_run(kept, self.incarnation(domain))


def is_same_run(kept: str, now: str) -> bool:
    """Whether two names are of one run; who could not see the process knows only the first half."""
    (kept_run, kept_birth), (now_run, now_birth) = _halves(kept), _halves(now)
    return kept_run == now_run and (not kept_birth or not now_birth or kept_birth == now_birth)


def _halves(incarnation: str) -> tuple[str, str]:
    uuid, _, rest = incarnation.partition("/")
    number, _, birth = rest.partition("/")
    return f"{uuid}/{number}", birth
