"""Share of misses that staging removes on the development traces, beside the peers.

    python benchmarks/accesses.py [--shares 0.05] [--delays 0,16] [--policies forestall] [--traces a,b]

For each trace, size of cache (a share of the distinct items) and delay: what is removed of the misses of a plain cache,
net of pollution, what of that at jumps, precision, timeliness, and the change of the hit ratio. Peers are as shipped,
and, with several policies, over their settings: the best is shown, chosen in hindsight.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from forestall.replay.access.replay import AccessReplaySettings, replay_access
from forestall.replay.access.result import AccessPoint
from forestall.replay.access.trace import read_access_trace

DATA = Path(__file__).parents[2] / "shared" / "data" / "access"
GROUPS = {
    "scrambled": ("arc_oltp", "lirs_multi1", "lirs_multi2", "lirs_sprite"),
    "blocks": ("cloudphysics_sample",),
    "pages": ("pages_sqlite", "pages_redis", "pages_numpy", "pages_gcc_cc1"),
}


def main() -> None:
    """Print a line for each trace, size and delay, and the mean and the worst of each group."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shares", default="0.05")
    parser.add_argument("--delays", default="0,16")
    parser.add_argument("--policies", default="forestall")
    parser.add_argument("--traces", default=",".join(name for group in GROUPS.values() for name in group))
    asked = parser.parse_args()
    traces = {name: read_access_trace(DATA / f"{name}.parquet", print) for name in asked.traces.split(",")}
    for share in map(float, asked.shares.split(",")):
        for delay in map(int, asked.delays.split(",")):
            print(f"cache {share:.0%}, delay {delay}")
            removed: dict[tuple[str, str], list[float]] = {}
            for group, names in GROUPS.items():
                for name in (n for n in names if n in traces):
                    settings = AccessReplaySettings(asked.policies, max(int(share * traces[name].items), 1), delay)
                    points = replay_access(traces[name], settings, lambda *_: None).points
                    for policy in settings.names:
                        best = max((p for p in points if p.policy == policy), key=lambda p: p.scores.removed_share)
                        removed.setdefault((group, policy), []).append(best.scores.removed_share)
                        print(f"  {name:20} {_line(best)}", flush=True)
            for (group, policy), shares in removed.items():
                print(f"  {group:20} {policy:18} mean {np.mean(shares):.3f}, worst {min(shares):.3f}", flush=True)


def _line(point: AccessPoint) -> str:
    s = point.scores
    gained = s.hit_ratio - (1 - s.plain_misses / s.accesses)
    return (
        f"{point.policy:18} {point.knob:14} removed {s.removed_share:6.3f}, at jumps {s.jump_removed_share:6.3f}, "
        f"precision {s.precision:.2f}, in time {s.timeliness:.2f}, coverage {s.coverage:.3f}, "
        f"pollution {s.pollution:.3f}, hit ratio {gained:+.4f}, {s.issued / s.accesses:.2f} an access"
    )


if __name__ == "__main__":
    main()
