"""``forestall replay memory``: the whole command, causal to the byte, the same again, scored as the contract says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from forestall.cli import main
from forestall.replay.memory.peers import PEERS

DATA = Path(__file__).parents[3] / "shared" / "data" / "memory"


def touches(rows: int = 3000, seed: int = 3) -> pd.DataFrame:
    """Three VMs in two groups: ``a`` and, later, ``b`` run the same program; ``c`` another one."""
    rng = np.random.default_rng(seed)

    def program() -> list[int]:
        found: dict[int, None] = {}
        while len(found) < rows:
            start, step = int(rng.integers(0, 1 << 26)), int(rng.choice([1, 1, -1]))
            found |= dict.fromkeys(start + step * k for k in range(int(rng.integers(4, 40))) if start + step * k >= 0)
        return list(found)

    one, other = program(), program()
    order = np.concatenate([rng.choice(["a", "c"], rows // 2), rng.choice(["b", "c"], rows - rows // 2)])
    taken = {"a": iter(one), "b": iter(one), "c": iter(other)}
    frame = pd.DataFrame({"vm_id": order, "page": [next(taken[vm]) for vm in order]})
    frame["trust_group"] = np.where(frame.vm_id == "c", "theirs", "ours")
    frame.insert(0, "sequence", 5 + 2 * np.arange(rows))
    return frame.astype({"page": np.uint64})


def replay(trace: Path, out: Path, *options: str) -> int:
    return main(["replay", "memory", str(trace), "--out", str(out), "--quiet", *options])


def staging(data: pd.DataFrame, folder: Path, *options: str) -> pd.DataFrame:
    folder.mkdir(parents=True, exist_ok=True)
    data.to_parquet(folder / "in.parquet")
    assert replay(folder / "in.parquet", folder / "out", *options) == 0
    return pd.read_parquet(folder / "out" / "staging.parquet")


def summary(folder: Path) -> dict[str, Any]:
    found = json.loads((folder / "summary.json").read_text())
    assert isinstance(found, dict)
    return found


def judged(data: pd.DataFrame, moves: pd.DataFrame, most: int) -> tuple[int, int]:
    """Touches that were served, and pages that were staged, by the rules of the contract."""
    by_sequence = {int(sequence): part for sequence, part in moves.groupby("sequence")}
    staged: set[tuple[str, int]] = set()
    served = count = 0
    touched: set[tuple[str, int]] = set()
    for row in data.itertuples():
        place = row.vm_id, int(row.page)
        served += place in staged
        staged.discard(place)
        touched.add(place)
        for move in by_sequence.get(int(row.sequence), moves[:0]).itertuples():
            pages = {(move.vm_id, int(move.first_page) + k) for k in range(int(move.pages))}
            if move.action == "stage":
                assert not pages & staged
                assert not pages & touched
                staged |= pages
                count += len(pages)
            else:
                assert move.action == "evict"
                assert pages <= staged
                staged -= pages
            assert len(staged) <= most
    return served, count


@pytest.mark.parametrize("options", [(), ("--policy", "next_8"), ("--policy", "history"), ("--staging-bytes", "65536")])
def test_what_is_written_and_what_it_is_worth(tmp_path: Path, options: tuple[str, ...]) -> None:
    data = touches()
    moves = staging(data, tmp_path, *options)
    assert {name: str(kind) for name, kind in moves.dtypes.items()} == {
        "sequence": "int64",
        "vm_id": "object",
        "first_page": "uint64",
        "pages": "int64",
        "action": "object",
    }
    most = 16 if "--staging-bytes" in options else 256
    served, count = judged(data, moves, most)
    told = summary(tmp_path / "out")
    assert told["headline"]["in_time"] == served > 0
    assert told["headline"]["staged"] == count
    assert told["headline"]["coverage"] == pytest.approx(served / len(data))
    assert told["headline"]["precision"] == pytest.approx(served / count)
    assert told["headline"]["most_staged"] <= most
    assert told["header"]["staging_pages"] == most
    assert "of the pages there before they were first touched" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize("options", [(), ("--staging-bytes", "32768"), ("--policy", "leap"), ("--policy", "markov")])
def test_cutting_the_trace_changes_nothing_before(tmp_path: Path, options: tuple[str, ...]) -> None:
    data = touches()
    whole = staging(data, tmp_path / "whole", *options)
    for at in (5, 6, 501, 3005, 3105, 5001):
        again = staging(data[data.sequence <= at], tmp_path / str(at), *options)
        assert again.equals(whole[whole.sequence <= at].reset_index(drop=True)), at


def test_the_same_again_and_in_any_order_of_rows(tmp_path: Path) -> None:
    data = touches(1000)
    one, two = (
        staging(each, tmp_path / name) for name, each in (("one", data), ("two", data.sample(frac=1, random_state=1)))
    )
    assert one.equals(two)


def test_groups_learn_from_their_own_past_alone(tmp_path: Path) -> None:
    data = touches(4000)
    names = data.assign(trust_group="of all")
    apart = data.assign(trust_group=data.vm_id)
    shares = {}
    for name, each in (("groups", data), ("one", names), ("apart", apart), ("none", data.drop(columns="trust_group"))):
        moves = staging(each, tmp_path / name)
        mine = each[each.vm_id == "b"]
        shares[name] = judged(mine, moves[moves.vm_id == "b"], 256)[0] / len(mine)
        if name == "none":
            assert moves.equals(pd.read_parquet(tmp_path / "apart" / "out" / "staging.parquet"))
    assert shares["groups"] > 0.99, "b does what a did"
    assert 1 - shares["groups"] < 0.2 * (1 - shares["apart"])


def test_a_vm_that_begins_anew(tmp_path: Path) -> None:
    data = touches(1500)
    first = data[data.vm_id == "a"]
    twice = pd.concat([first, first.assign(sequence=first.sequence + 10_000)], ignore_index=True)
    moves = staging(twice, tmp_path, "--history-share", "0.5")
    scores = summary(tmp_path / "out")["headline"]
    assert scores["touches"] == len(first)
    assert scores["coverage"] > 0.95
    assert scores["precision"] > 0.95
    assert len(moves)


def test_all_policies_side_by_side(tmp_path: Path) -> None:
    ours = staging(touches(1500), tmp_path, "--policy", "all")
    rows = {row["policy"]: row for row in summary(tmp_path / "out")["policies"]}
    assert list(rows) == ["forestall", *PEERS]
    assert rows["none"]["staged"] == 0
    assert rows["oracle"]["precision"] == 1.0
    assert rows["next_16"]["staged"] > rows["next_8"]["staged"] > rows["next_4"]["staged"]
    assert rows["forestall"]["coverage"] > rows["next_8"]["coverage"]
    assert ours.equals(staging(touches(1500), tmp_path / "alone"))


WRONG = {
    "no column": (lambda d: d.drop(columns="page"), "column page: is missing"),
    "negative": (
        lambda d: d.assign(page=[-1, *([3] * (len(d) - 1))]),
        "row 1, column page: '-1' is not a whole number",
    ),
    "too large": (
        lambda d: d.assign(page=np.uint64(1 << 53)),
        "row 1, column page: 9007199254740992 is not the number of",
    ),
    "no rows": (lambda d: d[:0], "has no rows"),
}


@pytest.mark.parametrize("case", WRONG)
def test_bad_input_is_one_clear_line(tmp_path: Path, case: str, capsys: pytest.CaptureFixture[str]) -> None:
    change, text = WRONG[case]
    change(touches(200)).to_parquet(tmp_path / "in.parquet")
    assert replay(tmp_path / "in.parquet", tmp_path / "out") == 2
    said = capsys.readouterr().err.strip()
    assert "\n" not in said
    assert text in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--policy", "next8"), "did you mean 'next_8'?"),
        (("--staging-bytes", "4095"), "a staging area of 4095 bytes: must hold a page, 4096 bytes"),
        (("--history-share", "-0.1"), "a history of -0.1 of the trace: must be from 0 to below 1"),
    ],
)
def test_wrong_use(tmp_path: Path, options: tuple[str, ...], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    touches(200).to_parquet(tmp_path / "in.parquet")
    assert replay(tmp_path / "in.parquet", tmp_path / "out", *options) == 2
    assert text in capsys.readouterr().err


@pytest.mark.data
@pytest.mark.skipif(not DATA.exists(), reason="the development traces are not here")
def test_real_programs(tmp_path: Path) -> None:
    """Cold, and again with the first run as history: at least what was asked for."""
    cold, again = [], []
    for path in sorted(DATA.glob("first_touch_*.parquet")):
        assert replay(path, tmp_path / path.stem) == 0
        cold.append(summary(tmp_path / path.stem)["headline"])
        first = pd.read_parquet(path)
        second = first.assign(sequence=first.sequence + len(first), vm_id="again")
        staging(pd.concat([first, second]), tmp_path / f"{path.stem}-2", "--history-share", "0.5")
        again.append(summary(tmp_path / f"{path.stem}-2" / "out")["headline"])
    assert np.mean([row["coverage"] for row in cold]) >= 0.93
    assert np.mean([row["precision"] for row in cold]) >= 0.74
    assert min(row["coverage"] for row in again) >= 0.97
    assert min(row["precision"] for row in again) >= 0.95
