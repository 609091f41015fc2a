"""Signatures: what traffic and behaviour say of a VM, each alone and together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forestall.model.applications import CATEGORIES, CLAIMS
from forestall.ports.traffic import Flow
from forestall.profiling.signature import MOST_NAMES, MOST_PORTS, Recogniser, category_of, together

HTTP = Flow("HTTP", "Web", True, 6, 8080, 50_000, 60, "0123")
UNKNOWN_AT_HTTP = HTTP._replace(protocol="", category="", name="")


def claims(**given: float) -> np.ndarray:
    rest = 1.0 - sum(given.values())
    return np.array([given.get(name, rest if name == "unknown" and "unknown" not in given else 0.0) for name in CLAIMS])


def heard(*flows: Flow) -> Recogniser:
    recogniser = Recogniser()
    recogniser.hear(flows)
    return recogniser


@pytest.mark.parametrize(
    ("protocol", "category", "expected"),
    [
        ("HTTP", "Web", "web"),
        ("TLS", "Web", "web"),
        ("HTTP.ntop", "Network", None),
        ("RESP", "Database", "cache"),
        ("Memcached", "RPC", "cache"),
        ("PostgreSQL", "Database", "database"),
        ("RTP", "Media", "streaming"),
        ("DNS", "Network", None),
        ("BitTorrent", "Download", ""),
        ("", "", ""),
    ],
)
def test_protocols_have_categories(protocol: str, category: str, expected: str | None) -> None:
    assert category_of(HTTP._replace(protocol=protocol, category=category)) == expected


def test_nothing_known_is_unknown() -> None:
    signature = Recogniser().signature()
    assert np.isnan(signature.traffic).all()
    assert np.isnan(signature.behaviour).all()
    assert signature.application == ("unknown", 1.0)


def test_what_a_vm_serves_counts_and_what_it_asks_for_does_not() -> None:
    asks = Flow("PostgreSQL", "Database", False, 6, 5432, 10_000_000, 9_000)
    signature = heard(HTTP, asks, Flow("DNS", "Network", True, 17, 53, 900_000, 900)).signature()
    assert signature.application[0] == "web"
    assert signature.application[1] > 0.95
    assert signature.protocols == {"HTTP": 50_000}
    assert signature.names == {"0123": 50_000}


def test_a_few_bytes_say_nothing() -> None:
    assert np.isnan(heard(HTTP._replace(bytes=50)).signature().traffic).all()


def test_a_port_that_was_recognised_tells_of_connections_that_are_not() -> None:
    assert heard(UNKNOWN_AT_HTTP).signature().application[0] == "unknown"
    for flows in ((HTTP._replace(bytes=10), UNKNOWN_AT_HTTP), (UNKNOWN_AT_HTTP, HTTP._replace(bytes=10))):
        assert heard(*flows).signature().application[0] == "web", "whatever comes first"
    other_port = heard(HTTP._replace(bytes=10), UNKNOWN_AT_HTTP._replace(port=99))
    assert other_port.signature().application[0] == "unknown"


def test_what_was_heard_fades() -> None:
    recogniser = heard(HTTP)
    for _ in range(3):
        recogniser.hear([HTTP._replace(protocol="RTP", category="Media", port=5000)])
    assert recogniser.signature().application[0] == "streaming"
    for _ in range(11):
        recogniser.hear([])
    assert np.isnan(recogniser.signature().traffic).all()
    for _ in range(20):
        recogniser.hear([])
    assert recogniser.signature().protocols == {}


def test_what_a_guest_makes_up_is_bounded() -> None:
    recogniser = Recogniser()
    for port in range(3 * MOST_PORTS):
        recogniser.hear([HTTP._replace(port=port, name=f"name {port}", protocol=f"HTTP.{port}")])
    assert len(recogniser._ports) <= MOST_PORTS
    assert len(recogniser.signature().protocols) <= MOST_NAMES
    assert len(recogniser.signature().names) <= MOST_NAMES


def test_a_name_that_is_asked_for_now_takes_the_place_of_old_ones() -> None:
    recogniser = Recogniser()
    for _ in range(3):
        recogniser.hear([HTTP._replace(name=f"old {number}") for number in range(MOST_NAMES)])
    for _ in range(3):
        recogniser.hear([HTTP._replace(name="new")])
    assert "new" in recogniser.signature().names


def test_one_vector_decides_nothing() -> None:
    recogniser = Recogniser()
    recogniser.behave(claims(batch=0.98))
    assert recogniser.signature().application[1] < 0.6
    for _ in range(15):
        recogniser.behave(claims(batch=0.98))
    assert recogniser.signature().application[1] > 0.9


def test_what_was_idle_from_the_beginning_is_soon_known_to_be() -> None:
    recogniser = Recogniser()
    for _ in range(12):
        recogniser.behave(claims(idle=0.98))
    assert recogniser.signature().application[0] == "idle"


def test_behaviour_is_a_mean_and_idleness_is_believed_slowly() -> None:
    recogniser = Recogniser()
    for _ in range(10):
        recogniser.behave(claims(batch=0.9))
    for _ in range(20):
        recogniser.behave(claims(idle=0.98))
    assert recogniser.signature().application[0] == "batch", "it had nothing to do for three minutes"
    for _ in range(300):
        recogniser.behave(claims(idle=0.98))
    assert recogniser.signature().application[0] == "idle"
    for _ in range(20):
        recogniser.behave(claims(web=0.9))
    assert recogniser.signature().application[0] == "web"


def test_both_together_are_surer_than_each() -> None:
    web, perhaps = claims(web=0.7), claims(web=0.6)
    assert together(web, perhaps)[0] > 0.85
    missing = np.full(len(CLAIMS), np.nan)
    assert together(web, missing) == pytest.approx(web)
    assert together(missing, web) == pytest.approx(web)
    assert together(web, claims()) == pytest.approx(web), "who knows nothing takes nothing away"
    assert together(claims(web=0.97), claims(cache=0.8))[0] > 0.5, "traffic that was recognised outweighs a likeness"


@given(*[st.lists(st.floats(0.001, 1), min_size=len(CLAIMS), max_size=len(CLAIMS))] * 2)
def test_together_they_are_probabilities(one: list[float], other: list[float]) -> None:
    found = together(*(np.array(claims) / sum(claims) for claims in (one, other)))
    assert found.sum() == pytest.approx(1.0)
    assert (found >= 0).all()
    assert len(found) == len(CATEGORIES) + 1
