"""The recurrent model: graphs that are the network, inputs of the past alone, succession only by the better."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from series import STEP_SECONDS, fleet

from forestall.learning.past import Past, floor_of
from forestall.learning.recurrent.forecaster import Recurrent, RecurrentSettings
from forestall.learning.recurrent.inputs import CALENDAR, INPUTS, OWN_RATIOS, RATIOS, model_inputs
from forestall.learning.recurrent.model import About, RecurrentModel
from forestall.learning.recurrent.scoring import losses
from forestall.learning.recurrent.serving import Served
from forestall.learning.recurrent.succession import Trainer, judge, unfit
from forestall.learning.recurrent.tape import REMEMBERED_STEPS, Recorder, Tape, joined, tape_of
from forestall.model.errors import BadInput
from forestall.model.forecast import LEVELS, Statistic, Target
from forestall.model.resources import Resource
from forestall.model.samples import Float32Array, FloatArray, Grid, Trace
from forestall.profiling.window import Window
from forestall.testing.forecaster import TARGETS, ForecasterContract, Make

torch = pytest.importorskip("torch", reason="torch is not installed (the extra train)")

from forestall.learning.training.fit import FitSettings, fit  # noqa: E402
from forestall.learning.training.graphs import as_model, weights_of  # noqa: E402
from forestall.learning.training.network import Network  # noqa: E402

MEAN1, PEAK6 = Target(Statistic.MEAN, 1), Target(Statistic.PEAK, 6)
QUICK = FitSettings(hidden=12, passes=20, refresh_passes=2, stream_steps=84, streams=16)
LIMIT = 8.0
GIB = 2.0**30


def network(kind: str = "lstm", targets: tuple[Target, ...] = (MEAN1, PEAK6), seed: int = 0) -> Network:
    """An untrained network that does not treat all inputs alike."""
    torch.manual_seed(seed)
    made = Network(About(kind, 12, Resource.CPU, targets, LEVELS)).eval()
    made.standardise(torch.rand(50, INPUTS) * 4)
    made.settle()
    return made


class Recording:
    """A past that is filled, and the tape of what the model would see."""

    def __init__(self, demand: FloatArray, beside: FloatArray | None = None, limit: float = LIMIT) -> None:
        self.past = Past(Resource.CPU, STEP_SECONDS)
        other = Window(STEP_SECONDS, floor_of(Resource.MEMORY))
        windows = {Resource.MEMORY: other} if beside is not None else {}
        recorder = Recorder(Resource.CPU, self.past.window)
        self.inputs: list[Float32Array] = []
        for i, row in enumerate(demand):
            if beside is not None:
                other.push(GIB * beside[i, : len(row)], np.full(len(row), np.inf))
            self.past.take_in(row, np.full(len(row), limit), i * STEP_SECONDS)
            self.inputs.append(model_inputs(self.past, windows, i * STEP_SECONDS))
            recorder.record(self.inputs[-1].astype(np.float16), i * STEP_SECONDS)
        self.tape = recorder.tape()


@pytest.fixture(scope="module")
def tape() -> Tape:
    """Two and a half days of six VMs."""
    return Recording(fleet(720)).tape


@pytest.fixture(scope="module")
def trained(tape: Tape) -> RecurrentModel:
    """A small model of it."""
    return fit(tape.part(0, 576), (MEAN1, PEAK6), QUICK)


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_the_graphs_are_the_network(kind: str) -> None:
    made = network(kind)
    inputs = torch.rand(9, 5, INPUTS) * 12
    expected, state = made(inputs)
    served = Served(as_model(made))
    after = served.fresh_state(5)
    for step in inputs:
        quantiles, after = served.step(step.numpy(), after, np.array([0, 1]))
    np.testing.assert_allclose(quantiles.swapaxes(0, 1), expected[-1].detach(), rtol=1e-4, atol=1e-5)
    second, _ = served.step(inputs[-1].numpy(), served.fresh_state(5), np.array([1]))
    alone, _ = served.step(inputs[-1].numpy(), served.fresh_state(5), np.array([0, 1]))
    np.testing.assert_array_equal(second[0], alone[1])
    np.testing.assert_allclose(after, torch.cat(state).detach(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(served.window(inputs.numpy()), after, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_weights_are_read_back_from_the_graph(kind: str) -> None:
    made = network(kind)
    weights = weights_of(as_model(made))
    assert weights.keys() == made.arrays().keys()
    for name, value in made.arrays().items():
        np.testing.assert_array_equal(weights[name], value)


def test_what_training_hardly_saw_does_not_count_beyond_measure() -> None:
    made, seen = network(), torch.rand(500, INPUTS)
    seen[:, RATIOS] *= 0.01
    made.standardise(seen)
    quantiles = []
    for value in (0.5, 1.0, 1e4):
        inputs = torch.full((1, 1, INPUTS), 0.5)
        inputs[..., RATIOS] = value
        quantiles.append(made(inputs)[0].detach().numpy())
    np.testing.assert_array_equal(quantiles[0], quantiles[1])
    np.testing.assert_array_equal(quantiles[0], quantiles[2])


def test_training_that_goes_on_standardises_anew_what_varies_more() -> None:
    made, seen = network(), torch.rand(500, INPUTS)
    seen[:, RATIOS], seen[:, RATIOS + 1] = 0.01 * seen[:, RATIOS], 0.0
    made.standardise(seen)
    before = made.arrays()
    seen[:, RATIOS : RATIOS + 2] = 3.0 + torch.rand(500, 2)
    made.widen(seen)
    place = 2 * RATIOS + np.arange(INPUTS - RATIOS)  # behind the ratios and their logarithms
    np.testing.assert_allclose(made.mean[place[:2]], seen[:, RATIOS : RATIOS + 2].mean(dim=0))
    np.testing.assert_allclose(made.deviation[place[:2]], seen[:, RATIOS : RATIOS + 2].std(dim=0), rtol=1e-5)
    rest = np.delete(np.arange(len(made.mean)), place[:2])
    for name in ("mean", "deviation"):
        np.testing.assert_array_equal(made.arrays()[name][rest], before[name][rest])


def test_a_description_survives_json() -> None:
    import json

    about = replace(network().about, scores={"pinball": 0.1}, data_hash="ab")
    assert About.from_record(json.loads(json.dumps(about.as_record()))) == about
    with pytest.raises(BadInput):
        About.from_record({"kind": "lstm"})


def test_inputs_of_another_length_are_refused() -> None:
    model = as_model(network())
    with pytest.raises(BadInput, match="inputs"):
        Served(replace(model, about=replace(model.about, inputs=INPUTS - 1)))
    with pytest.raises(BadInput, match="ONNX"):
        Served(replace(model, step=b"nothing"))


def test_inputs_have_no_unit() -> None:
    demand = fleet(400)
    one, other = Recording(demand), Past(Resource.MEMORY, STEP_SECONDS)
    for row in demand:
        other.take_in(row * 2.0**40, np.full(6, LIMIT * 2.0**40), other.window.count * STEP_SECONDS)
    got = model_inputs(other, {}, 399 * STEP_SECONDS)
    expected = one.inputs[-1]
    size = RATIOS + 3
    got[:, size] = expected[:, size]  # how large the VM is
    at_work = [0, 1, 2, 4, 5]
    np.testing.assert_allclose(got[at_work], expected[at_work], rtol=1e-4, atol=1e-4)


def test_inputs_are_of_the_past_alone_and_of_all_resources() -> None:
    demand, memory = fleet(330), fleet(330, seed=1)
    whole = Recording(demand, memory).inputs
    for part in (Recording(demand[:300], memory).inputs, Recording(demand[:300], memory[:300]).inputs):
        np.testing.assert_array_equal(part[-1], whole[299])
    alone = Recording(demand).inputs
    differ = np.flatnonzero((alone[-1] != whole[-1]).any(axis=0))
    assert differ.min() >= OWN_RATIOS
    assert differ.max() < OWN_RATIOS + 6
    assert len(differ) == 6


def test_a_hidden_calendar_is_all_zeros() -> None:
    past = Past(Resource.CPU, STEP_SECONDS)
    past.take_in(np.ones(2), np.full(2, LIMIT), 0)
    assert model_inputs(past, {}, 0)[:, -CALENDAR:].any()
    assert not model_inputs(past, {}, 0, calendar=False)[:, -CALENDAR:].any()


def test_a_vm_without_a_sample_is_all_zeros() -> None:
    demand = fleet(30)
    demand[:, 2] = np.nan
    inputs = Recording(demand).inputs[-1]
    assert not inputs[2, :-CALENDAR].any()
    assert inputs[1, :OWN_RATIOS].any()


def test_outcomes_are_what_came() -> None:
    tape = Recording(np.array([1.0, 2.0, np.nan, 4.0, 9.0])[:, None]).tape
    mean, peak = tape.outcomes((MEAN1, Target(Statistic.PEAK, 2)))[:, 0].T
    expected = (np.array([2.0, np.nan, 4.0, 8.0, np.nan]) - tape.last[:, 0]) / tape.scale[:, 0]
    np.testing.assert_allclose(mean, expected, rtol=1e-6)
    after_two = (np.array([2.0, 4.0, 8.0]) - tape.last[:3, 0]) / tape.scale[:3, 0]
    np.testing.assert_allclose(peak[:3], after_two, rtol=1e-6)
    assert np.isnan(peak[3:]).all()


def test_training_learns_and_is_the_same_for_the_same_seed(tape: Tape, trained: RecurrentModel) -> None:
    untrained = as_model(network())
    before, after = losses(untrained, tape, 576).mean(), losses(trained, tape, 576).mean()
    assert after < 0.7 * before
    assert fit(tape.part(0, 576), (MEAN1, PEAK6), QUICK).step == trained.step
    assert fit(tape.part(0, 576), (MEAN1, PEAK6), replace(QUICK, seed=1)).step != trained.step
    assert trained.about.vms == 6
    assert trained.about.data_hash == tape.part(0, 576).digest() != tape.digest()


def test_it_uses_what_other_resources_do() -> None:
    """Demand that follows the other resource one step later can be known; without it, it cannot."""
    generator = np.random.default_rng(5)
    memory = generator.gamma(1.0, 1.0, (500, 8))
    demand = np.vstack([memory[:1], memory[:-1]])
    blind, seeing = Recording(demand).tape, Recording(demand, memory).tape
    worse = losses(fit(blind.part(0, 400), (MEAN1,), QUICK), blind, 400)[0, LEVELS.index(0.5)]
    best = losses(fit(seeing.part(0, 400), (MEAN1,), QUICK), seeing, 400)[0, LEVELS.index(0.5)]
    assert best < 0.8 * worse


def _trainer(settings: FitSettings = QUICK) -> Trainer:
    def train(tape: Tape, targets: tuple[Target, ...], seed: int, start: RecurrentModel | None) -> RecurrentModel:
        return fit(tape, targets, replace(settings, seed=seed), start)

    return train


@pytest.fixture(scope="module")
def noisy() -> RecurrentModel:
    """A small model of independent noise."""
    demand = np.random.default_rng(3).gamma(2.0, 0.5, (400, 6))
    return fit(Recording(demand, limit=1e9).tape, TARGETS, QUICK)


class TestRecurrent(ForecasterContract):
    coverage_tolerance = 0.12
    turn_tolerance = 0.5
    quiet_steps = 1

    @pytest.fixture
    def make(self, noisy: RecurrentModel) -> Make:
        return lambda past: Recurrent(past, {}, TARGETS, LEVELS, RecurrentSettings({Resource.CPU: noisy}))


def _drive(
    settings: RecurrentSettings, demand: FloatArray, without: frozenset[str] = frozenset()
) -> tuple[Recurrent, list[FloatArray], list[int]]:
    past, made, taken = Past(Resource.CPU, STEP_SECONDS), [], []
    recurrent = Recurrent(past, {}, (MEAN1, PEAK6), LEVELS, settings, without)
    for i, row in enumerate(demand):
        past.take_in(row, np.full(len(row), LIMIT), i * STEP_SECONDS)
        recurrent.observe(past.window, i * STEP_SECONDS)
        if recurrent.train_when_due(past.window):
            taken.append(i + 1)
        made.append(recurrent.forecast(past.window, i * STEP_SECONDS))
    return recurrent, made, taken


def test_it_is_trained_when_due_and_speaks_at_the_next_step() -> None:
    settings = RecurrentSettings(trainer=_trainer(), first_training_seconds=86_400)
    _, made, taken = _drive(settings, fleet(300))
    assert taken == [288]
    assert np.isnan(made[286]).all()
    assert np.isfinite(made[287]).all()


def test_a_model_that_comes_later_finds_its_state(trained: RecurrentModel) -> None:
    demand, unfitted = fleet(REMEMBERED_STEPS), frozenset({"adapter"})
    always, _, _ = _drive(RecurrentSettings({Resource.CPU: trained}), demand, unfitted)
    late, _, _ = _drive(RecurrentSettings(), demand, unfitted)
    late.take_up(trained)
    window = late._past.window
    np.testing.assert_allclose(late.forecast(window, 0), always.forecast(window, 0), rtol=1e-4, atol=1e-5)


def test_a_model_of_other_levels_is_refused_and_the_old_one_serves_on(trained: RecurrentModel) -> None:
    recurrent, made, _ = _drive(RecurrentSettings({Resource.CPU: trained}), fleet(20))
    with pytest.raises(BadInput, match="levels"):
        recurrent.take_up(replace(trained, about=replace(trained.about, levels=(0.5,))))
    np.testing.assert_array_equal(recurrent.forecast(recurrent._past.window, 0), made[-1])


def test_only_the_better_takes_over(tape: Tape, trained: RecurrentModel) -> None:
    untrained = as_model(network())
    won = judge(trained, untrained, tape, 576)
    assert won.accepted
    assert won.scores["candidate"] < won.scores["current"]
    assert not judge(untrained, trained, tape, 576).accepted
    assert not judge(trained, trained, tape, 576).accepted
    assert judge(trained, None, tape, 576).accepted
    assert "last value" in judge(untrained, None, tape, 576).reason
    # Worse than the last value, both of them, and still the better one takes over: the other would stay otherwise.
    poor = fit(tape.part(0, 144), (MEAN1, PEAK6), replace(QUICK, passes=1))
    assert "last value" in judge(poor, None, tape, 576).reason
    assert judge(poor, untrained, tape, 576).accepted


def test_a_model_with_more_targets_must_win_on_the_others_too(tape: Tape, trained: RecurrentModel) -> None:
    weights, hidden = weights_of(trained), trained.about.hidden
    for name in ("mixer.weight", "mixer.bias", "head", "base"):
        size = hidden if name.startswith("mixer") else 1
        weights[name] = np.concatenate([weights[name], weights[name][-size:]])
    more = Network(replace(trained.about, targets=(MEAN1, PEAK6, Target(Statistic.PEAK, 4))))
    more.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    verdict = judge(as_model(more), trained, tape, 576)
    assert not verdict.accepted
    assert "no better than the model in use" in verdict.reason


def test_a_model_that_diverged_is_refused(tape: Tape, trained: RecurrentModel) -> None:
    spoilt = network()
    with torch.no_grad():
        spoilt.head.fill_(float("nan"))
    for current in (None, trained):
        verdict = judge(as_model(spoilt), current, tape, 576)
        assert not verdict.accepted
        assert "not numbers" in verdict.reason


@pytest.mark.parametrize("poison", ["constant", "one VM", "nothing"])
def test_a_past_that_teaches_nothing_is_refused_and_the_old_model_serves_on(
    poison: str, trained: RecurrentModel
) -> None:
    demand = fleet(200)
    if poison == "constant":
        demand[:] = 0.7
    elif poison == "one VM":
        demand[:, 1:] = np.nan
    else:
        demand[:] = np.nan
    tape = Recording(demand).tape
    assert unfit(tape)
    assert not judge(trained, None, tape, 150).accepted
    settings = RecurrentSettings({Resource.CPU: trained}, _trainer(), first_training_seconds=6 * 3600)
    recurrent, made, taken = _drive(settings, demand)
    assert taken == []
    assert recurrent.model is trained
    assert np.isfinite(made[-1][:, 0]).all() == (poison != "nothing")


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_training_goes_on_from_a_model(kind: str, tape: Tape) -> None:
    settings = replace(QUICK, kind=kind)
    first = fit(tape.part(0, 288), (MEAN1,), settings)
    second = fit(tape.part(0, 576), (MEAN1,), settings, first)
    assert losses(second, tape, 576).mean() < losses(first, tape, 576).mean()


@pytest.mark.parametrize("loses", [True, False])
def test_a_model_that_loses_after_it_took_over_makes_way_again(loses: bool, trained: RecurrentModel) -> None:
    past = Past(Resource.CPU, STEP_SECONDS)
    poor, good = as_model(network()), trained
    first, second = (good, poor) if loses else (poor, good)
    settings = RecurrentSettings({Resource.CPU: first}, probation_seconds=60 * STEP_SECONDS)
    recurrent = Recurrent(past, {}, (MEAN1, PEAK6), LEVELS, settings)
    in_use = []
    for i, row in enumerate(fleet(200)):
        past.take_in(row, np.full(len(row), LIMIT), i * STEP_SECONDS)
        recurrent.observe(past.window, i * STEP_SECONDS)
        if i == 100:
            recurrent.take_up(second)
        in_use.append(recurrent.model)
    assert in_use[99] is first
    assert in_use[100:160] == [second] * 60
    assert in_use[160:] == [good] * 40


def test_a_trace_is_seen_as_it_is_seen_when_it_happens() -> None:
    demand, memory = fleet(120), fleet(120, seed=1)
    demand[0] = memory[0] = 1.0
    names = tuple("abcdef")
    limit = {Resource.CPU: np.full(demand.shape, LIMIT), Resource.MEMORY: np.full(demand.shape, np.inf)}
    trace = Trace(Grid(0, STEP_SECONDS, 120), names, {Resource.CPU: demand, Resource.MEMORY: GIB * memory}, limit)
    seen, happened = tape_of(trace, Resource.CPU), Recording(demand, memory).tape
    for name in ("inputs", "actual", "last", "scale"):
        np.testing.assert_array_equal(getattr(seen, name), getattr(happened, name))


def test_tapes_end_together() -> None:
    long, short = Recording(fleet(60)).tape, Recording(fleet(40, seed=2)).tape
    both = joined([long, short])
    assert both.inputs.shape == (60, 12, INPUTS)
    np.testing.assert_array_equal(both.actual[:, :6], long.actual)
    np.testing.assert_array_equal(both.actual[20:, 6:], short.actual)
    assert np.isnan(both.last[:20, 6:]).all()


def test_how_many_people_use_a_vm_is_an_input_where_it_is_told() -> None:
    demand = fleet(40)
    trace = Trace(
        Grid(0, STEP_SECONDS, 40), tuple("abcdef"), {Resource.CPU: demand}, {Resource.CPU: np.full(demand.shape, LIMIT)}
    )
    users = np.full(demand.shape, np.nan)
    users[:, 2] = np.arange(40)
    without, told = tape_of(trace, Resource.CPU), tape_of(replace(trace, active_users=users), Resource.CPU)
    differ = (without.inputs != told.inputs).any(axis=(0, 2))
    assert differ.tolist() == [False, False, True, False, False, False]
