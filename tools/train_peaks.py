"""Trains the network of peaks that comes with Forestall, on generated worlds.

    python tools/train_peaks.py [--updates N] [--out FOLDER]

The same seed gives the same model, on the same machine. About an hour on one core.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from forestall.learning.training.peaks import PeakFit, PeakNetwork, fit_peaks

OUT = Path("src/forestall/learning/peaks/shipped")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, default=PeakFit.updates)
    parser.add_argument("--threads", type=int, default=PeakFit.threads)
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args()
    settings = PeakFit(updates=asked.updates, threads=asked.threads)
    last: dict[str, float] = {}

    asked.out.mkdir(parents=True, exist_ok=True)

    def tell(update: int, seconds: float, of_vms: float, of_pools: float, network: PeakNetwork) -> None:
        last.update(updates=update, loss_of_vms=round(of_vms, 5), loss_of_pools=round(of_pools, 5))
        print(f"{update} updates, {seconds:.0f} s: {of_vms:.5f} VMs, {of_pools:.5f} pools", flush=True)
        write(network, last, settings, asked.out)

    write(fit_peaks(settings, tell), last, settings, asked.out)


def write(network: PeakNetwork, last: dict[str, float], settings: PeakFit, out: Path) -> None:
    """Write the network as it is now."""
    (out / "step.onnx").write_bytes(network.graph())
    about = {"trained_on": "generated worlds (learning/training/worlds.py)", "fit": asdict(settings), **last}
    (out / "about.json").write_text(json.dumps(about, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
