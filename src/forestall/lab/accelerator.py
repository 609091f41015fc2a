"""Whether guests can run on the hardware's virtualisation: found out by trying, for a device file proves little."""

from __future__ import annotations

import os
import subprocess
from enum import StrEnum
from pathlib import Path

from forestall.lab.commands import found

DEVICE = Path("/dev/kvm")
TRIAL_SECONDS = 10.0
TRIAL_WORD = b"forestall-lab: the kernel is up"


class Accelerator(StrEnum):
    """What runs the guests' instructions: the processor (KVM), or QEMU's translator (TCG)."""

    KVM = "kvm"
    TCG = "tcg"


def find_accelerator(kernel: Path, initramfs: Path, known: Path) -> Accelerator:
    """KVM if a kernel really boots on it here, else TCG.

    The trial boots the guests' kernel up to the first line of its initramfs. What came of it is kept in the file
    ``known`` for as long as the host is up.
    """
    if not os.access(DEVICE, os.R_OK | os.W_OK):
        return Accelerator.TCG
    this_boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    try:
        boot, answer = known.read_text().split()
        if boot == this_boot:
            return Accelerator(answer)
    except (OSError, ValueError):
        pass  # nothing is known yet
    answer = Accelerator.KVM if _boots(kernel, initramfs) else Accelerator.TCG
    known.write_text(f"{this_boot} {answer}\n")
    return Accelerator(answer)


def _boots(kernel: Path, initramfs: Path) -> bool:
    """Whether a kernel comes up on KVM within a few seconds."""
    command = [
        *(found("qemu-system-x86_64") or "qemu-system-x86_64", "-accel", "kvm", "-cpu", "host", "-m", "256"),
        *("-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio", "-no-reboot"),
        *("-kernel", str(kernel), "-initrd", str(initramfs), "-append", "console=ttyS0 quiet panic=-1 forestall.trial"),
    ]
    try:
        trial = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=TRIAL_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return TRIAL_WORD in trial.stdout
