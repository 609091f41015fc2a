"""Trains the classifier that tells by its behaviour what runs in a VM, and shows what it can tell.

    python tools/train_applications.py gather --train RECORDING.parquet... --test RECORDING.parquet...
    python tools/train_applications.py train

A recording is what ``forestall guest record`` writes about a lab (``forestall lab up --guests
web,redis,database,batch,idle,postgres,stream``), whose guests are named for their roles; ``gather`` makes of some the
vectors of ``benchmarks/recorded/applications.parquet``. While a guest has nothing to do it counts as idle, whatever its
role is. ``train`` trains on those vectors: each is also shown with other amounts of work and on quicker and slower
machines, and with nothing but what a host can see of a VM without an agent. The same vectors and seed give the same
model.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import lightgbm
import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet

from forestall.model.applications import CATEGORIES, CLAIMS
from forestall.model.samples import BoolArray, FloatArray, IntArray
from forestall.ports.guest_channel import GuestWindow
from forestall.profiling.applications import FEATURES, ApplicationModel, features_of, visible_outside
from forestall.profiling.behaviour import CPU_FIELDS, NAMES, Behaviour
from forestall.profiling.signature import Recogniser
from forestall.replay.guest_trace import read_guest_trace

VECTORS = Path("benchmarks/recorded/applications.parquet")
OUT = Path("src/forestall/profiling/shipped/applications.txt")
ROLES = {
    "web": "web",
    "redis": "cache",
    "database": "database",
    "postgres": "database",
    "stream": "streaming",
    "batch": "batch",
    "idle": "idle",
}
VECTOR_SECONDS, SEED, COPIES = 10.0, 0, 4
WORK_FACTOR, SPEED_FACTOR, IDLE_FACTOR = 3.0, 4.0, 1.5
SILENCE = ("cpu_cores", "disk_write_bytes_per_s", "disk_read_bytes_per_s", "net_rx_bytes_per_s", "net_tx_bytes_per_s")
RATES = [k for k, name in enumerate(NAMES) if name.removeprefix("peak_").endswith("_per_s")]
CPU = [k for k, name in enumerate(NAMES) if name in (*CPU_FIELDS, "cpu_iowait_cores", "peak_cpu")]
ROUNDS = 40
MIXED_OF, STRANGE_WEIGHT = 6, 1.0
PARAMETERS = {
    "objective": "multiclassova",
    "num_class": len(CATEGORIES) + 1,
    "num_leaves": 8,
    "learning_rate": 0.15,
    "min_data_in_leaf": 60,
    "feature_fraction": 0.3,
    "bagging_fraction": 0.6,
    "bagging_freq": 1,
    "lambda_l2": 10.0,
    "num_threads": 2,
    "verbose": -1,
    "seed": SEED,
    "deterministic": True,
}


def vectors_of(windows: Sequence[GuestWindow]) -> Iterator[FloatArray]:
    """Vectors of one VM, each of :data:`VECTOR_SECONDS`."""
    seen = Behaviour()
    for _, part in groupby(windows, key=lambda window: int(window.at // VECTOR_SECONDS)):
        seen.observe(part)
        for vector in seen.vectors(0).values:
            yield vector.astype(np.float64)


class Vectors(NamedTuple):
    """Vectors (row, name), the role and number of the VM of each row, and the number of its category."""

    values: FloatArray
    roles: list[str]
    vms: IntArray
    labels: IntArray

    def some(self, rows: BoolArray) -> Vectors:
        """Those of some rows."""
        roles = [role for role, chosen in zip(self.roles, rows, strict=True) if chosen]
        return Vectors(self.values[rows], roles, self.vms[rows], self.labels[rows])


def gather(paths: Sequence[Path]) -> Vectors:
    """From recordings."""
    rows: list[FloatArray] = []
    roles: list[str] = []
    vms: list[int] = []
    for recording, path in enumerate(paths):
        for number, (vm_id, windows) in enumerate(groupby(read_guest_trace(path), key=lambda window: window.vm_id)):
            role = vm_id.rpartition("-")[2]
            if role in ROLES:
                mine = list(vectors_of(list(windows)))
                rows += mine
                roles += [role] * len(mine)
                vms += [100 * recording + number] * len(mine)
    values = np.array(rows)
    return Vectors(values, roles, np.array(vms), labels_of(features_of(NAMES, values), roles))


def save(sets: Mapping[str, Vectors], path: Path) -> None:
    """Write sets of vectors, as a table."""
    parts = []
    for name, mine in sets.items():
        columns = {
            "set": [name] * len(mine.roles),
            "role": mine.roles,
            "vm": mine.vms,
            "category": [CATEGORIES[label] for label in mine.labels],
            **{feature: mine.values[:, k].astype(np.float32) for k, feature in enumerate(NAMES)},
        }
        parts.append(pa.table(columns))
    parquet.write_table(pa.concat_tables(parts), path, compression="zstd")


def load(path: Path, name: str) -> Vectors:
    """Read a set of vectors."""
    table = parquet.read_table(path, filters=[("set", "=", name)])
    values = np.stack([table[feature].to_numpy() for feature in NAMES], axis=1).astype(np.float64)
    labels = np.array([CATEGORIES.index(category) for category in table["category"].to_pylist()])
    return Vectors(values, table["role"].to_pylist(), table["vm"].to_numpy(), labels)


def labels_of(features: FloatArray, roles: Sequence[str]) -> IntArray:
    """Number of the category of each row: that of its role, or idle where it does no more than the idle guest."""
    columns = [FEATURES.index(name) for name in SILENCE]
    idle = np.array([role == "idle" for role in roles])
    busiest = np.percentile(features[idle][:, columns], 99, axis=0)
    silent = (features[:, columns] <= busiest + 0.2).all(axis=1)
    return np.array(
        [CATEGORIES.index("idle" if quiet else ROLES[role]) for quiet, role in zip(silent, roles, strict=True)]
    )


def varied(vectors: FloatArray, labels: IntArray, rng: np.random.Generator) -> FloatArray:
    """The same with more or less to do, on quicker or slower machines."""
    idle = labels == CATEGORIES.index("idle")
    most = np.where(idle, np.log(IDLE_FACTOR), np.log(WORK_FACTOR))
    work = np.exp(rng.uniform(-1.0, 1.0, len(vectors)) * most)
    speed = np.exp(rng.uniform(-1.0, 1.0, len(vectors)) * np.log(SPEED_FACTOR))
    result = vectors.copy()
    result[:, RATES] *= work[:, None]
    result[:, CPU] *= (work * speed)[:, None]
    return result


def mixed(features: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Rows of nothing that is: each feature is that of another row (Shi and Horvath, 2006), of one of a few."""
    sources = rng.integers(0, len(features), (len(features), MIXED_OF))
    chosen = rng.integers(0, MIXED_OF, features.shape)
    return np.asarray(features[sources[np.arange(len(features))[:, None], chosen], np.arange(features.shape[1])])


