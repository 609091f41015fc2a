"""The guests of a lab: what each is for, and how it is built."""

from __future__ import annotations

from dataclasses import dataclass, replace

from forestall.model.errors import WrongUse

MIB = 1024 * 1024
PORTS = {"web": 80, "redis": 6379, "postgres": 5432, "stream": 554}
"""Where the roles serve that serve something, unless told otherwise."""


@dataclass(frozen=True)
class GuestPlan:
    """A guest: its name, memory, vCPUs plugged in at first and at most, and the role that it works in.

    ``growth_bytes`` is what virtio-mem can add to its memory. ``number`` sets its address and those of its devices.
    A guest without a role of its own has the one that it is named for, and without a port that of its role.
    """

    name: str
    number: int
    memory_bytes: int
    cpus: int = 2
    max_cpus: int = 2
    growth_bytes: int = 0
    role: str = ""
    port: int = 0

    def __post_init__(self) -> None:
        """Name the role, and its port."""
        object.__setattr__(self, "role", self.role or self.name)
        object.__setattr__(self, "port", self.port or PORTS.get(self.role, 0))

    @property
    def words(self) -> str:
        """The guest as :func:`chosen` takes it: its name, and its port where that is not its role's."""
        return self.name if self.port == PORTS.get(self.role, 0) else f"{self.name}:{self.port}"

    @property
    def tap(self) -> str:
        """Name of its interface on the host's side."""
        return f"tap-{self.name}"

    @property
    def host_address(self) -> str:
        """Address of the host towards the guest."""
        return f"10.77.{self.number}.1"

    @property
    def address(self) -> str:
        """Address of the guest."""
        return f"10.77.{self.number}.2"

    @property
    def mac(self) -> str:
        """Hardware address of the guest's interface."""
        return f"52:54:00:77:00:{self.number:02x}"


GUESTS = (
    GuestPlan("web", 1, 384 * MIB),
    GuestPlan("redis", 2, 512 * MIB),
    GuestPlan("database", 3, 384 * MIB, growth_bytes=256 * MIB),
    GuestPlan("batch", 4, 448 * MIB, cpus=1),
    GuestPlan("idle", 5, 384 * MIB),
    GuestPlan("spare", 6, 384 * MIB, role="idle"),
    GuestPlan("postgres", 7, 448 * MIB),
    GuestPlan("stream", 8, 384 * MIB),
)
"""Every guest there is, in the order in which they are started."""


@dataclass(frozen=True)
class Pace:
    """How the guests of a lab live.

    Attributes
    ----------
    day_seconds
        How long a day of their work takes.
    start_hour
        Hour of the first day at which the lab starts; in the morning all of them have something to do soon.
    load_ratio
        Share of their full work that there is to do: several labs fit on a host that one would fill.
    report_seconds
        Time between two reports of a guest. On QEMU's translator a report a second costs a tenth of a core.
    """

    day_seconds: float = 600.0
    start_hour: float = 6.0
    load_ratio: float = 1.0
    report_seconds: float = 1.0


def chosen(guests: int | tuple[str, ...]) -> tuple[GuestPlan, ...]:
    """The first so many guests, or those named; ``NAME:PORT`` lets one serve at another port."""
    if isinstance(guests, int):
        if not 1 <= guests <= len(GUESTS):
            raise WrongUse(f"--guests {guests} is not between 1 and {len(GUESTS)}")
        return GUESTS[:guests]
    by_name = {plan.name: plan for plan in GUESTS}
    found = {}
    for words in guests:
        name, colon, port = words.partition(":")
        if name not in by_name:
            raise WrongUse(f"--guests: {name!r} is none of {', '.join(by_name)}")
        if colon and not (port.isdecimal() and 0 < int(port) < 65536 and by_name[name].port):
            raise WrongUse(f"--guests: {words!r}: {name} cannot serve at such a port")
        found[name] = replace(by_name[name], port=int(port or 0)) if colon else by_name[name]
    return tuple(found.values())
