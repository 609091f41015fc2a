"""Which pages a process has in its page table: by PAGEMAP_SCAN where the kernel has it (6.7), else by ``pagemap``.

The scan skips what is empty, so that a large memory of which little is touched costs little. Sources:
admin-guide/mm/pagemap.rst, include/uapi/linux/fs.h (struct pm_scan_arg, struct page_region).
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import struct

import numpy as np

from forestall.model.samples import BoolArray

_SCAN = 0xC0606610
_PRESENT, _SWAPPED = 1 << 3, 1 << 4
_ARGUMENT = struct.Struct("12Q")
_REGIONS = 4096
_ENTRY_BYTES = 8
_PRESENT_OR_SWAPPED = np.uint64(3 << 62)
_NOT_KNOWN = (errno.ENOTTY, errno.EINVAL, errno.EPERM)


class PageTable:
    """The page table of one process.

    Parameters
    ----------
    descriptor
        Of its ``/proc/PID/pagemap``.
    scan
        Whether to scan, where the kernel can.
    """

    def __init__(self, descriptor: int, *, scan: bool = True) -> None:
        self._descriptor, self._scan = descriptor, scan
        self._regions = np.zeros((_REGIONS, 3), np.uint64)

    def has(self, address: int, pages: int) -> BoolArray:
        """Which small pages from an address on it has (page,); fewer where its addresses end, as when it is gone.

        Raises
        ------
        OSError
            It cannot be read.
        """
        if self._scan:
            try:
                return self._scanned(address, pages)
            except OSError as error:
                if error.errno not in _NOT_KNOWN:
                    raise
                self._scan = False
        entries = os.pread(self._descriptor, pages * _ENTRY_BYTES, address // mmap.PAGESIZE * _ENTRY_BYTES)
        known: BoolArray = (np.frombuffer(entries, np.uint64) & _PRESENT_OR_SWAPPED) != 0
        return known

    def _scanned(self, address: int, pages: int) -> BoolArray:
        has, end = np.zeros(pages, np.bool_), address + pages * mmap.PAGESIZE
        at = address
        while at < end:
            vector = self._regions.ctypes.data
            wanted = _PRESENT | _SWAPPED
            argument = bytearray(
                _ARGUMENT.pack(_ARGUMENT.size, 0, at, end, 0, vector, _REGIONS, 0, 0, 0, wanted, wanted)
            )
            found = fcntl.ioctl(self._descriptor, _SCAN, argument, True)
            for first, last, _ in self._regions[:found].tolist():
                has[(first - address) // mmap.PAGESIZE : (last - address) // mmap.PAGESIZE] = True
            at = _ARGUMENT.unpack(argument)[4]
        return has
