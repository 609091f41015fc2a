"""A sample of the packets at some taps, each VM's in a file of its own that exists in memory only.

Nothing here looks into a packet. What a sample may hold is bounded, however much a VM sends: so many packets in each
second of it, each cut off after its first bytes. Files are in the format of libpcap (pcap-savefile(5)).
"""

from __future__ import annotations

import errno
import os
import selectors
import socket
import struct
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import BinaryIO

from forestall.adapters.linux.namespaces import in_network_namespace
from forestall.model.errors import HypervisorError
from forestall.ports.traffic import Taps

SECONDS, PACKETS_PER_S, SNAP_BYTES = 10, 400, 1536
LOOK_SECONDS = 0.1
BUFFER_BYTES, LEAST_KEPT_BYTES = 256 * 1024, 256
"""Of what waits in the kernel; and what the smallest packet takes of it."""
GONE = (errno.ENODEV, errno.ENXIO, errno.ENOENT)
EVERY_PROTOCOL = 0x0003
ETHERNET = 1
FILE_HEADER = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, SNAP_BYTES, ETHERNET)
MOST_ADDRESSES = 16


@dataclass
class Sample:
    """Packets of one VM: the file, how many there are in it, and the hardware addresses that the VM sends from."""

    file: BinaryIO
    packets: int = 0
    addresses: set[str] = field(default_factory=set)
    left: int = PACKETS_PER_S

    def add(self, packet: bytes, at: float, kind: int) -> None:
        """Take in a packet; ``kind`` as packet(7) has it."""
        kept = packet[:SNAP_BYTES]
        head = struct.pack("<IIII", int(at), int(at % 1 * 1e6), len(kept), len(packet))
        self.file.write(head + kept)
        self.packets += 1
        self.left -= 1
        if kind != socket.PACKET_OUTGOING and len(self.addresses) < MOST_ADDRESSES:  # what comes out of the VM
            self.addresses.add(packet[6:12].hex(":"))


def capture(taps: Mapping[str, Taps], seconds: int = SECONDS) -> dict[str, Sample]:
    """Listen to some VMs at once; those whose taps are gone are left out. The caller closes the files.

    Raises
    ------
    HypervisorError
        Taps that are there cannot be listened at.
    """
    samples: dict[str, Sample] = {}
    with ExitStack() as on_error, ExitStack() as opened:
        heard: dict[socket.socket, str] = {}
        for vm_id, mine in taps.items():
            try:
                sockets = in_network_namespace(mine.namespace, lambda mine=mine: _open(mine))  # type: ignore[misc]
            except HypervisorError:
                continue  # the namespace is gone
            except OSError as error:
                if error.errno in GONE:
                    continue
                raise HypervisorError(f"taps cannot be listened at: {error.strerror}") from error
            heard |= {opened.enter_context(tap): vm_id for tap in sockets}
            file = on_error.enter_context(os.fdopen(os.memfd_create("packets"), "w+b"))
            file.write(FILE_HEADER)
            samples[vm_id] = Sample(file)
        with selectors.DefaultSelector() as selector:
            until = time.monotonic() + seconds
            while (left := until - time.monotonic()) > 0 and heard:
                _one_second(selector, heard, samples, min(left, 1.0))
        for sample in samples.values():
            sample.file.flush()
        on_error.pop_all()
    return samples


def _open(taps: Taps) -> list[socket.socket]:
    """A socket at each tap of a VM; see packet(7)."""
    with ExitStack() as on_error:
        sockets = []
        for device in taps.devices:
            tap = on_error.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))  # deaf until it is bound
            tap.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
            tap.setblocking(False)
            tap.bind((device, EVERY_PROTOCOL))
            sockets.append(tap)
        on_error.pop_all()
    return sockets


def _one_second(
    selector: selectors.BaseSelector,
    heard: Mapping[socket.socket, str],
    samples: Mapping[str, Sample],
    seconds: float,
) -> None:
    """Take what each VM may have of this second."""
    for sample in samples.values():
        sample.left = PACKETS_PER_S
    for each in heard:
        _drain(each)
        selector.register(each, selectors.EVENT_READ)
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0 and selector.get_map():
        for key, _ in selector.select(min(left, LOOK_SECONDS)):
            tap: socket.socket = key.fileobj  # type: ignore[assignment]
            sample = samples[heard[tap]]
            _take(tap, sample)
            if sample.left <= 0:
                selector.unregister(tap)
    for key in list(selector.get_map().values()):
        selector.unregister(key.fileobj)
    time.sleep(max(0.0, until - time.monotonic()))


def _take(tap: socket.socket, sample: Sample) -> None:
    with suppress(BlockingIOError, OSError):
        while sample.left > 0:
            packet, address = tap.recvfrom(65536)
            sample.add(packet, time.time(), address[2])


def _drain(tap: socket.socket) -> None:
    """Forget what came meanwhile, so that a second is of itself."""
    with suppress(BlockingIOError, OSError):
        for _ in range(BUFFER_BYTES // LEAST_KEPT_BYTES):
            tap.recv(1)
