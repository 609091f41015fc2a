"""Virtio-serial ports of this machine, and the one line to the host: Documentation/driver-api/virtio."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

PORT_NAME = "org.forestall.guest.0"
READ_BYTES = 16 * 1024
MAX_WAITING_BYTES = 64 * 1024


def find_port(name: str, root: Path = Path("/")) -> Path | None:
    """Device of a virtio-serial port, or None while the machine does not have it."""
    for folder in (root / "sys/class/virtio-ports").glob("*"):
        with suppress(OSError):
            if (folder / "name").read_text().strip() == name:
                return root / "dev" / folder.name
    return None


def open_port(device: Path) -> int:
    """Descriptor of a port."""
    return os.open(device, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)


class Line:
    """An open port: bytes out, without ever waiting for the host; bytes in.

    Parameters
    ----------
    descriptor
        Of a virtio-serial port, or something that behaves like one; is closed with the line.

    Attributes
    ----------
    lost
        Messages that were not sent because those before them still waited.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        os.set_blocking(descriptor, False)
        self.lost = 0
        self._waiting = bytearray()

    @property
    def waits(self) -> bool:
        """Whether something could not be sent yet."""
        return bool(self._waiting)

    def send(self, message: bytes) -> bool:
        """Send a message whole, now or when there is room; False (and ``lost``) if too much waits already."""
        if self._waiting and len(self._waiting) + len(message) > MAX_WAITING_BYTES:
            self.flush()
        if self._waiting and len(self._waiting) + len(message) > MAX_WAITING_BYTES:
            self.lost += 1
            return False
        self._waiting += message
        self.flush()
        return True

    def flush(self) -> None:
        """Send what there is room for."""
        try:
            while self._waiting:
                sent = os.write(self.descriptor, self._waiting)
                del self._waiting[:sent]
        except BlockingIOError:
            return

    def receive(self) -> bytes | None:
        """What has come; empty if nothing has, None if nobody is at the other end."""
        try:
            return os.read(self.descriptor, READ_BYTES) or None
        except BlockingIOError:
            return b""

    def forget(self) -> None:
        """Drop what waits: who would have read it has gone."""
        self._waiting.clear()

    def close(self) -> None:
        """Let go of the port."""
        os.close(self.descriptor)
