"""Whether the kernel's clock is kept in step with another, whoever keeps it: adjtimex(2)."""

from __future__ import annotations

import ctypes
import struct

from forestall.adapters.host_facts.facts import ClockFacts

_TIME_ERROR = 5
_LARGEST_ERROR_AT = 3 * struct.calcsize("l")  # struct timex: modes (padded), offset, freq, maxerror in microseconds


def read_kernel_clock() -> ClockFacts:
    """Ask the kernel, without changing anything (``modes`` is 0)."""
    buffer = ctypes.create_string_buffer(512)
    state = ctypes.CDLL(None).adjtimex(buffer)
    if state < 0:
        return ClockFacts(None)
    (microseconds,) = struct.unpack_from("l", buffer, _LARGEST_ERROR_AT)
    return ClockFacts(state != _TIME_ERROR, microseconds / 1e6)