def train(known: Vectors) -> str:
    """Train, as LightGBM's text."""
    vectors, labels = known.values, known.labels
    rng, outside = np.random.default_rng(SEED), visible_outside()
    features, targets = [], []
    for copy in range(COPIES):
        mine = features_of(NAMES, vectors if copy == 0 else varied(vectors, labels, rng))
        features += [mine, np.where(outside, mine, np.nan)]
        targets += [labels, labels]
    real, target = np.concatenate(features), np.concatenate(targets)
    strange = np.concatenate([mixed(mine, rng) for mine in features])
    weight = (len(target) / np.maximum(np.bincount(target, minlength=len(CATEGORIES)), 1))[target]
    data = lightgbm.Dataset(
        np.concatenate([real, strange]),
        np.concatenate([target, np.full(len(strange), len(CATEGORIES))]),
        weight=np.concatenate([weight / weight.mean(), np.full(len(strange), STRANGE_WEIGHT)]),
    )
    return str(lightgbm.train(PARAMETERS, data, ROUNDS).model_to_string())


def claimed(model: str, vectors: FloatArray, *, outside: bool = False) -> FloatArray:
    """Claims (row, claim)."""
    features = features_of(NAMES, vectors)
    return ApplicationModel(model).probabilities(np.where(visible_outside(), features, np.nan) if outside else features)


def show(title: str, truth: Sequence[str], claims: FloatArray) -> None:
    """Print a confusion table: roles against claims, shares of the rows of a role."""
    print(f"\n{title}\n{'':10}" + "".join(f"{claim:>10}" for claim in CLAIMS) + f"{'rows':>7}")
    found = claims.argmax(axis=1)
    for role in dict.fromkeys(truth):
        mine = np.array([other == role for other in truth])
        shares = np.bincount(found[mine], minlength=len(CLAIMS)) / mine.sum()
        print(f"{role:10}" + "".join(f"{share:10.2f}" for share in shares) + f"{int(mine.sum()):7}")


def remembered(claims: FloatArray, numbers: IntArray) -> FloatArray:
    """What a recogniser that has seen all rows of a VM so far takes it for (row, claim)."""
    known: dict[int, Recogniser] = {}
    rows = []
    for number, mine in zip(numbers.tolist(), claims, strict=True):
        known.setdefault(number, Recogniser()).behave(mine)
        rows.append(known[number].signature().together)
    return np.array(rows)


def words(labels: IntArray) -> list[str]:
    """Categories by name."""
    return [CATEGORIES[label] for label in labels]


def evaluate(known: Vectors, test: Vectors, model: str) -> None:
    """Print confusion tables: of recordings that the model was not trained on, and of categories that it never saw."""
    for outside in (False, True):
        told = "the host alone" if outside else "the agent"
        claims = claimed(model, test.values, outside=outside)
        show(f"single vectors, {told}", words(test.labels), claims)
        show(f"as remembered, by role, {told}", test.roles, remembered(claims, test.vms))
    for left_out, category in enumerate(CATEGORIES[:-1]):
        others = known.some(known.labels != left_out)
        strange = test.some(test.labels == left_out)
        if len(strange.labels):
            show(f"{category} never seen", words(strange.labels), claimed(train(others), strange.values))


def main() -> None:
    """Do what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    steps = parser.add_subparsers(dest="step", required=True)
    gathering = steps.add_parser("gather")
    for name in ("train", "test"):
        gathering.add_argument(f"--{name}", nargs="+", type=Path, required=True)
    steps.add_parser("train")
    given = parser.parse_args()
    if given.step == "gather":
        save({name: gather(getattr(given, name)) for name in ("train", "test")}, VECTORS)
        return
    known, test = load(VECTORS, "train"), load(VECTORS, "test")
    model = train(known)
    evaluate(known, test, model)
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(model)
    print(f"\n{OUT}: {len(known.labels)} vectors, {OUT.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
