"""Risk scores against brute force and values worked out by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forestall.replay.scores.risk import RiskCounts, RiskScores
from forestall.replay.scores.warning import score_warnings

NAN = float("nan")
GRID = [0.0, 1e-4, 0.01, 0.2, 0.5, 0.9, 1.0]
pairs = st.lists(st.tuples(st.sampled_from(GRID), st.booleans()), min_size=1, max_size=60)


def scored(probability: list[float], outcome: list[bool], bins: int = 15) -> RiskScores:
    counts = RiskCounts()
    counts.add(np.array(probability), np.array(outcome))
    return counts.scores(bins)


def test_hand_computed_scores() -> None:
    scores = scored([0.1, 0.1, 0.8, 0.8], [False, True, True, True], 2)
    assert scores.base_rate == 0.75
    assert scores.brier == pytest.approx((0.01 + 0.81 + 0.04 + 0.04) / 4)
    assert scores.brier_skill == pytest.approx(1 - 0.225 / 0.1875)
    assert scores.auc == pytest.approx((1 * 0.5 + 2 * 1) / 3)
    assert scores.auprc == pytest.approx(2 / 3 * 1.0 + 1 / 3 * 0.75)
    assert [(b.count, b.stated, b.observed) for b in scores.reliability] == [
        (2, pytest.approx(0.1), 0.5),
        (2, pytest.approx(0.8), 1.0),
    ]
    assert scores.ece == pytest.approx((0.4 + 0.2) / 2)


@given(pairs)
@settings(max_examples=100)
def test_auc_is_the_share_of_pairs_in_order(rows: list[tuple[float, bool]]) -> None:
    hits = [p for p, y in rows if y]
    misses = [p for p, y in rows if not y]
    won = [1.0 if a > b else 0.5 if a == b else 0.0 for a in hits for b in misses]
    expected = float(np.mean(won)) if won else NAN
    assert scored([p for p, _ in rows], [y for _, y in rows]).auc == pytest.approx(expected, nan_ok=True)


@given(pairs, st.integers(0, 60))
@settings(max_examples=50)
def test_parts_add_up(rows: list[tuple[float, bool]], cut: int) -> None:
    p, y = np.array([r[0] for r in rows]), np.array([r[1] for r in rows])
    parts = RiskCounts()
    parts.add(p[:cut], y[:cut])
    parts.add(p[cut:], y[cut:])
    whole = scored(p.tolist(), y.tolist())
    assert parts.scores().brier == pytest.approx(whole.brier)
    assert parts.scores().auprc == pytest.approx(whole.auprc, nan_ok=True)


def test_calibrated_risk_has_almost_no_error_and_nan_is_left_out() -> None:
    rng = np.random.default_rng(0)
    p = rng.beta(0.3, 10, 400_000)
    y = rng.random(len(p)) < p
    p[:5] = NAN
    scores = scored(p.tolist(), y.tolist())
    assert scores.count == len(p) - 5
    assert scores.ece < 0.002
    assert scores.brier_skill > 0.02


def test_no_pairs() -> None:
    scores = RiskCounts().scores()
    assert scores.count == 0
    assert scores.reliability == ()
    assert np.isnan(scores.auc)


def test_one_outcome_only() -> None:
    scores = scored([0.1, 0.2], [False, False])
    assert np.isnan(scores.auc)
    assert np.isnan(scores.brier_skill)


def test_warnings() -> None:
    probability = np.array([[0.0, 0.0], [0.6, 0.0], [0.7, 0.9], [0.1, 0.0], [0.0, NAN], [0.0, 0.0]])
    violated = np.zeros((6, 2), dtype=bool)
    violated[3:5, 0] = True  # begins at 3; alarms at rows 1 and 2: known 5 minutes before it began
    violated[1, 1] = True  # never warned
    scores = score_warnings(probability, violated, 0.5, 3, 300)
    assert scores.onsets == 2
    assert scores.warned_share == 0.5
    assert scores.median_lead_seconds == 300
    assert scores.alarms_per_vm_day == pytest.approx(2 / (11 * 300 / 86_400))


def test_an_alarm_before_the_horizon_does_not_count() -> None:
    probability, violated = np.zeros((6, 1)), np.zeros((6, 1), dtype=bool)
    probability[0], violated[5] = 0.9, True
    assert score_warnings(probability, violated, 0.5, 3, 300).warned_share == 0.0
