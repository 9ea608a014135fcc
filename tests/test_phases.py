"""Methods with stages: begun once, resumed exactly, with fresh networks, optimisers, schedules and new labels."""

import pytest
import torch

from benchmark.conformance.checks import CHECKS
from benchmark.conformance.testbed import advance, differences, frozen
from benchmark.errors import Interrupted, UserError
from benchmark.losses import IGNORE, cross_entropy, pseudo_label
from benchmark.method import Phase
from benchmark.registry import METHODS
from benchmark.training.setup import check_phases, phase_spans
from benchmark.training.trainer import train
from methods.supervised import Supervised
from tests.factories import Nowhere, method_testbed

STEPS = 8


class SelfTraining(Supervised):
    """Trains on labels, labels the other images, and trains a fresh network on both: ST++ in short."""

    views = {"labelled": ("weak",), "unlabelled": ("weak",)}
    phases = {"labels": Phase(0.0), "both": Phase(0.5, fresh_optimiser=True, fresh_schedule=True)}

    def __init__(self, task):
        super().__init__(task)
        self.register_buffer("pseudo_mask", torch.full((task.images, task.size, task.size), IGNORE, dtype=torch.uint8))

    def begin_phase(self, name, images):
        if name == "labels":
            return
        self.net.eval()
        with torch.no_grad():
            for batch in images["unlabelled"]:
                self.pseudo_mask[batch.index] = pseudo_label(self.net(batch.weak)).to(torch.uint8)
        self.net.train()
        self.net.load_state_dict(self.task.network().state_dict())

    def losses(self, labelled, unlabelled, clock):
        terms = super().losses(labelled, unlabelled, clock)
        if self.phase == "both":
            label = unlabelled.apply(self.pseudo_mask[unlabelled.index]).long()
            weight = clock.in_phase.ramp("linear")
            terms["pseudo"] = weight * cross_entropy(self.net(unlabelled.weak), label)
        return terms


class Store(Nowhere):
    """A run's checkpoints, in memory."""

    state = None

    def load_checkpoint(self):
        return self.state

    def save_checkpoint(self, state):
        self.state = state

    def log(self, lines):
        self.steps = lines[-1]["step"]


@pytest.fixture
def tried(monkeypatch):
    monkeypatch.setattr(METHODS, "load", lambda name: SelfTraining)
    return method_testbed("supervised", train__steps=STEPS, evaluate__times=STEPS, augment__crop=0.5)


@pytest.mark.parametrize("stop", [pytest.param(2, marks=pytest.mark.slow), 4, pytest.param(5, marks=pytest.mark.slow)])
def test_a_run_stopped_before_at_or_after_the_change_ends_as_an_undisturbed_one(tried, stop):
    whole, store = tried.build(), Store()
    train(whole, Store())
    stopped = tried.build()
    with pytest.raises(Interrupted, match=f"after step {stop} of"):
        train(stopped, store, asked_to_stop=lambda: getattr(store, "steps", 0) >= stop)
    rest = tried.build()
    train(rest, store)
    assert not differences(whole.method.state_dict(), rest.method.state_dict())


def test_a_phase_begins_once_with_a_fresh_network_of_its_own_seed(tried):
    training = tried.build()
    first = frozen(training.method.net.state_dict())
    advance(training, 0, 4)
    before = frozen(training.method.net.state_dict())
    training.enter_step(4)
    fresh = frozen(training.method.net.state_dict())
    weights = [name for name in fresh if name.endswith("weight") and fresh[name].dim() > 1]
    assert all(not torch.equal(fresh[name], other[name]) for name in weights for other in (first, before))
    training.enter_step(5)  # in the middle of the phase: nothing begins
    assert not differences(fresh, training.method.net.state_dict())


def test_a_fresh_optimiser_has_no_moments_and_a_fresh_schedule_warms_up_anew(tried):
    training = tried.build()
    rates = [training.optimisers.rates_at(step)[0] for step in range(STEPS)]
    assert rates[:4] == rates[4:] and rates[3] < rates[0]
    advance(training, 0, 4)
    assert training.optimisers.optimisers[0].state
    training.enter_step(4)
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
    training.locate(6)
    training.clock.step.fill_(6)
    assert training.clock.fraction == 0.75 and training.clock.in_phase.fraction == 0.5
    assert training.clock.in_phase.ema(1.0) == pytest.approx(2 / 3) and training.clock.in_phase.ramp("linear") == 0.75


def test_every_phase_keeps_the_contract(tried):
    for check in ("resumes_exactly", "state_is_updated_in_place", "step_can_be_captured", "no_hidden_state",
                  "hidden_masks_and_test_images_are_unused", "train_eval_mode_is_restored"):
        CHECKS[check](tried)


def test_phases_that_a_short_run_cannot_tell_apart_begin_in_order(tried, monkeypatch):
    begun = []
    training = tried.build()
    monkeypatch.setattr(SelfTraining, "phases", {"a": Phase(0), "b": Phase(0.01), "c": Phase(0.02)})
    training.method.begin_phase = lambda name, images: begun.append(name)
    training.enter_step(0)
    training.enter_step(1)
    assert begun == ["a", "b", "c"] and training.method.phase == "c"
    assert phase_spans(training.method.phases, STEPS) == {"a": range(0, 1), "b": range(1, 1), "c": range(1, 8)}


@pytest.mark.parametrize("starts", [(), (0.1,), (0, 0.5, 0.2), (0, 1.0)])
def test_phases_that_do_not_cover_training_are_refused(starts):
    with pytest.raises(UserError, match="must start at 0 and rise, below 1"):
        check_phases({str(start): Phase(start) for start in starts}, "own")
