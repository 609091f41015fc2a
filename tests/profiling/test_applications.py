"""What runs in a VM, by how it behaves: features without size, claims that sum to one, the model that is shipped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from forestall.bootstrap.beside import shipped_model
from forestall.model.applications import CATEGORIES, CLAIMS
from forestall.profiling.applications import (
    FEATURES,
    OUTSIDE,
    RATIOS,
    ApplicationModel,
    claims_of,
    features_of,
    visible_outside,
)
from forestall.profiling.behaviour import NAMES

RECORDED = Path(__file__).parents[2] / "benchmarks" / "recorded" / "applications.parquet"


def recorded() -> tuple[np.ndarray, np.ndarray]:
    """Vectors of a lab that the shipped model was not trained on (other ports, other loads), and their categories."""
    table = parquet.read_table(RECORDED, filters=[("set", "=", "test")])
    values = np.stack([table[name].to_numpy() for name in NAMES], axis=1).astype(np.float64)
    return values, np.array([CATEGORIES.index(category) for category in table["category"].to_pylist()])


def vector(**values: float) -> np.ndarray:
    return np.array([[values.get(name, 0.0) for name in NAMES]])


def feature(values: np.ndarray, name: str) -> float:
    return float(values[0, FEATURES.index(name)])


def test_ratios_do_not_say_how_much_there_is_to_do() -> None:
    little = features_of(NAMES, vector(cpu_user_cores=0.2, cpu_system_cores=0.1, net_tx_bytes_per_s=4e5))
    much = features_of(NAMES, vector(cpu_user_cores=0.4, cpu_system_cores=0.2, net_tx_bytes_per_s=8e5))
    assert feature(much, "cpu_cores") - feature(little, "cpu_cores") == pytest.approx(np.log(2), abs=0.01)
    for name in ("cpu_system_cores/cpu_cores", "net_tx_bytes_per_s/cpu_cores"):
        assert feature(little, name) == pytest.approx(feature(much, name), abs=0.01)


def test_a_host_alone_knows_a_part_and_the_rest_is_not_known() -> None:
    names = (*OUTSIDE, "mem_bytes")
    found = features_of(names, np.ones((2, len(names))))
    assert (np.isfinite(found) == visible_outside()).all()
    assert visible_outside().sum() > len(OUTSIDE)
    assert len(FEATURES) == len(set(FEATURES)) > len(RATIOS)


@given(arrays(np.float64, (3, len(CATEGORIES)), elements=st.floats(0, 1)))
def test_claims_are_probabilities(each: np.ndarray) -> None:
    claims = claims_of(each)
    assert claims.sum(axis=1) == pytest.approx(1.0)
    assert ((claims >= 0) & (claims <= 1)).all()
    assert (claims[:, :-1].argmax(axis=1) == np.clip(each, 1e-6, 1 - 1e-6).argmax(axis=1)).all()


def test_what_nobody_claims_is_unknown() -> None:
    claims = claims_of(np.array([[0.01] * len(CATEGORIES), [0.01, 0.95, 0.01, 0.01, 0.01, 0.01], [0.0] * 6]))
    assert [CLAIMS[place] for place in claims.argmax(axis=1)] == ["unknown", "database", "unknown"]


def test_a_model_of_other_features_is_refused() -> None:
    import lightgbm

    data = lightgbm.Dataset(np.random.default_rng(0).normal(size=(100, 2)), np.arange(100) % 2)
    text = lightgbm.train({"objective": "binary", "verbose": -1}, data, 2).model_to_string()
    with pytest.raises(ValueError, match="2 features"):
        ApplicationModel(text)


def test_nobody_is_nothing() -> None:
    assert shipped_model().probabilities(np.zeros((0, len(FEATURES)))).shape == (0, len(CLAIMS))


def test_a_vm_of_which_only_cpu_is_measured_is_unknown_and_not_idle() -> None:
    names = ("cpu_cores", "net_tx_bytes_per_s")
    (claims,) = shipped_model().probabilities(features_of(names, np.array([[0.3, 1e5]])))
    assert claims.tolist() == [0.0] * len(CATEGORIES) + [1.0]


@pytest.mark.parametrize(("outside", "least"), [(False, 0.85), (True, 0.7)])
def test_the_shipped_model_knows_guests_at_other_ports_and_loads(outside: bool, least: float) -> None:
    """On a recording that it was not trained on."""
    values, labels = recorded()
    features = features_of(NAMES, values)
    claims = shipped_model().probabilities(np.where(visible_outside(), features, np.nan) if outside else features)
    found = claims.argmax(axis=1)
    right = [float((found[labels == k] == k).mean()) for k in range(len(CATEGORIES))]
    assert min(right) > 0.5, dict(zip(CATEGORIES, right, strict=True))
    assert np.mean(right) > least, dict(zip(CATEGORIES, right, strict=True))


def test_what_is_no_application_is_unknown() -> None:
    """Each feature from another vector."""
    values, _ = recorded()
    features, rng = features_of(NAMES, values), np.random.default_rng(1)
    strange = np.stack([rng.permutation(column) for column in features.T], axis=1)
    found = shipped_model().probabilities(strange).argmax(axis=1)
    assert (found == CLAIMS.index("unknown")).mean() > 0.8
