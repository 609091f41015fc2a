"""The decision core of staging: what to bring near after each access.

No I/O, no clock, no threads. An access arrives; what was waited for is answered; places in the history that were like
the present, and runs, name candidates; each is given a probability by the evidence for it; those above the threshold
are asked for. Which threshold that is, is what has cost least of late on shelves that stand side by side, one for
each threshold; on one of them nothing is ever staged, so that a stream that cannot be foreseen is left alone.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from forestall.learning.access import evidence, history, items, odds, runs
from forestall.learning.access.history import MATCHES, ORDERS, Followers, History, Matches
from forestall.learning.access.items import NOBODY, Items
from forestall.learning.access.odds import Odds
from forestall.learning.access.runs import Runs
from forestall.learning.compiled import compiled, entry
from forestall.model.samples import BoolArray, FloatArray, IntArray
from forestall.staging import flight, shelves
from forestall.staging.flight import Flight
from forestall.staging.settings import StagingSettings
from forestall.staging.shelves import REAL, Shelves

QUESTIONS = 1 << 16
EACH = 16
"""So often thresholds are compared, and runs looked at that seem to be none, accesses."""
HOPELESS = 0.02
MOST_USES = 1 << 30
NOW, ACTIVE = 0, 1
FADING, WASTE_COST, INERTIA, STAGE_COST = 0, 1, 2, 3
DELAY, REACH, HORIZON, KEEP = 0, 1, 2, 3


class Core(NamedTuple):
    """All that one staging area knows.

    Attributes
    ----------
    thresholds
        Array (threshold,), increasing.
    whole, real
        Arrays: settings that are whole numbers (delay, reach, horizon, keep; 0: for good), and others (fading, waste
        cost, inertia, stage cost).
    at
        Array (2,): number of the next access, and index of the threshold in force.
    hope
        Array (stream,): probability of the next step of a run when it was looked at last.
    bins
        Array (kind,): evidence of the candidate that is being looked at.
    """

    items: Items
    history: History
    matches: Matches
    followers: Followers
    runs: Runs
    odds: Odds
    shelves: Shelves
    flight: Flight
    thresholds: FloatArray
    whole: IntArray
    real: FloatArray
    at: IntArray
    hope: FloatArray
    bins: NDArray[np.uint8]

    @classmethod
    def of(cls, settings: StagingSettings) -> Core:
        """One that has seen nothing."""
        slots, thresholds = settings.slots, settings.thresholds
        most = len(ORDERS) * MATCHES * settings.reach + settings.reach
        return cls(
            items=Items.of(slots),
            history=History.of(settings.history, settings.streams),
            matches=Matches.none(),
            followers=Followers.none(slots, most),
            runs=Runs.of(settings.streams),
            odds=Odds.of(slots, evidence.KINDS, QUESTIONS),
            shelves=Shelves.of(slots, 1 + len(thresholds), settings.cache_items),
            flight=Flight.of(slots),
            thresholds=np.array(thresholds),
            whole=np.array([settings.delay, settings.reach, settings.horizon, settings.keep or 0], np.int64),
            real=np.array(
                [1.0 - 1.0 / settings.memory_accesses, settings.waste_cost, settings.inertia, settings.stage_cost]
            ),
            at=np.array([0, len(thresholds) - 1], np.int64),
            hope=np.ones(settings.streams),
            bins=np.zeros(evidence.KINDS, np.uint8),
        )


class Asked(NamedTuple):
    """What was asked for; arrays (request,), of which the first ``total[0]`` are filled.

    Attributes
    ----------
    access
        Index, within the accesses that were taken in together, of the one after which it was asked for.
    space, number
        The item.
    probability
        That it is used within the horizon.
    """

    access: IntArray
    space: NDArray[np.int32]
    number: IntArray
    probability: FloatArray
    total: IntArray

    @classmethod
    def room(cls, requests: int) -> Asked:
        """Room for so many."""
        return cls(
            np.zeros(requests, np.int64), np.zeros(requests, np.int32), np.zeros(requests, np.int64),
            np.zeros(requests), np.zeros(1, np.int64),
        )  # fmt: skip


@entry
def take_in(core: Core, stream: NDArray[np.int32], space: NDArray[np.int32], number: IntArray, asked: Asked) -> int:
    """Take in accesses (access,) in their order, until there is no room for what is asked for; how many it were."""
    most = len(core.followers.slots)
    asked.total[0] = 0
    for i in range(len(number)):
        if asked.total[0] + most > len(asked.access):
            return i
        _access(core, int(stream[i]) % len(core.hope), int(space[i]), int(number[i]), asked, i)
    return len(number)


@entry
def lose(core: Core, space: NDArray[np.int32], number: IntArray) -> None:
    """Items (item,) are no longer where they were staged or used: somebody else took them away."""
    for i in range(len(number)):
        slot = items.find(core.items, space[i], number[i])
        if slot != NOBODY:
            shelves.lose(core.shelves, slot)


@entry
def holds(core: Core, space: NDArray[np.int32], number: IntArray, found: BoolArray) -> None:
    """Which items (item,) stand on the real shelf: into ``found`` (item,)."""
    for i in range(len(number)):
        slot = items.find(core.items, space[i], number[i])
        found[i] = slot != NOBODY and (core.shelves.on[slot] >> REAL) & 1 == 1


@compiled
def _access(core: Core, stream: int, space: int, number: int, asked: Asked, index: int) -> None:
    now, delay = core.at[NOW], core.whole[DELAY]
    _arrive(core, now)
    _leave(core, now)
    slot = _slot_for(core, space, number)
    odds.answer(core.odds, slot, now, delay)
    odds.give_up(core.odds, now, min(core.whole[HORIZON], core.shelves.life[0]) + delay)
    shelves.use(core.shelves, slot, now, core.real[WASTE_COST], core.real[FADING])
    core.items.uses[slot] = min(core.items.uses[slot] + 1, MOST_USES)
    core.items.last[slot] = now
    history.append(core.history, now, stream, core.items.tag[slot])
    runs.run_on(core.runs, now, stream, space, number)
    if now % EACH == 0:
        core.at[ACTIVE] = shelves.cheapest(core.shelves, core.at[ACTIVE], core.real[INERTIA])
    history.match(core.history, now, core.matches)
    history.gather(core.history, core.items, now, core.matches, delay, core.whole[REACH], core.followers)
    for k in range(core.followers.total[0]):  # so that nobody takes their slots over before they are looked at
        shelves.mention(core.shelves, core.followers.slots[k], False)
    _look_ahead(core, stream, space, number)
    for k in range(core.followers.total[0]):
        _consider(core, core.followers.slots[k], slot, stream, asked, index)
    core.at[NOW] = now + 1


@compiled
def _arrive(core: Core, now: int) -> None:
    """What has arrived comes to stand on the shelves that asked for it."""
    while True:
        place = flight.arriving(core.flight, now, core.whole[DELAY])
        if place < 0:
            return
        slot = items.slot_of(core.items, core.flight.tag[place])
        if slot == NOBODY:
            continue
        for shelf in range(len(core.shelves.cost)):
            if (core.flight.shelves[place] >> shelf) & 1:
                shelves.stage(core.shelves, shelf, slot, now, core.real[WASTE_COST])
                core.shelves.cost[shelf] += core.real[STAGE_COST]
        core.flight.asked[slot] &= ~core.flight.shelves[place]


@compiled
def _leave(core: Core, now: int) -> None:
    """What was staged so long ago that it goes again, unless somebody has used it."""
    if core.whole[KEEP] == 0:
        core.flight.counts[flight.OLDEST] = core.flight.counts[flight.FIRST]
        return
    while True:
        place = flight.aging(core.flight, now, core.whole[DELAY], core.whole[KEEP])
        if place < 0:
            return
        slot = items.slot_of(core.items, core.flight.tag[place])
        if slot != NOBODY:
            shelves.leave(core.shelves, slot, core.flight.shelves[place], core.real[WASTE_COST])


@compiled
def _slot_for(core: Core, space: int, number: int) -> int:
    """Slot of an item that is used or asked about; one that is new takes that of the longest unmentioned."""
    slot = items.find(core.items, space, number)
    if slot != NOBODY:
        shelves.mention(core.shelves, slot, False)
        return slot
    if core.items.total[0] < len(core.items.number):
        slot = core.items.total[0]
        core.items.total[0] += 1
        shelves.mention(core.shelves, slot, True)
    else:
        slot = shelves.longest_unmentioned(core.shelves)
        items.forget(core.items, slot)
        core.odds.question[slot] = NOBODY
        core.flight.asked[slot] = 0
        core.followers.asked[slot] = NOBODY
        shelves.mention(core.shelves, slot, False)
    items.name(core.items, slot, space, number)
    return slot


@compiled
def _look_ahead(core: Core, stream: int, space: int, number: int) -> None:
    """Have the next steps of the run that the access is in among the candidates; of what seems to be no run, seldom."""
    now, run = core.at[NOW], core.runs.now
    if run[runs.LENGTH] == 0 and core.hope[stream] < HOPELESS and now % EACH != 0:
        return
    lead = core.whole[DELAY] // run[runs.GAP]
    for ahead in range(1, core.whole[REACH] + 1):
        slot = _slot_for(core, space, number + run[runs.STEP] * (lead + ahead))
        history.ask(core.followers, slot, now)
        core.followers.ahead[slot] = ahead


@compiled
def _consider(core: Core, slot: int, used: int, stream: int, asked: Asked, index: int) -> None:
    """Ask for an item, unless it is there, on the shelves whose threshold its probability is above."""
    if core.shelves.on[slot] == (1 << len(core.shelves.cost)) - 1:
        return
    now = core.at[NOW]
    evidence.weigh(
        core.bins, core.items, core.matches, core.followers, core.runs, core.shelves.life[0], now, used, slot
    )
    chance = odds.probability(core.odds, core.bins)
    odds.wait(core.odds, slot, now, core.bins)
    if core.followers.ahead[slot] == 1:
        core.hope[stream] = chance
    wanted = 0
    for k in range(len(core.thresholds)):
        if chance > core.thresholds[k]:
            wanted |= 1 << (k + 1)
    if chance > core.thresholds[core.at[ACTIVE]]:
        wanted |= 1 << REAL
    wanted &= ~(core.shelves.on[slot] | core.flight.asked[slot])
    if wanted and flight.send(core.flight, core.items.tag[slot], slot, now, wanted) and (wanted >> REAL) & 1:
        k = asked.total[0]
        asked.access[k], asked.space[k], asked.number[k] = index, core.items.space[slot], core.items.number[slot]
        asked.probability[k] = chance
        asked.total[0] = k + 1
