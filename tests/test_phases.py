"""Methods with stages: begun once, resumed exactly, with fresh networks, optimisers, schedules and new labels."""

import pytest
import torch

from benchmark.conformance.testbed import advance, differences
from benchmark.errors import Interrupted, UserError
from benchmark.method import Phase
from benchmark.profiling.profile import Nowhere
from benchmark.training.setup import check_phases, phase_spans
from benchmark.training.step import flop_counter
from benchmark.training.trainer import train
from tests.factories import method_testbed

STEPS = 9  # of ST++'s stages three each; the first has three phases


class Store(Nowhere):
    """A run's checkpoints, in memory."""

    state = None

    def load_checkpoint(self):
        return self.state

    def save_checkpoint(self, state):
        self.state = state

    def log(self, lines):
        self.steps = lines[-1]["step"]


class Lines(Nowhere):
    """What a run logs."""

    def __init__(self):
        self.lines = []

    def log(self, lines):
        self.lines += lines


@pytest.fixture
def tried():
    return method_testbed("st_plus_plus", train__steps=STEPS, evaluate__times=STEPS, augment__crop=0.5)


@pytest.mark.parametrize("stop", [pytest.param(2, marks=pytest.mark.slow), 3, pytest.param(5, marks=pytest.mark.slow)])
def test_a_run_stopped_before_at_or_after_the_change_ends_as_an_undisturbed_one(tried, stop):
    whole, store = tried.build(), Store()
    done = train(whole, Store())
    stopped = tried.build()
    with pytest.raises(Interrupted, match=f"after step {stop} of"):
        train(stopped, store, asked_to_stop=lambda: getattr(store, "steps", 0) >= stop)
    rest = tried.build()
    assert train(rest, store).cost["flops_per_step"] == done.cost["flops_per_step"]
    assert not differences(whole.method.state_dict(), rest.method.state_dict())


def test_the_operations_of_a_step_are_the_mean_over_all_phases_and_what_comes_before_them(tried):
    with flop_counter() as every:
        advance(tried.build(), 0, STEPS)
    assert train(tried.build(), Store()).cost["flops_per_step"] == round(every.get_total_flops() / STEPS)


def test_the_history_averages_a_value_over_the_steps_that_logged_it():
    training = method_testbed("weak_teacher_student", train__steps=5, evaluate__times=1).build()
    (entry,) = train(training, store := Lines()).history
    for name in ("threshold", "supervised"):
        logged = [line[name] for line in store.lines if name in line]
        assert entry[name] == pytest.approx(sum(logged) / len(logged))
    assert len([line for line in store.lines if "threshold" in line]) < 5


def test_a_fresh_optimiser_has_no_moments_and_a_fresh_schedule_warms_up_anew(tried):
    training = tried.build()
    rates = [training.optimisers.rates_at(step)[0] for step in range(STEPS)]
    assert rates[:3] == rates[3:6] == rates[6:] and rates[2] < rates[0]
    advance(training, 0, 3)
    assert training.optimisers.optimisers[0].state
    training.enter_step(3)
    assert not training.optimisers.optimisers[0].state


def test_relabelling_sees_every_unlabelled_image_once_as_it_is_stored_and_no_mask(tried):
    training, seen = tried.build(), {}

    def look(name, images):
        for batch in images["unlabelled"]:
            assert not hasattr(batch, "mask")
            seen.update(zip(batch.index.tolist(), batch.weak, strict=True))

    training.method.begin_phase = look
    training.enter_step(0)
    rows = training.prepared.rows_of(training.split.unlabelled)
    assert sorted(seen) == sorted(rows)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (training.method.task.mean, training.method.task.std))
    for row in rows:
        image = torch.from_numpy(training.prepared.images[row].copy()).permute(2, 0, 1).float() / 255
        assert torch.allclose(seen[row], (image - mean) / std, atol=1e-5)


def test_the_clock_of_a_phase_runs_from_its_first_step_to_its_last(tried):
    training = tried.build()
    training.locate(4)
    training.clock.step.fill_(4)
    phase = training.clock.in_phase
    assert [x.item() for x in (training.clock.fraction, phase.fraction, phase.ema(1.0), phase.ramp("linear"))] == (
        pytest.approx([4 / 9, 1 / 3, 1 / 2, 2 / 3]))


def test_phases_that_a_short_run_cannot_tell_apart_begin_in_order(tried, monkeypatch):
    begun = []
    training = tried.build()
    monkeypatch.setattr(training.method, "phases", {"a": Phase(0), "b": Phase(0.01), "c": Phase(0.02)})
    training.method.begin_phase = lambda name, images: begun.append(name)
    training.enter_step(0)
    training.enter_step(1)
    assert begun == ["a", "b", "c"] and training.method.phase == "c"
    assert phase_spans(training.method.phases, STEPS) == {"a": range(0, 1), "b": range(1, 1), "c": range(1, STEPS)}


@pytest.mark.parametrize("starts", [(), (0.1,), (0, 0.5, 0.2), (0, 1.0)])
def test_phases_that_do_not_cover_training_are_refused(starts):
    with pytest.raises(UserError, match="must start at 0 and rise, below 1"):
        check_phases({str(start): Phase(start) for start in starts}, "own")
