"""Who is listened to when, what becomes of it, and what rules and others are told."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

import numpy as np
import pytest

from forestall.demand.view import VmView
from forestall.demand.watching import Score
from forestall.model.applications import CLAIMS
from forestall.model.errors import GuestError, HypervisorError
from forestall.model.mode import Mode
from forestall.model.resources import Resource
from forestall.ports.traffic import Flow, Taps
from forestall.ports.vectors import Profile, VectorBatch, VectorKind
from forestall.profiling.applications import FEATURES
from forestall.service import recognition as module
from forestall.service.outside import NAMES, SCORE_NAMES, SCORE_SECONDS, TAG_SECONDS, VECTOR_SECONDS, Outside
from forestall.service.recognition import (
    AGAIN_ROUNDS,
    NEW_ROUNDS,
    PUZZLING_ROUNDS,
    ROUND_VMS,
    Recognition,
    described,
    summed_up,
)

WEB = Flow("HTTP", "Web", True, 6, 80, 90_000, 90, "abcd")


class Model:
    """Takes every VM for what a test says."""

    def __init__(self) -> None:
        self.claim = "unknown"

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        assert features.shape[1] == len(FEATURES)
        return np.tile([0.94 if claim == self.claim else 0.01 for claim in CLAIMS], (len(features), 1))


class Ear:
    """Hears that everybody serves pages."""

    def __init__(self) -> None:
        self.rounds: list[dict[str, bytes]] = []
        self.error: Exception | None = None
        self.ill = ""
        self.flows: list[Flow] = [WEB]

    def listen(self, taps: Mapping[str, Taps], keys: Mapping[str, bytes]) -> Mapping[str, Sequence[Flow]]:
        self.rounds.append(dict(keys))
        assert taps.keys() == keys.keys()
        if self.error:
            raise self.error
        if self.ill in taps:
            raise HypervisorError("nfstream has died")
        return dict.fromkeys(taps, self.flows)


def taps(*vm_ids: str) -> dict[str, Taps]:
    return {vm_id: Taps((f"tap-{vm_id}",), None, vm_id) for vm_id in vm_ids}


class Setting:
    """A recognition, and everything around it."""

    def __init__(self, ear: Ear | None) -> None:
        self.model, self.kept, self.notes = Model(), list[VectorBatch](), list[str]()
        self.recognition = Recognition(
            self.model,  # type: ignore[arg-type]
            ear,
            lambda group: f"key of {group}".encode().ljust(16),
            lambda vm_ids: ["red" if vm_id.startswith("r") else "" for vm_id in vm_ids],
            self.kept.append,
            lambda: 1234.0,
            self.notes.append,
        )

    def follow(self, *vm_ids: str) -> None:
        self.recognition.follow(vm_ids, taps(*vm_ids))

    def behave(self, claim: str, *vm_ids: str) -> None:
        self.model.claim = claim
        at = np.zeros(len(vm_ids), np.int64)
        self.recognition.behave(
            VectorBatch(VectorKind.PROFILE, NAMES, vm_ids, at, np.ones((len(vm_ids), len(NAMES)), np.float32))
        )

    def application(self, vm_id: str) -> str:
        return self.recognition.signatures()[vm_id].application[0]


@pytest.fixture
def ear() -> Ear:
    return Ear()


@pytest.fixture
def setting(ear: Ear) -> Setting:
    return Setting(ear)


def test_the_new_are_listened_to_first_and_everybody_again_later(setting: Setting, ear: Ear) -> None:
    names = [f"vm{number:02}" for number in range(ROUND_VMS + 2)]
    setting.follow(*names)
    setting.recognition.listen()
    setting.recognition.listen()
    assert set(ear.rounds[0]) == set(names[:ROUND_VMS])
    assert set(names[ROUND_VMS:]) < set(ear.rounds[1])
    for _ in range(20):
        setting.recognition.listen()
    heard = [sum(name in mine for mine in ear.rounds) for name in names]
    assert NEW_ROUNDS <= min(heard) <= max(heard) <= NEW_ROUNDS + -(-20 // AGAIN_ROUNDS)
    quiet = len(ear.rounds)
    setting.follow(*names, "late")
    setting.recognition.listen()
    assert "late" in ear.rounds[quiet]


def test_who_serves_what_is_not_recognised_is_listened_to_for_longer(setting: Setting, ear: Ear) -> None:
    setting.follow("riddle")
    ear.flows = [WEB._replace(protocol="", category="")]
    for _ in range(PUZZLING_ROUNDS + 3):
        setting.recognition.listen()
    assert len(ear.rounds) == PUZZLING_ROUNDS, "and not for ever"
    setting.follow("riddle", "solved")
    for flows in (ear.flows, ear.flows, [WEB], [WEB], [WEB]):
        ear.flows = flows
        setting.recognition.listen()
    assert sum("solved" in mine for mine in ear.rounds) == NEW_ROUNDS


def test_each_trust_group_has_its_key(setting: Setting, ear: Ear) -> None:
    setting.follow("red-1", "other")
    setting.recognition.listen()
    assert ear.rounds[0]["red-1"] != ear.rounds[0]["other"]


def test_a_vm_that_is_gone_is_forgotten(setting: Setting) -> None:
    setting.follow("a", "b")
    setting.recognition.listen()
    assert setting.application("a") == "web"
    setting.follow("b")
    setting.follow("a", "b")
    assert (setting.application("a"), setting.application("b")) == ("unknown", "web")


def test_without_an_ear_behaviour_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    setting = Setting(None)
    setting.follow("a", "b")
    for _ in range(20):
        setting.behave("database", "a", "somebody else")
    setting.recognition.listen()
    assert (setting.application("a"), setting.application("b")) == ("database", "unknown")
    setting.recognition.listen()
    (batch,) = setting.kept
    assert (batch.kind, batch.vm_ids, batch.at.tolist()) == (VectorKind.SIGNATURE, ("a",), [1234])
    assert batch.names == module.NAMES
    row = dict(zip(batch.names, batch.values[0].tolist(), strict=True))
    assert np.isnan(row["traffic_web"])
    assert row["together_database"] > 0.8
    batch.check()


def test_listening_that_fails_is_said_and_tried_again(
    setting: Setting, ear: Ear, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ROUND_SECONDS", 0.01)
    ear.error = HypervisorError("traffic is not recognised: nfstream is ill")
    setting.follow("a")
    setting.recognition.start()
    try:
        _until(lambda: len(ear.rounds) > 2)
        ear.error = None
        _until(lambda: setting.application("a") == "web")
    finally:
        setting.recognition.close()
    assert setting.notes[0] == "applications are not recognised: traffic is not recognised: nfstream is ill"


def test_after_the_end_nothing_is_kept_or_said(setting: Setting, ear: Ear) -> None:
    setting.follow("a")
    setting.recognition.close()
    for _ in range(4):
        setting.recognition.listen()
    assert setting.application("a") == "unknown"
    assert setting.kept == []


def _until(condition) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_was_recognised_is_not_let_go_at_the_first_doubt(setting: Setting) -> None:
    setting.follow("a")
    for _ in range(30):
        setting.behave("cache", "a")
    assert setting.recognition.recognised(0.9) == {"a": "cache"}
    setting.behave("unknown", "a")
    assert 0.7 < setting.recognition.signatures()["a"].application[1] < 0.9
    assert setting.recognition.recognised(0.9) == {"a": "cache"}
    for _ in range(10):
        setting.behave("unknown", "a")
    assert setting.recognition.recognised(0.9) == {}


def test_whoever_asks_for_more_certainty_does_not_inherit_what_less_was_enough_for(setting: Setting) -> None:
    setting.follow("a")
    for _ in range(3):
        setting.behave("cache", "a")
    assert setting.recognition.recognised(0.6) == {"a": "cache"}
    assert setting.recognition.recognised(0.9) == {}


def test_another_vm_of_the_same_name_inherits_nothing(setting: Setting) -> None:
    setting.follow("a")
    setting.recognition.listen()
    assert setting.application("a") == "web"
    setting.recognition.follow(("a",), {"a": Taps(("tap-a",), None, "another")})
    assert setting.application("a") == "unknown"


def test_one_vm_that_makes_listening_fail_does_not_hide_the_others(setting: Setting, ear: Ear) -> None:
    names = [f"vm{number}" for number in range(ROUND_VMS + 2)]
    setting.follow(*names)
    for _ in range(20):
        setting.behave("idle", *names)
    ear.ill = "vm0"
    for _ in range(30):
        with suppress(HypervisorError):
            setting.recognition.listen()
    assert {name for name in names if setting.application(name) == "web"} == set(names[1:])
    assert any("vm0" in batch.vm_ids for batch in setting.kept), "what is known otherwise is kept meanwhile"


def test_small_numbers_do_not_leave_a_trust_group(setting: Setting) -> None:
    names = ("a1", "a2", "a3", "r1", "r2")
    setting.follow(*names)
    for _ in range(20):
        setting.behave("web", *names)
    for _ in range(200):
        setting.behave("idle", "a3")
    found = setting.recognition.signatures()
    groups = ["", "", "", "red", "red"]
    (row,) = summed_up({name: found[name] for name in names[:4]}, groups[:4], 2)
    assert (row["trust_group"], row["application"], row["vms"]) == ("", "web", 2)
    assert len(summed_up({name: found[name] for name in names}, groups, 2)) == 2
    assert summed_up({name: found[name] for name in names}, groups, 3) == []


def test_a_signature_is_described_with_what_rules_take_it_for(setting: Setting, ear: Ear) -> None:
    setting.follow("a")
    setting.recognition.listen()
    told = described("a", setting.recognition.signatures()["a"], "web")
    assert (told["application"], told["tag"], told["behaviour"]) == ("web", "web", None)
    assert told["traffic"]["web"] > 0.95
    assert told["protocols"] == {"HTTP": 90_000}
    assert told["names"] == {"abcd": 90_000}


class Loop:
    """A loop that sees one VM."""

    def __init__(self) -> None:
        self.recognises_at: float | None = None
        self.told: Mapping[str, str] = {}

    def views(self) -> list[VmView]:
        parts = {Resource.CPU: 0.5, Resource.NET_TX: 1e6}
        return [
            VmView(vm, resource, seen, seen, 1.0, 2.0, 1.0, {}, 0.0, Mode.ADVISE, False, None, "", "")
            for vm in ("in", "out")
            for resource, seen in parts.items()
        ]

    def anomaly_scores(self) -> Mapping[str, Score]:
        return {"in": Score(0.25, {Resource.CPU: 1.0}), "out": Score(0.75, {Resource.CPU: 0.5, Resource.MEMORY: 0.5})}

    def recognise(self, applications: Mapping[str, str]) -> Mapping[str, str]:
        self.told = applications
        return applications

    def trust_groups(self, vm_ids: Sequence[str]) -> tuple[str, ...]:
        return ("",) * len(vm_ids)


class Host:
    def taps(self) -> Mapping[str, Taps]:
        return taps("in", "out")


class Beside:
    """What stands beside a loop, in a time of its own."""

    def __init__(self, ear: Ear, store: Store | None = None) -> None:
        self.setting, self.loop, self.now = Setting(ear), Loop(), 1000.0
        self.outside = Outside(
            self.loop,
            Host(),
            self.setting.recognition,
            lambda: {"in"},
            self.setting.kept.append,
            lambda: self.now,
            lambda: self.now,
            self.setting.notes.append,
            store,  # type: ignore[arg-type]
        )

    def turn(self, seconds: float = 5.0) -> None:
        self.now += seconds
        self.outside.turn()

    def kept(self, kind: VectorKind) -> list[VectorBatch]:
        return [batch for batch in self.setting.kept if batch.kind is kind]


def test_vms_without_an_agent_have_vectors_from_outside(ear: Ear) -> None:
    beside = Beside(ear)
    beside.turn(VECTOR_SECONDS / 2)
    assert beside.kept(VectorKind.PROFILE) == []
    beside.turn(VECTOR_SECONDS / 2)
    (batch,) = beside.kept(VectorKind.PROFILE)
    assert (batch.vm_ids, batch.names) == (("out",), NAMES)
    row = dict(zip(batch.names, batch.values[0].tolist(), strict=True))
    assert (row["cpu_cores"], row["net_tx_bytes_per_s"]) == (0.5, 1e6)
    assert np.isnan(row["mem_bytes"])


def test_scores_are_kept_now_and_then_with_their_causes(ear: Ear) -> None:
    beside = Beside(ear)
    for _ in range(10):
        beside.turn(SCORE_SECONDS / 5)
    first, *_ = batches = beside.kept(VectorKind.SCORE)
    assert len(batches) == 2
    assert (first.vm_ids, first.names) == (("in", "out"), SCORE_NAMES)
    assert first.values[:, 0].tolist() == [0.25, 0.75]
    assert dict(zip(SCORE_NAMES, first.values[1].tolist(), strict=True))["cause_memory"] == 0.5


def test_rules_are_told_only_where_the_operator_wants_it(ear: Ear) -> None:
    beside = Beside(ear)
    beside.turn()
    beside.setting.recognition.listen()
    beside.turn()
    assert beside.loop.told == {}
    beside.loop.recognises_at = 0.9
    beside.turn(TAG_SECONDS)
    assert beside.loop.told == {"in": "web", "out": "web"}
    assert "in: rules take it for 'web', which was recognised" in beside.setting.notes
    assert [row["tag"] for row in beside.outside.applications()] == ["web", "web"]
    assert beside.outside.summed_up(0) == beside.outside.summed_up(2)
    assert beside.outside.summed_up(2) == [{"trust_group": "", "application": "web", "vms": 2, "probability": 0.9829}]
    beside.loop.recognises_at = None
    beside.turn()
    assert beside.loop.told != {}, "it is looked at now and then"
    beside.turn(TAG_SECONDS)
    assert "in: rules do not take it for 'web' any more" in beside.setting.notes


class Store:
    """Keeps the vectors of one VM, all of Monday's first hour."""

    def profile(self, vm_id: str) -> Profile:
        names = ("cpu_cores",) if vm_id == "out" else ()
        return Profile(names, np.full((168, len(names)), 0.5), np.eye(1, 168, dtype=np.int64)[0])


def test_every_vm_that_has_vectors_has_a_profile_with_or_without_an_agent(ear: Ear) -> None:
    beside = Beside(ear)
    with pytest.raises(GuestError, match="kept by the controller"):
        beside.outside.profile("out")
    beside = Beside(ear, Store())
    found = beside.outside.profile("out")
    assert (found["vectors"][:2], found["mean"]["cpu_cores"][0]) == ([1, 0], 0.5)
    with pytest.raises(GuestError, match="in: no vector is kept"):
        beside.outside.profile("in")
