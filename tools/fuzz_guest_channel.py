"""Feed what a coverage-guided fuzzer makes up to the decoder of guests' frames, for ever.

    make fuzz FUZZ_SECONDS=600

Half of the input is fed as it is, half as frames that are sound but for their payloads, so that the fuzzer gets behind
the checksum. It fails when anything is raised, when a number that is not finite or not in its bounds gets through, or
when the process grows: libFuzzer watches memory (``-rss_limit_mb``).
"""

from __future__ import annotations

import json
import sys
from contextlib import suppress

import atheris

with atheris.instrument_imports():
    from forestall.adapters.guest_channel.inbox import Inbox, Reply, result_of
    from forestall.guest.wire import MAX_FIELDS, MAX_PAYLOAD_BYTES, Kind, Window, as_json, encode
    from forestall.ports.guest_channel import LONG_FIELDS, OPERATIONS, SHORT_FIELDS, GuestWindow

KINDS = [*Kind, 0, 9]
NAMES = [SHORT_FIELDS, LONG_FIELDS, SHORT_FIELDS[::-1], ("mystery", "faults_per_s"), ()]


def payload(provider: atheris.FuzzedDataProvider) -> bytes:
    """Bytes, or something that is nearly what it should be."""
    sort = provider.ConsumeIntInRange(0, 4)
    if sort == 0:
        return bytes(provider.ConsumeBytes(provider.ConsumeIntInRange(0, 2000)))
    if sort == 1:
        names = {"short": provider.PickValueInList(NAMES), "long": provider.PickValueInList(NAMES)}
        operations = [provider.ConsumeUnicodeNoSurrogates(8), "read", "fork"]
        return as_json({"agent": provider.ConsumeInt(4), "operations": operations, **names})
    if sort == 2:
        count = provider.ConsumeIntInRange(0, MAX_FIELDS)
        values = provider.ConsumeFloatListInRange(count, -1e38, 1e38)
        pairs = tuple((n, n) for n in provider.ConsumeBytes(provider.ConsumeIntInRange(0, 70)))
        end, length = provider.ConsumeIntInRange(0, 2**62), provider.ConsumeIntInRange(0, 2**32 - 1)
        return Window(end, length, 0, values, pairs).pack()
    if sort == 3:
        row = {"name": provider.ConsumeUnicodeNoSurrogates(80), "cpu_cores": provider.ConsumeFloat()}
        return json.dumps({"processes": [row] * provider.ConsumeIntInRange(0, 70), "groups": [row]}).encode()
    text = provider.ConsumeUnicodeNoSurrogates(500)
    return b'{"id": %d, "result": %s}' % (provider.ConsumeInt(4), text.encode())


def one(data: bytes) -> None:
    """One conversation of a guest."""
    provider = atheris.FuzzedDataProvider(data)
    inbox = Inbox("vm")
    now, sequence = 0.0, 0
    for _ in range(provider.ConsumeIntInRange(1, 12)):
        now += provider.ConsumeIntInRange(0, 5000) / 1000.0
        if provider.ConsumeIntInRange(0, 3) == 0:
            chunk = bytes(provider.ConsumeBytes(provider.ConsumeIntInRange(0, 2000)))
        else:
            sequence += provider.ConsumeIntInRange(-1, 3)
            kind = provider.PickValueInList(KINDS)
            chunk = encode(
                kind, provider.ConsumeIntInRange(1, 2), max(sequence, 0), payload(provider)[:MAX_PAYLOAD_BYTES]
            )
        for message in inbox.feed(chunk, now):
            if isinstance(message, GuestWindow):
                assert all(value != value or 0 <= value <= 1e15 for value in message.values.tolist())
                assert all(0 <= kind < len(OPERATIONS) for kind, _ in message.operations)
            elif isinstance(message, Reply):
                with suppress(ValueError):
                    result_of(message)
    assert len(inbox._reader._buffer) <= 64 * 1024


def main() -> None:
    """Fuzz; arguments are those of libFuzzer."""
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
