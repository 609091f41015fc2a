"""The lab: a few small real guests with real work in them, in a network and under a libvirtd of their own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from forestall.lab import leftovers
from forestall.lab.accelerator import Accelerator, find_accelerator
from forestall.lab.commands import PACKAGES, found, missing, run
from forestall.lab.daemon import connect, libvirt_module, start_daemon
from forestall.lab.domain import Boot, domain_xml
from forestall.lab.guest_link import GuestLink
from forestall.lab.image import Image, obtain_image
from forestall.lab.initramfs import write_initramfs
from forestall.lab.lock import alone
from forestall.lab.network import make_network, make_tap, remove_network
from forestall.lab.place import DEFAULT_CACHE, DEFAULT_FOLDER, Place
from forestall.lab.plan import GuestPlan, Pace, chosen
from forestall.lab.settings_file import settings_text
from forestall.model.errors import HypervisorError

USUAL_GUESTS = 5
USUAL_PACE = Pace()


def _silent(_: str) -> None:
    """Say nothing."""


class Lab:
    """A lab in a folder. Every method may be called again, also after a crash of whatever ran there.

    In a ``with`` it is taken down at the end, whatever happened inside.

    Parameters
    ----------
    folder
        Everything of a running lab: disks, sockets, state and logs of its libvirtd.
    name
        Names the network namespace and the domains; the folder's own name unless given.
    cache
        Where the built image is kept.
    say
        Told what takes long.
    """

    def __init__(
        self,
        folder: Path = DEFAULT_FOLDER,
        *,
        name: str | None = None,
        cache: Path = DEFAULT_CACHE,
        say: Callable[[str], None] = _silent,
    ) -> None:
        self.place, self.cache, self._say = Place.at(folder, name), cache, say

    @property
    def uri(self) -> str:
        """What to connect libvirt to."""
        return self.place.uri

    @property
    def guests(self) -> tuple[str, ...]:
        """Names of the guests that were started; none while the lab is down."""
        return tuple(plan.name for plan in self._plans())

    def domain(self, guest: str) -> str:
        """Name that libvirt knows a guest by."""
        return self.place.domain(guest)

    def link(self, guest: str, deadline_seconds: float = 10.0) -> GuestLink:
        """A new line to a guest; any number may be open at a time."""
        return GuestLink(self.place.link(guest), deadline_seconds)

    def inside(self, *command: str) -> list[str]:
        """A command that runs in the lab's network, where the guests' taps are."""
        return self.place.inside(*command)

    def up(
        self,
        guests: int | tuple[str, ...] = USUAL_GUESTS,
        *,
        pace: Pace = USUAL_PACE,
        accelerator: Accelerator | None = None,
    ) -> Self:
        """Start what does not run yet: libvirtd, guests (so many, or those named), attendant.

        Parameters
        ----------
        pace
            How the guests live. A lab that is up keeps the pace that it has, and a guest its port.
        accelerator
            What to run the guests on; None finds out.

        Raises
        ------
        HypervisorError
            Something is missing, or did not start; what was started is still there, for :meth:`down`.
        """
        plans = chosen(guests)
        if lacking := missing(PACKAGES):
            raise HypervisorError(lacking)
        libvirt_module()
        image = obtain_image(self.cache, self._say)
        with alone(self._lock):
            self.place.claim()
            boot = self._boot(image, pace, accelerator)
            make_network(self.place)
            start_daemon(self.place)
            before = {plan.name: plan for plan in self._plans()}
            kept = before | {plan.name: plan for plan in plans if plan.name not in before}
            self._write_record(boot, kept.values())
            for plan in plans:
                self._start_guest(kept[plan.name], boot, image)
            self._start_attendant(kept.values())
        return self

    def wait(self, deadline_seconds: float = 120.0) -> None:
        """Wait until every guest has reported."""
        deadline = time.monotonic() + deadline_seconds
        for guest in self.guests:
            with self.link(guest) as link:
                link.wait(lambda _: True, max(0.0, deadline - time.monotonic()), f"no report of {guest}")

    def restart_daemon(self) -> None:
        """End libvirtd and start it again; the guests go on."""
        leftovers.end(leftovers.daemon_pids(self.place))
        start_daemon(self.place)

    def down(self) -> None:
        """Stop everything and remove it; whatever of the lab is left, however it came to be."""
        if lacking := missing({}):
            raise HypervisorError(lacking)
        with alone(self._lock):
            leftovers.end(leftovers.attendant_pids(self.place))
            leftovers.end(leftovers.guest_pids(self.place).values())
            leftovers.end(leftovers.daemon_pids(self.place))
            remove_network(self.place)
            leftovers.remove_control_groups(self.place)
            self.place.clear()
            self._lock.unlink(missing_ok=True)

    def status(self) -> list[dict[str, Any]]:
        """What can be said of each guest: state, process, age of its last report (None: there is none)."""
        pids = leftovers.guest_pids(self.place)
        return [
            {
                "guest": guest,
                "domain": self.place.domain(guest),
                "state": "running" if guest in pids else "stopped",
                "pid": pids.get(guest),
                "report_age_seconds": self._report_age(guest),
                "link": str(self.place.link(guest)),
            }
            for guest in self.guests
        ]

    def accelerator(self) -> str | None:
        """What the guests run on; None while the lab is down."""
        return self._record().get("accelerator")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()

    def _report_age(self, guest: str) -> float | None:
        try:
            return max(0.0, time.time() - self.place.report(guest).stat().st_mtime)
        except FileNotFoundError:
            return None

    def _plans(self) -> tuple[GuestPlan, ...]:
        """The guests that were started."""
        return chosen(tuple(self._record().get("guests", ())))

    def _record(self) -> dict[str, Any]:
        try:
            record: dict[str, Any] = json.loads(self.place.record.read_text())
        except (OSError, ValueError):
            return {}
        return record

    def _write_record(self, boot: Boot, plans: Iterable[GuestPlan]) -> None:
        record = {
            "uri": self.uri,
            "guests": [plan.words for plan in plans],
            "pace": asdict(boot.pace),
            "epoch": boot.epoch,
            "accelerator": boot.accelerator,
        }
        fresh = self.place.record.with_suffix(".new")
        fresh.write_text(json.dumps(record, indent=2) + "\n")
        fresh.replace(self.place.record)
        self.place.settings.write_text(settings_text(self.place, boot.pace, boot.epoch))

    @property
    def _lock(self) -> Path:
        """Held by whoever starts or stops this lab."""
        self.cache.mkdir(parents=True, exist_ok=True)
        return self.cache / f"{self.place.name}.lock"

    def _boot(self, image: Image, pace: Pace, accelerator: Accelerator | None) -> Boot:
        """What guests start from: as recorded where the lab is up, so that all live in the same day."""
        record = self._record()
        initramfs = self.place.folder / "initramfs.img"
        if not initramfs.exists():
            write_initramfs(initramfs, image.modules, Path(found("busybox") or "busybox"))
        if record:
            pace, epoch = Pace(**record["pace"]), float(record["epoch"])
            accelerator = accelerator or Accelerator(record["accelerator"])
        else:
            epoch = round(time.time() - pace.start_hour / 24 * pace.day_seconds, 3)
        if accelerator is None:
            accelerator = find_accelerator(image.kernel, initramfs, self.cache / "accelerator")
        return Boot(image.kernel, initramfs, accelerator, pace, epoch)

    def _start_guest(self, plan: GuestPlan, boot: Boot, image: Image) -> None:
        """Define and start a guest, unless it runs."""
        libvirt, connection = libvirt_module(), connect(self.place)
        try:
            make_tap(self.place, plan)
            if plan.name in leftovers.guest_pids(self.place):
                return
            folder = self.place.guest_folder(plan.name)
            folder.mkdir(parents=True, exist_ok=True)
            disk = folder / "disk.qcow2"
            if not disk.exists():
                run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", image.disk, disk])
            connection.defineXML(domain_xml(self.place, plan, boot)).create()
        except libvirt.libvirtError as error:
            raise HypervisorError(f"guest {plan.name}: {error}") from error
        finally:
            connection.close()

    def _start_attendant(self, plans: Iterable[GuestPlan]) -> None:
        """Start the attendant, or anew if it attends to other guests than these."""
        wanted = [str(self.place.folder), self.place.name, ",".join(plan.words for plan in plans)]
        running = leftovers.attendant_pids(self.place)
        if running and Path(f"/proc/{running[0]}/cmdline").read_bytes().decode().split("\0")[-4:-1] == wanted:
            return
        leftovers.end(running)
        command = self.place.inside(sys.executable, "-m", leftovers.ATTENDANT, *wanted)
        with (self.place.folder / "attendant.log").open("ab") as output:
            subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd="/", start_new_session=True
            )
