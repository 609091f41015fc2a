"""How long a switch of Open vSwitch takes for a thousand changes of flows, with a barrier at the end.

    python benchmarks/flow_changes.py

Needs root: it makes a switch in a namespace of its own.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

from forestall.adapters.openvswitch.door import Door
from forestall.lab.leaf_spine import LeafSpine
from forestall.model.switching import Change, Flow, Operation, Output, SetTarget, matching

CHANGES, TIMES = 1_000, 5


def flows(label: str) -> list[Flow]:
    """A thousand pairs, each with its label."""
    return [
        Flow(
            70,
            20_000,
            matching(eth_src="52:54:00:00:00:01", eth_dst=f"52:54:00:01:{k >> 8:02x}:{k & 255:02x}"),
            (SetTarget(f"0e:00:{label}:00:00:01"), Output(1)),
        )
        for k in range(CHANGES)
    ]


def main() -> None:
    """Measure."""
    folder = Path(tempfile.mkdtemp(prefix="fs-flows", dir="/run")) / "n"
    with LeafSpine(folder, leaves=1, spines=1, hosts=1) as network:
        door = Door(f"punix:{folder}/openflow.sock", lambda: None, lambda *packet: None)
        network.listen_to(f"unix:{folder}/openflow.sock")
        while 1 not in door.sessions:
            time.sleep(0.05)
        session = door.sessions[1]
        took: dict[Operation, list[float]] = {operation: [] for operation in Operation}
        for _ in range(TIMES):
            for operation, label in ((Operation.ADD, "01"), (Operation.CHANGE, "02"), (Operation.REMOVE, "02")):
                changes = [Change(operation, flow) for flow in flows(label)]
                began = time.perf_counter()
                session.change(changes)
                took[operation].append(time.perf_counter() - began)
        door.close()
    folder.parent.rmdir()
    for operation, seconds in took.items():
        print(f"{operation} {CHANGES}: median {statistics.median(seconds):.2f} s, longest {max(seconds):.2f} s")


if __name__ == "__main__":
    main()
