"""Whether a model that was trained takes over: only if it is better on what neither was trained on.

A training can be poisoned without an error: by samples that never change, by a fleet of one VM, by numbers that
diverge. What comes out then may be anything, so nothing takes over that did not win on the newest part of the past.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from forestall.learning.recurrent.model import RecurrentModel
from forestall.learning.recurrent.scoring import losses
from forestall.learning.recurrent.tape import REMEMBERED_STEPS, Tape
from forestall.model.errors import BadInput
from forestall.model.forecast import Target
from forestall.model.samples import FloatArray

LEAST_VMS = 2
LEAST_CHANGING_SHARE = 0.001
SMALLEST_CHANGE = 1e-6
HELD_OUT_SHARE, HELD_OUT_SECONDS = 0.1, 86_400


Trainer = Callable[[Tape, tuple[Target, ...], int, RecurrentModel | None], RecurrentModel]
"""Makes a model: what to learn from, what to forecast, a seed, and a model to go on with."""


@dataclass(frozen=True)
class Verdict:
    """Whether a candidate takes over, why, and the losses that decided it, by name."""

    accepted: bool
    reason: str
    scores: dict[str, float] = field(default_factory=dict)


def held_out_steps(tape: Tape) -> int:
    """How many of the newest steps models are compared on, and not trained on: a tenth, at most a day."""
    return round(min(HELD_OUT_SHARE * tape.steps, HELD_OUT_SECONDS / tape.step_seconds))


def succeed(
    tape: Tape, targets: tuple[Target, ...], trainer: Trainer, current: RecurrentModel | None, seed: int
) -> tuple[RecurrentModel | None, Verdict]:
    """Train a model on all but the newest part of a tape; it, if it takes over, and the verdict on it."""
    if reason := unfit(tape):
        return None, Verdict(False, reason)
    seen = tape.steps - held_out_steps(tape)
    candidate = trainer(tape.part(0, seen), targets, seed, current)
    verdict = judge(candidate, current, tape, seen)
    return candidate if verdict.accepted else None, verdict


def judge(candidate: RecurrentModel, current: RecurrentModel | None, tape: Tape, seen: int) -> Verdict:
    """Compare a candidate with the model in use.

    Parameters
    ----------
    candidate
        Was trained on the steps before ``seen``.
    current
        The model in use, which the candidate has to beat; None: there is none, and it has to beat the last value.
    tape
        The past; from ``seen`` on it is what models are compared on.
    """
    if reason := unfit(tape):
        return Verdict(False, reason)
    first = max(seen - REMEMBERED_STEPS, 0)
    held_out = tape.part(first, tape.steps)
    try:
        own = losses(candidate, held_out, seen - first)
    except BadInput as error:
        return Verdict(False, f"it {error}")
    if not np.isfinite(own).any() or np.isinf(own).any():
        return Verdict(False, "its forecasts are not numbers")
    persistence = _persistence(held_out.part(seen - first, held_out.steps), candidate)
    median = float(np.nanmean(own[:, candidate.about.levels.index(0.5)]))
    scores = {"candidate_median": median, "last_value_median": persistence}
    common = [t for t in candidate.about.targets if t in current.about.targets] if current else []
    if not current or not common:
        if median > persistence:
            return Verdict(False, f"it is worse than the last value ({median:.4g} to {persistence:.4g})", scores)
        if current:
            return Verdict(True, "it forecasts what is wanted, and the model in use does not", scores)
        return Verdict(True, f"better than the last value ({median:.4g} to {persistence:.4g})", scores)
    theirs = losses(current, held_out, seen - first)
    mine, other = (_mean(model, values, common) for model, values in ((candidate, own), (current, theirs)))
    scores |= {"candidate": mine, "current": other}
    if mine >= other:
        return Verdict(False, f"it is no better than the model in use ({mine:.4g} to {other:.4g})", scores)
    return Verdict(True, f"better than the model before ({mine:.4g} to {other:.4g})", scores)


def unfit(tape: Tape) -> str:
    """Why nothing can be learned from a tape; empty if it can."""
    vms = int(np.isfinite(tape.actual).any(axis=0).sum())
    if vms < LEAST_VMS:
        return f"there are samples of {vms} VM{'s' if vms != 1 else ''} only"
    steps = np.diff(tape.actual, axis=0) / tape.scale[1:]
    known = np.isfinite(steps)
    changing = (np.abs(steps[known]) > SMALLEST_CHANGE).mean() if known.any() else 0.0
    if changing < LEAST_CHANGING_SHARE:
        return "the samples do not change"
    return ""


def _persistence(tape: Tape, model: RecurrentModel) -> float:
    """Mean loss of the last value as the median, as :func:`losses` has it."""
    outcomes = np.abs(tape.outcomes(model.about.targets) * tape.scale[..., None])
    known = np.isfinite(outcomes).sum(axis=(0, 1))
    # Of a target further ahead than the tape is long nothing is known.
    return float((np.nansum(outcomes, axis=(0, 1))[known > 0] / known[known > 0]).mean())


def _mean(model: RecurrentModel, values: FloatArray, targets: list[Target]) -> float:
    return float(np.nanmean(values[[model.about.targets.index(t) for t in targets]]))
