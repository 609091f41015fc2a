"""A :class:`~forestall.ports.traffic.TrafficEar` by nfstream, which runs in a process that can do nothing else."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Annotated, BinaryIO

import msgspec

from forestall.adapters.nfstream.capture import SECONDS, capture
from forestall.model.errors import HypervisorError
from forestall.ports.traffic import Flow, Taps

DISSECT_SECONDS = 30.0
MOST_ANSWER_BYTES, MOST_COMPLAINT_BYTES = 2 * 1024 * 1024, 2_000
NAME_BYTES = 8
PLAIN_ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C.UTF-8"}
_Text = Annotated[str, msgspec.Meta(max_length=100)]
_Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**40)]


class _Flow(msgspec.Struct, forbid_unknown_fields=True):
    """A flow, as the other process says it: it has read what strangers sent, and is believed accordingly."""

    protocol: _Text
    category: _Text
    serves: bool
    transport: _Port
    port: _Port
    bytes: _Count
    packets: _Count
    name: _Text


_ANSWER = msgspec.json.Decoder(list[Annotated[list[_Flow], msgspec.Meta(max_length=200)]])


class NfstreamEar:
    """Listens to several VMs at once.

    Parameters
    ----------
    seconds
        How long each time.
    """

    def __init__(self, seconds: int = SECONDS) -> None:
        self._seconds = seconds

    def listen(self, taps: Mapping[str, Taps], keys: Mapping[str, bytes]) -> Mapping[str, Sequence[Flow]]:
        """Flows of some VMs; see :class:`~forestall.ports.traffic.TrafficEar`."""
        samples = capture(taps, self._seconds)
        try:
            words = [f"{sample.file.fileno()}={','.join(sample.addresses)}" for sample in samples.values()]
            answer = _dissected(words, [sample.file.fileno() for sample in samples.values()]) if words else []
        finally:
            for sample in samples.values():
                sample.file.close()
        if len(answer) != len(samples):
            raise HypervisorError("traffic is not recognised: what nfstream found cannot be understood")
        return {vm_id: [_flow(f, keys[vm_id]) for f in found] for vm_id, found in zip(samples, answer, strict=True)}


def _dissected(words: Sequence[str], descriptors: Sequence[int]) -> list[list[_Flow]]:
    """What the other process finds in the files, each in the order given."""
    command = [sys.executable, "-I", "-m", "forestall.adapters.nfstream.dissect", *words]
    with _memory("answer") as said, _memory("complaint") as complained:  # files, for what they grow to has a limit
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=complained,
            pass_fds=descriptors,
            start_new_session=True,
            cwd="/",
            env=PLAIN_ENVIRONMENT,
        )
        try:
            code = process.wait(DISSECT_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise HypervisorError(f"traffic is not recognised: nfstream took over {DISSECT_SECONDS:g} s") from error
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        said.seek(0)
        complained.seek(0)
        answer = said.read(MOST_ANSWER_BYTES + 1)
        if code or len(answer) > MOST_ANSWER_BYTES:
            lines = complained.read(MOST_COMPLAINT_BYTES).decode(errors="replace").strip().splitlines()
            last = lines[-1] if lines else f"nfstream ended with {code}"
            raise HypervisorError(f"traffic is not recognised: {last[:200]!r}")
    try:
        return _ANSWER.decode(answer)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise HypervisorError("traffic is not recognised: what nfstream found cannot be understood") from error


def _memory(name: str) -> BinaryIO:
    """A file that is nowhere but in memory."""
    return os.fdopen(os.memfd_create(name), "w+b")


def _flow(found: _Flow, key: bytes) -> Flow:
    name = found.name.lower()
    hashed = hashlib.blake2b(name.encode(), digest_size=NAME_BYTES, key=key).hexdigest() if name else ""
    protocol, category = (
        "".join(c if c.isprintable() else "?" for c in text) for text in (found.protocol, found.category)
    )
    return Flow(protocol, category, found.serves, found.transport, found.port, found.bytes, found.packets, hashed)
