"""Try traffic control in a network namespace of its own, which vanishes with the process.

``python -m forestall.adapters.host_facts.traffic_trial`` prints why it did not work, or nothing. Names of modules in
lists of the kernel would say less: they may be built in, or there may be no list at all.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from typing import Any

_NEW_USER, _NEW_NETWORK = 0x1000_0000, 0x4000_0000
_ALL_PROTOCOLS = 0x0003
_HOOKS = (0xFFFFFFF3, 0xFFFFFFF2)
"""Egress and ingress of a device, as clsact names them."""
_SECONDS = 20


def try_traffic_control() -> str:
    """Run the trial in a child process; empty if it worked, else why not."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "forestall.adapters.host_facts.traffic_trial"],
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"could not be tried: {error}"
    said = " ".join(done.stdout.split())
    return said or ("" if done.returncode == 0 else f"the trial ended with {done.returncode}")


def trial() -> str:
    """Set up in a new namespace what limits a VM's traffic: HTB on an ifb, and all packets sent there."""
    try:
        from pyroute2 import IPRoute
    except ImportError:
        return "the Python package pyroute2 is not installed"
    flags = _NEW_NETWORK if os.geteuid() == 0 else _NEW_NETWORK | _NEW_USER
    if ctypes.CDLL(None, use_errno=True).unshare(flags) != 0:
        return f"no network namespace can be made: {os.strerror(ctypes.get_errno())}"
    with IPRoute() as netlink:
        for name, step in (("ifb", _add_devices), ("HTB", _add_htb), ("clsact, u32 and mirred", _add_redirection)):
            try:
                step(netlink)
            except Exception as error:  # whatever netlink refuses: the answer is its text
                return f"{name}: {' '.join(str(error).split())}"
    return ""


def _add_devices(netlink: Any) -> None:
    for name in ("ifb-trial", "tap-trial"):
        netlink.link("add", ifname=name, kind="ifb")
        netlink.link("set", index=_index(netlink, name), state="up")


def _add_htb(netlink: Any) -> None:
    index = _index(netlink, "ifb-trial")
    netlink.tc("add", "htb", index, 0x10000, default=0x10)
    netlink.tc("add-class", "htb", index, 0x10010, parent=0x10000, rate="100mbit", ceil="100mbit")


def _add_redirection(netlink: Any) -> None:
    index, target = _index(netlink, "tap-trial"), _index(netlink, "ifb-trial")
    netlink.tc("add", "clsact", index)
    action = {"kind": "mirred", "direction": "egress", "action": "redirect", "ifindex": target}
    match = {"protocol": _ALL_PROTOCOLS, "prio": 1, "keys": ["0x0/0x0+0"], "target": 0x10001}
    for hook in _HOOKS:
        netlink.tc("add-filter", "u32", index, parent=hook, action=action, **match)


def _index(netlink: Any, name: str) -> int:
    return int(netlink.link_lookup(ifname=name)[0])


if __name__ == "__main__":
    print(trial())
