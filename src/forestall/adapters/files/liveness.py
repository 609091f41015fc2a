"""Whether a daemon lives: a lock that it holds, and a heartbeat that it writes."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from forestall.adapters.files.writing import read_json, write_json
from forestall.model.errors import FolderInUse, StoreError
from forestall.model.mode import Mode

LOCK, HEARTBEAT = "lock", "heartbeat.json"
_LOOKS, _LOOK_AGAIN_SECONDS = 10, 0.05


def boot_seconds() -> float:
    """Seconds since the host was started, those asleep included; the same for every process."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@contextmanager
def locked(folder: Path, *, looks: int = _LOOKS) -> Iterator[None]:
    """Hold the lock of a state folder; the kernel releases it when the process ends, however it ends.

    A watchdog that looks whether the lock is free holds it for an instant: so it is tried a few times.

    Raises
    ------
    StoreError
        Another process holds it, or it cannot be made.
    """
    path = folder / LOCK
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = path.open("a+", encoding="ascii")
    except OSError as error:
        raise StoreError(f"{path}: cannot be made: {error.strerror}") from error
    with file:
        for left in reversed(range(looks)):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if left == 0:
                    file.seek(0)
                    pid = file.read(20).strip()
                    holder = f" by process {pid}" if pid else ""
                    raise FolderInUse(f"{folder}: is in use{holder}; one daemon runs on a state folder") from error
                time.sleep(_LOOK_AGAIN_SECONDS)
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


@dataclass
class FileHeart:
    """Writes the heartbeat of this process.

    Attributes
    ----------
    folder
        State folder.
    lease_seconds
        After so long without a heartbeat a watchdog takes over.
    """

    folder: Path
    lease_seconds: float
    boot: Callable[[], float] = boot_seconds

    def beat(self, mode: Mode) -> None:
        """Say that this process lives; a :class:`StoreError` if that cannot be written."""
        value = {"pid": os.getpid(), "boottime": self.boot(), "lease_seconds": self.lease_seconds, "mode": mode.value}
        write_json(self.folder / HEARTBEAT, value, durable=False)


@dataclass
class FilePulse:
    """Tells from outside whether the daemon of a state folder lives."""

    folder: Path
    boot: Callable[[], float] = boot_seconds

    def why_dead(self) -> str:
        """Why its VMs should be put back, in words; empty while it lives."""
        if self._lock_is_free():
            return "no daemon runs"
        try:
            beat = read_json(self.folder / HEARTBEAT)
            at, lease = float(beat["boottime"]), float(beat["lease_seconds"])
        except (StoreError, KeyError, TypeError, ValueError):
            return "the heartbeat cannot be read"
        age = self.boot() - at
        # An instant that lies ahead is of an earlier boot.
        return f"the last heartbeat is {age:.0f} s old" if age > lease or age < -1.0 else ""

    def _lock_is_free(self) -> bool:
        try:
            with (self.folder / LOCK).open("r", encoding="ascii") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return True
        except FileNotFoundError:
            return True
        except BlockingIOError:
            return False
        except OSError as error:
            raise StoreError(f"{self.folder / LOCK}: {error.strerror}") from error
